"""SugarCrepe's and VALSE's files, in small and as published."""

import json

import pytest
from conftest import SHARED, coco_folder, write_annotations

from attention_collapse.data.coco import find_annotations, read_entries
from attention_collapse.data.foils import read_foils, with_foils
from attention_collapse.data.pairs import read_folder
from attention_collapse.errors import DataError

NAMES = ("add_att", "add_obj", "replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj")


def sugarcrepe(number, caption, foil):
    return {"filename": f"{number:012d}.jpg", "caption": caption, "negative_caption": foil}


def valse(name, caption, foil, votes=3, **more):
    mturk = {"foil": 3 - votes, "caption": votes, "other": 0}
    return {"dataset": "VisDial_v1.0", "original_split": "val", "dataset_idx": 1, "image_file": name,
            "linguistic_phenomena": "existence", "caption": caption, "classes": "no", "classes_foil": "",
            "mturk": mturk, "foil": foil} | more  # fmt: skip


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data if isinstance(data, str) else json.dumps(data), "utf-8")
    return path


def entries_of(tmp_path, n=3, captions=2):
    return read_entries(find_annotations(coco_folder(tmp_path / "in", n=n, captions=captions)))[0]


def test_sugarcrepe_becomes_captions_with_foils_and_the_file_says_what_changed(tmp_path):
    file = write(
        tmp_path / "swap_att.json",
        {
            "0": sugarcrepe(1, "Picture 1 of two  red circles", "picture 1 of two blue circles"),  # COCO's own caption
            "1": sugarcrepe(1, "picture 1 of two red circles", "picture 1 of two green circles"),
            "2": sugarcrepe(3, "two red circles, and more", "three red circles, and more"),  # not among COCO's
        },
    )
    items, skipped = read_foils(file)
    assert skipped == [] and [item.name for item in items] == ["swap_att/0", "swap_att/1", "swap_att/2"]
    found = with_foils(entries_of(tmp_path), items, skipped)
    assert skipped == [] and [entry.image_id for entry in found] == [1, 3]  # nothing is about image 2
    one, three = found
    assert one.caption_ids == (10, 11) and [foil.caption for foil in one.foils[0]] == [
        "picture 1 of two blue circles", "picture 1 of two green circles",
    ]  # fmt: skip
    assert one.captions[0] == "picture 1 of two red circles"  # as COCO has it
    assert one.foils[1] == () and {foil.changed for foil in one.foils[0]} == {"swap_att"}
    assert three.caption_ids == (32, 30, 31) and three.captions[0] == "two red circles, and more"


def test_the_caption_with_most_foils_comes_first_and_then_the_lower_id(tmp_path):
    second = "picture 1 of two red circles on the left"
    given = {
        "0": sugarcrepe(1, "picture 1 of two red circles", "picture 1 of two blue circles"),
        "1": sugarcrepe(1, second, "a"),
        "2": sugarcrepe(1, second, "b"),
    }
    [entry] = with_foils(entries_of(tmp_path, n=1), read_foils(write(tmp_path / "x.json", given))[0], [])
    assert entry.caption_ids == (11, 10) and [len(foils) for foils in entry.foils] == [2, 1]


def test_valse_counts_its_annotators(tmp_path):
    name = "COCO_val2014_000000000001.jpg"  # the name that an image of val2017 had until 2014
    file = write(
        tmp_path / "existence.json",
        {
            "existence_1": valse(name, "There are circles.", "There are no circles."),
            "existence_2": valse(name, "There is a cat.", "There is no cat.", votes=2),
            "existence_3": valse(name, "There is a dog.", "There is no dog.", votes=1),
            "existence_4": valse(name, "a", "b", mturk=None),
            "existence_5": valse(name, ["There are rings."], ["There are no rings."]),
        },
    )
    items, skipped = read_foils(file)
    assert [(item.caption, item.foil.caption) for item in items] == [
        ("There are circles.", "There are no circles."), ("There is a cat.", "There is no cat."),
        ("There are rings.", "There are no rings."),
    ]  # fmt: skip
    assert {item.foil.changed for item in items} == {"existence"}
    assert [(s.kind, s.id) for s in skipped] == [("foil", "existence/existence_3"), ("foil", "existence/existence_4")]
    assert skipped[0].reason == "1 annotators took the caption alone, 2 make a foil valid"
    assert "no mturk.caption" in skipped[1].reason
    [entry] = with_foils(entries_of(tmp_path), items, [])
    assert entry.image_id == 1 and len(entry.captions) == 2 + 3


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (sugarcrepe(1, "A cat.", "a  CAT. "), "foil equals its caption"),
        (sugarcrepe(1, "a cat", " \n"), "foil is empty or not text"),
        (sugarcrepe(1, "a cat", None), "foil is empty or not text"),
        (sugarcrepe(1, "", "a cat"), "caption is empty or not text"),
        (sugarcrepe(1, "a cat", "a dog") | {"filename": 7}, "filename is no file name"),
        ({"filename": "000000000001.jpg", "caption": "a"}, "the item has no negative_caption"),
        ("a", "the item is no object"),
    ],
)
def test_an_item_that_is_no_foil_is_named(tmp_path, item, reason):
    file = write(tmp_path / "add_obj.json", {"0": sugarcrepe(2, "a cat", "a dog"), "17": item})
    items, skipped = read_foils(file)
    assert len(items) == 1 and [(s.kind, s.id, s.reason) for s in skipped] == [("foil", "add_obj/17", reason)]


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (sugarcrepe(9, "a cat", "a dog"), "no image 000000000009.jpg in the annotations"),
        (sugarcrepe(1, "a cat", "PICTURE 1 of two red circles"), "foil equals another caption of its image"),
        (sugarcrepe(1, "a cat", "a ring"), "foil equals another caption of its image"),
        (sugarcrepe(1, "a ring", "a  bird"), "the same foil twice"),
    ],
)
def test_a_foil_that_its_image_speaks_against_is_named(tmp_path, item, reason):
    data = {"0": sugarcrepe(1, "a ring", "a bird"), "5": item}
    skipped = []
    [entry] = with_foils(entries_of(tmp_path), read_foils(write(tmp_path / "add_obj.json", data))[0], skipped)
    assert [(s.kind, s.id, s.reason) for s in skipped] == [("foil", "add_obj/5", reason)]
    assert [foil.caption for foil in entry.foils[0]] == ["a bird"]
    assert "a cat" not in entry.captions  # a caption that only came with a foil that is none


@pytest.mark.parametrize(
    ("content", "got"),
    [
        ("[]", "list, and no item of SugarCrepe or VALSE"),
        ("{}", "no item of SugarCrepe or VALSE"),
        ('{"images": [], "annotations": []}', "an object with keys images, annotations"),
        ('{"0": {"file": "a.jpg", "text": "a"}}', "an object with keys 0"),
        ("3", "int"),
        ("no JSON", "not JSON"),
    ],
)
def test_a_file_of_another_format_says_what_was_expected(tmp_path, content, got):
    with pytest.raises(DataError) as error:
        read_foils(write(tmp_path / "a.json", content))
    assert got in error.value.got and "a.json" in error.value.got
    assert error.value.expected and error.value.remedy
    if "JSON" not in content:
        assert "negative_caption" in error.value.expected and "mturk" in error.value.expected


def test_the_files_that_sugarcrepe_published_are_read_whole(tmp_path):
    folder = SHARED / "sugarcrepe"
    if not folder.is_dir():
        pytest.skip("SugarCrepe's files (../shared/data/sugarcrepe) are not on this machine")
    read = {name: read_foils(folder / f"{name}.json") for name in NAMES}
    counts = {name: len(items) for name, (items, _) in read.items()}
    assert counts == {"add_att": 692, "add_obj": 2062, "replace_att": 788, "replace_obj": 1652, "replace_rel": 1406,
                      "swap_att": 666, "swap_obj": 245}  # fmt: skip
    assert not any(skipped for _, skipped in read.values())
    items = [item for found, _ in read.values() for item in found]
    files = sorted({item.file_name for item in items})
    images = [{"id": index, "file_name": name} for index, name in enumerate(files, 1)]
    annotations = [{"id": index, "image_id": index, "caption": "a photograph"} for index in range(1, len(files) + 1)]
    root = write_annotations(tmp_path, {"images": images, "annotations": annotations}).parent.parent
    skipped = []
    entries = with_foils(read_entries(find_annotations(root))[0], items, skipped)
    assert len(entries) == len(files) == 1560
    assert {s.reason for s in skipped} <= {"the same foil twice", "foil equals another caption of its image"}
    assert sum(len(foils) for entry in entries for foils in entry.foils) + len(skipped) == 7511
    assert all(entry.foils[0] for entry in entries) and len(skipped) < 30


def test_a_folder_with_foils_is_read_as_the_images_they_are_about(tmp_path):
    coco_folder(tmp_path / "in", n=4)
    items, _ = read_foils(write(tmp_path / "add_att.json", {
        "0": sugarcrepe(2, "picture 2 of two red circles", "picture 2 of two large red circles"),
        "1": sugarcrepe(4, "picture 4 of two red circles", "picture 4 of two large red circles"),
        "2": sugarcrepe(8, "a cat", "a dog"),
    }))  # fmt: skip
    (tmp_path / "in" / "val2017" / "000000000004.jpg").unlink()
    pairs, skipped = read_folder(tmp_path / "in", foils=items)
    assert [pair.entry.image_id for pair in pairs] == [2]
    assert [(s.kind, s.id) for s in skipped] == [("foil", "add_att/2"), ("image", "4")]
    with pytest.raises(DataError, match=r"2 items skipped \(foil add_att/2: no image"):
        read_folder(tmp_path / "in", foils=items, strict=True)
