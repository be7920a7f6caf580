import json

import pytest
from conftest import coco_folder, photograph

from attention_collapse.data.coco import find_annotations, read_entries
from attention_collapse.data.pairs import choose, manifest, read_folder, read_study, table, write_study
from attention_collapse.errors import DataError
from attention_collapse.files import sha256_file, write_json


def test_the_subset_is_seeded_and_nested(tmp_path):
    entries, _ = read_entries(find_annotations(coco_folder(tmp_path, n=30)))
    ids = {n: [e.image_id for e in choose(entries, n, 3)] for n in (5, 10, 30)}
    assert set(ids[5]) < set(ids[10]) < set(ids[30])
    assert ids[10] == sorted(ids[10]) and ids[10] == [e.image_id for e in choose(entries, 10, 3)]
    assert ids[10] != [e.image_id for e in choose(entries, 10, 4)]
    for n, seed in ((31, 0), (0, 0), (-1, 0), (3, -1)):
        with pytest.raises(DataError, match=rf"n = {n} with seed {seed}, and 30 images"):
            choose(entries, n, seed)


def test_unreadable_images_are_counted_and_strict_makes_them_an_error(tmp_path):
    root = coco_folder(tmp_path, n=4)
    (root / "val2017" / "000000000002.jpg").write_bytes(b"")
    (root / "val2017" / "000000000003.jpg").unlink()
    pairs, skipped = read_folder(root)
    assert [p.entry.image_id for p in pairs] == [1, 4]
    assert [(s.id, s.reason) for s in skipped] == [
        ("2", "file is empty (0 bytes): 000000000002.jpg"), ("3", "file is absent: 000000000003.jpg"),
    ]  # fmt: skip
    with pytest.raises(DataError, match=r"2 items skipped \(image 2: file is empty"):
        read_folder(root, strict=True)


def test_nothing_usable_is_an_error(tmp_path):
    root = coco_folder(tmp_path, n=1)
    (root / "val2017" / "000000000001.jpg").unlink()
    with pytest.raises(DataError, match="0 usable images"):
        read_folder(root)


def test_a_study_reads_back_what_was_written_and_holds_no_captions_in_its_manifest(tmp_path):
    pairs, skipped = read_folder(coco_folder(tmp_path / "in", n=3))
    annotations = write_study(tmp_path / "out", "val2017", pairs)
    record = manifest("s", "folder", annotations, pairs, skipped)
    assert (record["n_images"], record["n_captions"]) == (3, 6)
    assert "circle" not in json.dumps(record)
    write_json(tmp_path / "manifest.json", record)
    rows = read_study(tmp_path / "out", tmp_path / "manifest.json")
    named = ["image_id", "image", "captions", "caption_ids", "license", "sha256", "source", "foils", "partner"]
    assert rows.column_names == named
    original = table(pairs, "folder")
    for column in ("image_id", "captions", "caption_ids", "license", "sha256", "source"):
        assert list(rows[column]) == list(original[column]), column


@pytest.mark.parametrize("harm", ["pixels", "caption", "absent"])
def test_a_study_that_is_not_what_the_manifest_names_is_refused(tmp_path, harm):
    pairs, skipped = read_folder(coco_folder(tmp_path / "in", n=2))
    annotations = write_study(tmp_path / "out", "val2017", pairs)
    write_json(tmp_path / "manifest.json", manifest("s", "folder", annotations, pairs, skipped))
    image = tmp_path / "out" / "val2017" / "000000000001.jpg"
    if harm == "pixels":
        photograph(image, seed=99)
    elif harm == "absent":
        image.unlink()
    else:
        annotations.write_text(annotations.read_text().replace("picture 1", "picture 7"))
    with pytest.raises(DataError, match=r"captions of image 1 differ" if harm == "caption" else "not the file that"):
        read_study(tmp_path / "out", tmp_path / "manifest.json")


def test_the_real_sample_is_read_whole(coco_sample):
    pairs, skipped = read_folder(coco_sample, n=20, seed=1)
    assert len(pairs) == 20 and skipped == []
    assert all(len(p.entry.captions) == 5 and p.entry.license for p in pairs)


def rich_folder(root, n=4):
    """A folder with foils of every first caption but one, and one group."""
    file = find_annotations(coco_folder(root, n=n))
    data = json.loads(file.read_text())
    for item in data["annotations"]:
        if item["id"] % 10 == 0 and item["image_id"] != 2:
            foil = item["caption"].replace("red", "blue")
            item["foils"] = [{"caption": foil, "changed": "colour"}]
    data["images"][0]["partner"] = 3
    file.write_text(json.dumps(data))
    return root


def test_foils_and_partners_are_written_and_read_back(tmp_path):
    pairs, skipped = read_folder(rich_folder(tmp_path / "in"))
    annotations = write_study(tmp_path / "out", "val2017", pairs)
    record = manifest("s", "folder", annotations, pairs, skipped)
    assert record["n_foils"] == 3 and [image.get("n_foils") for image in record["images"]] == [1, None, 1, 1]
    assert [image.get("partner") for image in record["images"]] == [3, None, None, None]
    assert "blue" not in json.dumps(record) and "colour" not in json.dumps(record)
    write_json(tmp_path / "manifest.json", record)
    rows, original = read_study(tmp_path / "out", tmp_path / "manifest.json"), table(pairs, "folder")
    foil = {"caption": "picture 1 of two blue circles", "changed": "colour"}
    assert rows["foils"][0] == [[foil], []] and rows["foils"][1] == [[], []] and rows["partner"][:2] == [3, None]
    for column in ("captions", "caption_ids", "foils", "partner"):
        assert list(rows[column]) == list(original[column]), column


def test_without_foils_and_partners_the_files_have_no_trace_of_them(tmp_path):
    pairs, skipped = read_folder(coco_folder(tmp_path / "in", n=3))
    annotations = write_study(tmp_path / "out", "val2017", pairs)
    data, record = json.loads(annotations.read_text()), manifest("s", "folder", annotations, pairs, skipped)
    assert [set(item) for item in data["annotations"]] == [{"id", "image_id", "caption"}] * 6
    known = {"id", "file_name", "width", "height", "coco_url", "license"}
    assert [set(item) for item in data["images"]] == [known] * 3
    pinned = {"id", "file_name", "url", "license", "sha256", "bytes", "width", "height", "caption_ids",
              "captions_sha256", "notes"}  # fmt: skip
    assert [set(image) for image in record["images"]] == [pinned] * 3
    assert set(record) == {"study", "source", "annotations", "n_images", "n_captions", "n_skipped", "skipped", "images"}
    # The bytes that were written before there were foils.
    assert sha256_file(annotations) == "bfa78678f9222c1e78d19a02e54ae86081e4390b6f96b06536cc34643945b165"


@pytest.mark.parametrize("harm", ["blue", "colour", "partner", "more"])
def test_foils_that_are_not_those_of_the_manifest_are_refused(tmp_path, harm):
    pairs, skipped = read_folder(rich_folder(tmp_path / "in"))
    annotations = write_study(tmp_path / "out", "val2017", pairs)
    write_json(tmp_path / "manifest.json", manifest("s", "folder", annotations, pairs, skipped))
    data = json.loads(annotations.read_text())
    if harm == "partner":
        data["images"][0]["partner"] = 4
    elif harm == "more":
        data["annotations"][2]["foils"] = [{"caption": "a cat", "changed": "object"}]
    else:
        key = "caption" if harm == "blue" else "changed"
        data["annotations"][0]["foils"][0][key] = "x"
    annotations.write_text(json.dumps(data))
    with pytest.raises(DataError, match="foils or partner of image . differ from those in"):
        read_study(tmp_path / "out", tmp_path / "manifest.json")


def test_a_partner_that_is_lost_is_named(tmp_path):
    root = rich_folder(tmp_path / "in")
    (root / "val2017" / "000000000003.jpg").unlink()
    pairs, skipped = read_folder(root)
    assert [(s.kind, s.id) for s in skipped] == [("image", "3"), ("partner", "1")]
    assert "image 3, is not among the pairs" in skipped[1].reason and pairs[0].entry.partner is None
    lost = [
        seed
        for seed in range(20)
        if any(s.kind == "partner" for s in read_folder(rich_folder(root), n=2, seed=seed)[1])
    ]
    assert lost  # also where the subset leaves it out
