import json

import pytest
from conftest import coco_folder, photograph

from attention_collapse.data.coco import find_annotations, read_entries
from attention_collapse.data.pairs import choose, manifest, read_folder, read_study, table, write_study
from attention_collapse.errors import DataError
from attention_collapse.files import write_json


def test_the_subset_is_seeded_and_nested(tmp_path):
    entries, _ = read_entries(find_annotations(coco_folder(tmp_path, n=30)))
    ids = {n: [e.image_id for e in choose(entries, n, 3)] for n in (5, 10, 30)}
    assert set(ids[5]) < set(ids[10]) < set(ids[30])
    assert ids[10] == sorted(ids[10]) and ids[10] == [e.image_id for e in choose(entries, 10, 3)]
    assert ids[10] != [e.image_id for e in choose(entries, 10, 4)]
    for n, seed in ((31, 0), (0, 0), (-1, 0), (3, -1)):
        with pytest.raises(DataError, match=rf"n = {n} images asked for \(seed {seed}\), 30 usable"):
            choose(entries, n, seed)


def test_unreadable_images_are_counted_and_strict_makes_them_an_error(tmp_path):
    root = coco_folder(tmp_path, n=4)
    (root / "val2017" / "000000000002.jpg").write_bytes(b"")
    (root / "val2017" / "000000000003.jpg").unlink()
    pairs, skipped = read_folder(root)
    assert [p.entry.image_id for p in pairs] == [1, 4]
    assert [(s.id, s.reason) for s in skipped] == [("2", "file is empty (0 bytes)"), ("3", "file is absent")]
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
