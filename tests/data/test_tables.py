"""Tables as people have them: encodings, quotes, ragged rows, and names of images that lead elsewhere."""

import json

import pytest
from formats import NAMES, ROWS, N, picture, pictures, table, write

from attention_collapse.data.source import read_pairs, recognise
from attention_collapse.errors import DataError


def listing(path, content=None, encoding="utf-8", **options):
    """What is read of a table, without opening an image: name -> captions, and the skipped items."""
    found = recognise(path if content is None else write(path, content, encoding), **options)
    return {e.file_name: list(e.captions) for e in found.entries}, [(s.kind, s.id, s.reason) for s in found.skipped]


TEXTS = {name: [text for n, text in ROWS if n == name] for name in NAMES}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_encodings_line_ends_and_delimiters_change_nothing(encoding, end, delimiter, tmp_path):
    assert listing(tmp_path / "a.csv", table(delimiter, end=end), encoding) == (TEXTS, [])


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16-le", "utf-16-be", "shift_jis"])
def test_another_encoding_is_refused_with_the_line_and_never_guessed(encoding, tmp_path):
    text = (
        "image,caption\n"
        + "a.png,plain words\n" * 3
        + "b.png,un café\n".replace("é", "語" if "jis" in encoding else "é")
    )
    with pytest.raises(DataError, match="zero bytes" if "utf" in encoding else "line 5: byte 0x") as error:
        listing(tmp_path / "a.csv", text, encoding)
    assert "UTF-8" in error.value.expected + error.value.remedy


def test_the_wrong_byte_is_found_far_down_in_json_lines_and_tables(tmp_path):
    lines = "".join(json.dumps({"image": f"{i}.png", "text": "words " * 9}) + "\n" for i in range(3000)).encode()
    write(tmp_path / "a.jsonl", lines + b'{"image": "x.png", "text": "caf\xe9"}\n')
    with pytest.raises(DataError, match="line 3001: byte 0xe9"):
        recognise(tmp_path / "a.jsonl")


def test_a_line_end_within_quotes_belongs_to_its_caption_and_lines_are_counted_as_an_editor_does(tmp_path):
    text = 'image,caption\na.png,"two\nlines"\n\nb.png,\nc.png,x,y\nd.png\n,z\ne.png,"he said ""hi"", twice"\n'
    found, skipped = listing(tmp_path / "a.csv", text)
    assert found == {"a.png": ["two\nlines"], "e.png": ['he said "hi", twice']}
    assert skipped[0][:2] == ("row", "line 6") and skipped[0][2].startswith("3 columns, and 2 in the first line (a ','")
    assert ("row", "line 7", "1 columns, and 2 in the first line") in skipped
    assert ("caption", "line 5", "the caption of b.png is empty") in skipped
    assert ("row", "line 8", "the image has no name") in skipped and len(skipped) == 4


def test_quotes_that_enclose_nothing_are_letters_in_tab_separated_files(tmp_path):
    text = 'image\tcaption\na.png\t"Hi" he said\nb.png\ta 5" pipe\nc.png\t"open\nd.png\tlast'
    found, skipped = listing(tmp_path / "a.tsv", text)
    assert found == {"a.png": ['"Hi" he said'], "b.png": ['a 5" pipe'], "c.png": ['"open'], "d.png": ["last"]}
    assert skipped == [] and any("quotation marks are letters" in n for n in recognise(tmp_path / "a.tsv").notes)
    with pytest.raises(DataError, match="not CSV"):
        listing(tmp_path / "a.csv", text.replace("\t", ","))


def test_rows_that_repeat_are_named_once_each_with_the_first(tmp_path):
    found, skipped = listing(tmp_path / "a.csv", "image,caption\na.png,A cat\na.png,a  CAT\nb.png,A cat\n./a.png,dog\n")
    assert found == {"a.png": ["A cat", "dog"], "b.png": ["A cat"]}
    assert skipped == [("caption", "line 3", "a.png has this caption already, at line 2")]


def test_a_header_in_the_middle_is_no_pair(tmp_path):
    assert listing(tmp_path / "a.csv", "image,caption\na.png,x\nimage,caption\nb.png,y\n") == (
        {"a.png": ["x"], "b.png": ["y"]}, [],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("a b.png", "a b.png"), ("./sub/../a.png", "a.png"), ("sub\\a.png", "sub/a.png"), ("猫.png", "猫.png"),
        ("{root}/sub/a.png", "sub/a.png"), ("file://{root}/a.png", "a.png"), ("sub//a.png", "sub/a.png"),
        (" a.png ", "a.png"),
    ],
)  # fmt: skip
def test_names_that_lead_into_the_folder(given, name, tmp_path):
    value = given.format(root=tmp_path)
    found, skipped = listing(tmp_path / "a.jsonl", json.dumps({"image": value, "caption": "x"}))
    assert list(found) == [name] and skipped == []


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("../a.png", "lies outside"), ("sub/../../a.png", "lies outside"), ("/etc/passwd", "lies outside"),
        ("..\\a.png", "lies outside"), ("C:\\data\\a.png", "absolute path of Windows"), (".", "lies outside"),
        ("https://host/a.png", "is an address"), ("s3://b/a.png", "is an address"), ("data:image/x", "is an address"),
        ("a\0b.png", "not a plain path"), (None, "has no name"), ("", "has no name"), (7, "7 is no file name"),
        (["a.png"], "is no file name"), ("\ud800.png", "is no file name"), ("file:///etc/passwd", "lies outside"),
    ],
)  # fmt: skip
def test_names_that_lead_elsewhere_are_skipped_with_the_reason(given, reason, tmp_path):
    records = [{"image": "good.png", "caption": "x"}, {"image": given, "caption": "y"}]
    found, skipped = listing(tmp_path / "a.json", json.dumps(records))
    assert list(found) == ["good.png"] and [item[:2] for item in skipped] == [("row", "record 2")]
    assert reason in skipped[0][2]


def test_a_folder_of_images_that_is_named_reaches_further(tmp_path):
    pictures(tmp_path / "pictures")
    rows = [(str(tmp_path / "pictures" / NAMES[0]), "x"), (f"pictures/{NAMES[1]}", "y")]
    source = write(tmp_path / "lists" / "a.csv", table(rows=rows))
    read = read_pairs(source, images=tmp_path, strict=True)
    assert {p.entry.file_name for p in read.pairs} == {f"pictures/{name}" for name in NAMES[:2]}
    with pytest.raises(DataError, match=r"0 usable images, 2 items skipped.*--images DIR|file is absent"):
        read_pairs(source)


def test_a_link_to_a_folder_of_images_is_followed(tmp_path):
    pictures(tmp_path / "disk")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "images").symlink_to(tmp_path / "disk")
    assert len(read_pairs(write(tmp_path / "in" / "a.csv", table()), strict=True).pairs) == N


def test_a_letter_may_be_composed_otherwise_on_the_disk(tmp_path):
    picture(0).save(tmp_path / "cafe\u0301.png")
    read = read_pairs(write(tmp_path / "a.csv", "image,caption\ncaf\u00e9.png,x\n"), strict=True)
    assert [p.path.name for p in read.pairs] == ["cafe\u0301.png"]


def test_names_that_are_too_long_for_a_file_are_absent(tmp_path):
    picture(0).save(tmp_path / "a.png")
    read = read_pairs(write(tmp_path / "a.csv", f"image,caption\n{'x' * 3000}.png,x\na.png,y\n"))
    assert [p.entry.file_name for p in read.pairs] == ["a.png"] and len(read.skipped) == 1


def test_columns_may_be_named(tmp_path):
    text = "id,picture,words,other words,image\n1,a.png,x,y,no.png\n"
    options = {"columns": "image=picture,caption=words,caption=other words"}
    assert listing(tmp_path / "a.csv", text, **options) == ({"a.png": ["x", "y"]}, [])
    mapping = {"columns": {"image": "picture", "caption": ["words"], "id": "id"}}
    assert [e.image_id for e in recognise(tmp_path / "a.csv", **mapping).entries] == [1]
    with pytest.raises(DataError, match="no column 'nope'"):
        listing(tmp_path / "a.csv", columns="image=nope,caption=words")
    with pytest.raises(DataError, match="several columns are called 'words'"):
        listing(tmp_path / "b.csv", "image,words,words\na,b,c\n", columns="caption=words")


def test_a_column_of_splits_is_asked_for(tmp_path):
    text = "image,caption,split\na.png,x,train\nb.png,y,test\nc.png,z,test\n"
    with pytest.raises(DataError, match=r"the splits are test \(2\), train \(1\)"):
        listing(tmp_path / "a.csv", text)
    assert set(listing(tmp_path / "a.csv", split="test")[0]) == {"b.png", "c.png"}
    assert len(listing(tmp_path / "a.csv", split="all")[0]) == 3


def test_records_that_are_none_and_captions_that_are_none_are_named(tmp_path):
    records = [{"image": "a.png", "caption": "x"}, 3, {"image": "b.png"}, {"image": "c.png", "caption": {"a": 1}},
               {"image": "d.png", "caption": []}, {"image": "e.png", "caption": [" ", "y"]}]  # fmt: skip
    found, skipped = listing(tmp_path / "a.json", json.dumps(records))
    assert found == {"a.png": ["x"], "e.png": ["y"]}
    assert [item[1] for item in skipped] == ["record 2", "record 3", "record 4", "record 5", "record 6"]


def test_token_files_name_their_wrong_lines(tmp_path):
    found, skipped = listing(tmp_path / "x.token", "1.jpg#0\tA cat .\n1.jpg#1\tA dog .\nno tab here\n2.jpg#0\tx\n")
    assert found == {"1.jpg": ["A cat .", "A dog ."], "2.jpg": ["x"]}
    assert skipped == [("row", "line 3", "no `NAME#NUMBER`, tab and caption")]


def test_a_long_table_is_read_in_moments(tmp_path):
    rows = "".join(f"{i // 5}.png,a caption that says the number {i}\n" for i in range(50_000))
    found, skipped = listing(tmp_path / "a.csv", "image,caption\n" + rows)
    assert len(found) == 10_000 and not skipped and found["9999.png"][4].endswith("49999")
