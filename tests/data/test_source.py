"""The door for pairs: every format gives the same pairs, and what is none of them is said."""

import json

import formats
import numpy as np
import pytest
from conftest import ROOT, SHARED
from formats import CAPTIONS, FORMATS, NAMES, N, picture, pictures, table, write

from attention_collapse.cli import main
from attention_collapse.data.convert import convert_pairs
from attention_collapse.data.images import load_rgb
from attention_collapse.data.pairs import manifest, read_study, write_study
from attention_collapse.data.source import read_pairs, recognise
from attention_collapse.errors import DataError, DownloadError, ParamsError
from attention_collapse.files import write_json


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTENTION_COLLAPSE_CACHE", str(tmp_path / "cache"))


def found(pairs):
    """Number of the picture -> its captions, told by the pixels alone."""
    numbers = {picture(number).tobytes(): number for number in range(N)}
    return {numbers[load_rgb(pair.path)[0].tobytes()]: pair.entry.captions for pair in pairs}


@pytest.mark.parametrize("build", FORMATS, ids=lambda build: build.__name__)
def test_every_format_gives_the_same_pairs_and_says_its_name(build, tmp_path):
    source, options, name = build(tmp_path / "in")
    read = read_pairs(source, **options, strict=True)
    expected = [tuple(text.replace('"', "”") for text in t) if "'|'" in name else t for t in CAPTIONS]
    assert found(read.pairs) == dict(enumerate(expected))
    assert read.format.startswith(name) and read.skipped == [] and read.n_listed == N
    ids = [pair.entry.image_id for pair in read.pairs]
    assert ids == sorted(set(ids)) and all(0 <= i < 2**53 for i in ids)
    assert read_pairs(source, **options, n=2, seed=3).pairs == [
        pair for pair in read.pairs if pair.entry.image_id in np.array(ids)[np.random.default_rng(3).permutation(N)[:2]]
    ]


@pytest.mark.parametrize("build", FORMATS, ids=lambda build: build.__name__)
def test_a_converted_source_is_read_as_the_source_itself_and_pinned(build, tmp_path):
    source, options, _ = build(tmp_path / "in")
    read = convert_pairs(source, tmp_path / "out", **options)
    again = read_pairs(tmp_path / "out", strict=True)
    assert again.format == "COCO layout" and [p.entry for p in again.pairs] == [p.entry for p in read.pairs]
    assert [p.sha256 for p in again.pairs] == [p.sha256 for p in read.pairs]
    assert not list(tmp_path.glob(".out*"))
    annotations = write_study(tmp_path / "study", "pairs", read.pairs)
    write_json(tmp_path / "manifest.json", manifest("s", "folder", annotations, read.pairs, read.skipped))
    assert len(read_study(tmp_path / "study", tmp_path / "manifest.json")) == N


def test_the_page_names_every_format_and_every_option(tmp_path):
    page = (ROOT / "docs" / "data.md").read_text("utf-8")
    for build in FORMATS:
        source, options, _ = build(tmp_path / build.__name__)
        name = recognise(source, **options).format.split(" with ")[0].split(" (")[0]
        assert name in page, name
        assert all(f"--{option}" in page for option in options)


def test_ids_are_the_sources_own_or_follow_from_the_name_and_nothing_else(tmp_path):
    source, _, _ = formats.csv_table(tmp_path)
    whole = {p.entry.file_name: p.entry.image_id for p in read_pairs(source).pairs}
    write(source, table(rows=formats.ROWS[:1:-1]))
    part = {p.entry.file_name: p.entry.image_id for p in read_pairs(source).pairs}
    assert part.keys() == set(NAMES[1:]) and part.items() <= whole.items()
    rows = [(f"{7 - i:012d}", name, texts[0]) for i, (name, texts) in enumerate(zip(NAMES, CAPTIONS, strict=True))]
    write(source, table(header=("image_id", "image", "caption"), rows=rows))
    assert [p.entry.image_id for p in read_pairs(source).pairs] == [3, 4, 5, 6, 7]
    write(source, table(header=("image_id", "image", "caption"), rows=[*rows, ("7", NAMES[3], "x")]))
    with pytest.raises(DataError, match="image id 7 is that of"):
        read_pairs(source)
    write(source, table(header=("image_id", "image", "caption"), rows=[("x7", *rows[0][1:])]))
    assert any("'image_id' holds \"x7\", no whole number" in note for note in read_pairs(source).notes)


def test_a_hash_that_collides_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("attention_collapse.data.formats.listing.id_of_name", lambda name: 1)
    with pytest.raises(DataError, match="image id 1 is that of"):
        read_pairs(formats.csv_table(tmp_path)[0])


@pytest.mark.parametrize(
    ("build", "splits"),
    [
        (formats.coco_download, "train2017, val2017"),
        (formats.karpathy, r"test \(5\), train \(1\)"),
        (formats.imagefolder, "test, train"),
        (formats.datasets_dict, r"test \(10\), train \(10\)"),
    ],
)
def test_of_several_splits_none_is_guessed(build, splits, tmp_path):
    source, options, _ = build(tmp_path)
    for wrong in ({}, {"split": "val"}):
        with pytest.raises(DataError, match=splits) as error:
            read_pairs(source, **wrong)
        assert "--split" in error.value.remedy
    assert read_pairs(source, **options).split == options["split"]


def test_a_split_that_a_source_does_not_have_is_an_error(tmp_path):
    for build in (formats.csv_table, formats.flickr_token, formats.shards, formats.datasets_object):
        with pytest.raises(DataError, match="no split 'val'"):
            read_pairs(build(tmp_path / build.__name__)[0], split="val")


@pytest.mark.parametrize(
    ("name", "content", "got"),
    [
        ("a.csv", "name,words\na.png,x\n", r"no column is known to be the image.*'name', 'words'"),
        ("a.csv", "image,a,b\na.png,x,y\n", r"known to be the caption.*'image', 'a', 'b'"),
        ("a.csv", "image,title,text\na.png,x,y\n", "several columns could be the caption: title, text"),
        ("a.csv", "image,caption,caption\na.png,x,y\n", "several columns could be the caption: caption, caption"),
        ("a.csv", "image,caption\n", "0 usable images"),
        ("a.csv", "\n\n", "holds no row"),
        ("a.csv", "", "is empty"),
        ("a.csv", 'image,caption\na.png,"x\n', "not CSV"),
        ("a.json", '{"a": 1, "b": {"c": 2}}', "an object with the keys 'a', 'b'"),
        ("a.json", '[{"photo": "a.png", "words": "x"}]', r"known to be the image.*'photo', 'words'"),
        ("a.json", "[]", "an empty list"),
        ("a.json", "[1, 2]", "a list of 2, the first a number"),
        ("a.json", '{"image": "a', "not JSON"),
        ("a.json", "[" * 100_000, "not JSON"),
        ("a.json", "1" * 5000, r"no column|not JSON"),
        ("a.jsonl", '{"image": "a.png", "caption": "x"}\n{"image": ', "line 2: not JSON"),
        ("a.json", '{"questions": [{"question": "what?"}]}', "VQA questions"),
        ("a.json", '{"annotations": [{"question_id": 1, "answers": [], "image_id": 2}]}', "VQA annotations"),
        ("a.json", '{"07": {"question": "what?", "imageId": "1", "answer": "x"}}', "GQA questions"),
        ("a.json", '{"images": [{"id": 1}], "annotations": [{"bbox": [0]}]}', "hold no captions"),
        ("a.txt", "only words\n", "its columns are 'only words'"),
        ("a.xlsx", b"PK\x03\x04rest", "is a zip archive"),
        ("a.pkl", b"\x80\x04rest", "is a pickle"),
        ("a.csv", b"\x89PNG\r\n", "is a PNG image"),
        ("a.parquet", b"PAR1 and no more", "cannot be read"),
        ("a.csv.gz", b"\x1f\x8b\x08\x00\x00", "cannot be read"),
    ],
)
def test_what_is_not_recognised_is_said_with_what_it_holds(name, content, got, tmp_path):
    with pytest.raises(DataError, match=got) as error:
        read_pairs(write(tmp_path / name, content))
    assert error.value.expected and error.value.remedy and str(tmp_path / name) in error.value.got


def test_a_folder_that_holds_nothing_known_says_what_it_holds(tmp_path):
    (tmp_path / "cats").mkdir()
    with pytest.raises(DataError, match="it holds cats/"):
        read_pairs(tmp_path)
    pictures(tmp_path)
    with pytest.raises(DataError, match="images without captions"):
        read_pairs(tmp_path)
    write(tmp_path / "a.csv", table())
    assert len(read_pairs(tmp_path).pairs) == N
    write(tmp_path / "b.csv", table())
    with pytest.raises(DataError, match=r"several files could hold the captions: a\.csv, b\.csv"):
        read_pairs(tmp_path)


def test_no_path_and_no_connection_are_one_message_each(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for wrong in (None, 3, "", b"x", ["a.csv"]):
        with pytest.raises(ParamsError, match="pairs is"):
            read_pairs(wrong)
    for wrong in (
        {"columns": "caption"},
        {"columns": 3},
        {"columns": "imag=x"},
        {"split": 3},
        {"images": 5},
        {"n": 0},
        {"n": True},
        {"n": "2"},
        {"seed": -1},
        {"seed": 0.5},
        {"foils": 3},
        {"foils": [None]},
        {"foils": ""},
    ):
        with pytest.raises(ParamsError, match=next(iter(wrong))):
            read_pairs(formats.csv_table(tmp_path)[0], **wrong)
    with pytest.raises(DataError, match="no such folder"):
        read_pairs(tmp_path / "nowhere.csv")
    for address in ("https://host/data.tar", "s3://bucket/{0..3}.tar"):
        with pytest.raises(DataError, match="an address|no such file"):
            read_pairs(address)
    with pytest.raises(DataError, match="images: no such folder|nowhere: no such folder"):
        read_pairs(formats.csv_table(tmp_path)[0], images=tmp_path / "nowhere")


def test_a_hub_id_is_read_at_its_revision(tmp_path, monkeypatch):
    import datasets

    asked = []

    def load_dataset(repo, revision):
        asked.append((repo, revision))
        return datasets.DatasetDict(train=formats.dataset(tmp_path, embedded=True))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    read = read_pairs("some-one/photographs@0123abc")
    assert asked == [("some-one/photographs", "0123abc")] and found(read.pairs) == dict(enumerate(CAPTIONS))
    assert (read.where, read.split) == ("some-one/photographs@0123abc", "train") and "revision 0123abc" in read.notes

    def fails(repo, revision):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", fails)
    with pytest.raises(DownloadError, match="no data set of that name could be read from the hub"):
        read_pairs("some-one/photographs@0123abc")


def test_images_of_one_name_with_other_bytes_are_told_apart(tmp_path):
    from datasets import Dataset, Features, Image, Value

    rows = [{"image": {"bytes": (pictures(tmp_path) / name).read_bytes(), "path": "image.png"}, "text": text}
            for name, text in formats.ROWS]  # fmt: skip
    data = Dataset.from_list(rows, Features({"image": Image(), "text": Value("string")}))
    assert found(read_pairs(data).pairs) == dict(enumerate(CAPTIONS))
    with pytest.raises(DataError, match="IterableDataset"):
        read_pairs(data.to_iterable_dataset())


def sugarcrepe(names=NAMES):
    return {
        str(i): {"filename": name, "caption": CAPTIONS[i][0], "negative_caption": f"foil {i}"}
        for i, name in enumerate(names)
    }


def test_hard_foils_stand_beside_any_source_or_alone(tmp_path):
    source, _, _ = formats.csv_table(tmp_path / "in")
    data = sugarcrepe()
    del data["2"]
    foils = write(tmp_path / "foils" / "swap_att.json", json.dumps(data))
    for given in (foils, foils.parent, [str(foils)]):
        read = read_pairs(source, foils=given)
        assert {p.entry.file_name for p in read.pairs} == {name for i, name in enumerate(NAMES) if i != 2}
        assert {p.entry.foils[0][0].caption for p in read.pairs} == {"foil 0", "foil 1", "foil 3", "foil 4"}
    alone = read_pairs(foils, images=tmp_path / "in")
    assert [[f.caption for f in p.entry.foils[0]] for p in alone.pairs] == [
        [f"foil {NAMES.index(p.entry.file_name)}"] for p in alone.pairs
    ]
    with pytest.raises(DataError, match="in this folder"):
        read_pairs(source, foils=tmp_path / "in")


def test_the_command_line_shows_converts_and_diagnoses_any_of_them(tmp_path, tiny_openclip, capsys):
    source, _, _ = formats.coco_download(tmp_path / "in")
    assert main(["pairs", "show", str(source)]) == 1
    assert "choose with --split: train2017, val2017" in capsys.readouterr().err
    assert main(["pairs", "show", str(source), "--split", "val2017"]) == 0
    printed = capsys.readouterr().out
    assert "COCO layout, split val2017" in printed and "5 images, 10 captions" in printed and CAPTIONS[0][0] in printed
    convert = ["pairs", "convert", str(source), str(tmp_path / "out"), "--split", "val2017"]
    assert main(convert) == 0 and "5 images, 10 captions written to" in capsys.readouterr().out
    tar = formats.folder_of_shards(tmp_path / "tar")[0]
    results = []
    for pairs in ([str(source), "--split", "val2017"], [str(tmp_path / "out")], [str(tar)]):
        out = tmp_path / "result.json"
        assert (
            main(
                ["diagnose", "--model", str(tiny_openclip), "--pairs", *pairs, "--max-unknown", "1", "--out", str(out)]
            )
            == 0
        )
        results.append(json.loads(out.read_text()))
    assert results[0]["estimates"] == results[1]["estimates"]
    assert results[2]["estimates"]["mcs"]["mean"] == pytest.approx(results[0]["estimates"]["mcs"]["mean"], rel=1e-4)
    assert results[2]["settings"]["source"]["format"] == "webdataset" and "pairs: webdataset" in capsys.readouterr().out


def test_a_conversion_replaces_nothing_but_its_own_kind(tmp_path):
    source, _, _ = formats.csv_table(tmp_path / "in")
    out = tmp_path / "out"
    convert_pairs(source, out)
    for target in (out, tmp_path / "in", tmp_path, source):
        with pytest.raises(ParamsError, match="is there already|the source"):
            convert_pairs(source, target)
    convert_pairs(source, out, overwrite=True, n=2)
    assert len(read_pairs(out).pairs) == 2
    (out / "thesis.tex").touch()
    with pytest.raises(ParamsError, match="something other than COCO's layout"):
        convert_pairs(source, out, overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").touch()
    with pytest.raises(ParamsError, match="something other"):
        convert_pairs(source, tmp_path / "mine", overwrite=True)
    with pytest.raises(ParamsError, match="the source"):
        convert_pairs(out, out, overwrite=True)


def test_a_conversion_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    source, _, _ = formats.csv_table(tmp_path / "in")
    copies = []

    def full(source, target):
        copies.append(target)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("attention_collapse.data.pairs.shutil.copyfile", full)
    with pytest.raises(DataError, match="No space left"):
        convert_pairs(source, tmp_path / "out")
    assert copies and not list(tmp_path.glob("*out*")) and not list(tmp_path.glob(".out*"))


def test_more_than_ten_skipped_items_say_how_many_more(tmp_path, capsys):
    rows = [*formats.ROWS, *((f"absent {i}.png", f"x {i}") for i in range(20))]
    pictures(tmp_path / "in")
    source = write(tmp_path / "in" / "pairs.csv", table(rows=rows))
    assert main(["pairs", "convert", str(source), str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "skipped: 20 images" in printed and printed.count("file is absent") == 10 and "… and 10 more" in printed


def test_real_photographs_are_the_same_in_every_layout(coco_sample, tmp_path):
    read = read_pairs(coco_sample, n=6, seed=1)
    rows = [(p.entry.file_name, text) for p in read.pairs for text in p.entry.captions]
    source = write(tmp_path / "real.csv", table(rows=rows))
    again = read_pairs(source, images=coco_sample / "train2017", strict=True)
    assert {(p.sha256, p.entry.captions) for p in again.pairs} == {(p.sha256, p.entry.captions) for p in read.pairs}


def test_the_files_that_sugarcrepe_and_coco_published_are_recognised():
    captions = SHARED / "coco-captions" / "captions_val2017.json"
    foils = SHARED / "sugarcrepe" / "add_att.json"
    if not captions.is_file() or not foils.is_file():
        pytest.skip("COCO's captions and SugarCrepe (../shared/data) are not on this machine")
    listing = recognise(captions)
    assert (listing.format, len(listing.entries), listing.split) == ("COCO captions", 5000, "val2017")
    listing = recognise(foils)
    assert listing.format.startswith("hard foils") and sum(len(f) for e in listing.entries for f in e.foils) == 692
