import copy
import json

import pytest
from conftest import coco_folder, write_annotations

from attention_collapse.data.coco import find_annotations, image_folder, read_entries
from attention_collapse.data.entries import Foil, safe_file_name
from attention_collapse.errors import DataError

DATA = {
    "images": [{"id": 1, "file_name": "1.jpg", "license": 4}, {"id": 2, "file_name": "2.jpg"}],
    "annotations": [
        {"id": 11, "image_id": 1, "caption": "a cat"},
        {"id": 10, "image_id": 1, "caption": "猫 🐈 на окне"},
        {"id": 20, "image_id": 2, "caption": "a dog " * 250},
    ],
    "licenses": [{"id": 4, "url": "http://licence/4"}],
}


def read(tmp_path, change=lambda data: None):
    data = copy.deepcopy(DATA)
    change(data)
    return read_entries(write_annotations(tmp_path, data))


def test_entries_are_sorted_and_complete(tmp_path):
    entries, skipped = read(tmp_path)
    assert skipped == []
    assert [(e.image_id, e.caption_ids, e.license) for e in entries] == [
        (1, (10, 11), "http://licence/4"),
        (2, (20,), None),
    ]
    assert entries[0].captions[0] == "猫 🐈 на окне"


def set_caption(value):
    return lambda data: data["annotations"][0].update(caption=value)


@pytest.mark.parametrize(
    ("change", "kind", "identity", "reason", "images_left"),
    [
        (set_caption(""), "caption", "11", "empty", 2),
        (set_caption(" \n\t"), "caption", "11", "empty", 2),
        (set_caption("\ud800"), "caption", "11", "not text", 2),
        (lambda d: d["annotations"][0].update(id=2**63), "caption", str(2**63), "not a 64-bit integer", 2),
        (set_caption(None), "caption", "11", "not text", 2),
        (lambda d: d["annotations"].append(dict(d["annotations"][0])), "caption", "11", "duplicate caption id", 2),
        (lambda d: d["annotations"][2].update(image_id=9), "caption", "20", "its image 9 is not listed", 1),
        (lambda d: d["annotations"][2].update(image_id=9), "image", "2", "no usable caption", 1),
        (lambda d: d["annotations"][0].update(id="11"), "caption", "11", "not a 64-bit integer", 2),
        (lambda d: d["images"][1].update(id="139"), "image", "139", 'id "139" is a string', 1),
        (lambda d: d["images"][1].update(id=2.5), "image", "2.5", "id 2.5 is no whole number", 1),
        (lambda d: d["images"][1].update(id=None), "image", "None", "id null is null", 1),
        (lambda d: d["annotations"][0].update(image_id="1"), "caption", "11", 'image_id "1" is a string', 2),
        (lambda d: d["annotations"][0].update(image_id=[1]), "caption", "11", "not a 64-bit integer", 2),
        (lambda d: d["images"].append({"id": 1, "file_name": "x.jpg"}), "image", "1", "duplicate image id", 1),
        (lambda d: d["images"][1].update(file_name="../../etc/passwd"), "image", "2", "not a plain path", 1),
        (lambda d: d["images"][1].update(file_name="/etc/passwd"), "image", "2", "not a plain path", 1),
        (lambda d: d["images"][1].update(id=[2]), "image", r"[2]", "not a 64-bit integer", 1),
        (lambda d: d["images"][1].update(file_name="a\\b.jpg"), "image", "2", "folder; \\ is no separator here", 1),
        (lambda d: d["images"][1].pop("file_name"), "image", "2", "not a plain path", 1),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, change, kind, identity, reason, images_left):
    entries, skipped = read(tmp_path, change)
    assert len(entries) == images_left
    assert any(s.kind == kind and s.id == identity and reason in s.reason for s in skipped), skipped


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not JSON"),
        ("{]", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "no list of records under 'images'"),
        (json.dumps({"images": []}), "'images' is empty"),
        (json.dumps({"images": [{"id": 1}], "annotations": []}), "'annotations' is empty"),
        (json.dumps({"images": [{"id": 1}], "annotations": [{"bbox": [0, 0, 1, 1]}]}), "hold no captions"),
        (json.dumps({"images": [1], "annotations": [2]}), "no list of records"),
    ],
)
def test_an_annotation_file_of_another_kind_is_an_error(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_entries(write_annotations(tmp_path, content))


def test_licences_may_be_absent(tmp_path):
    for licences in (None, 3, [None], [{"id": [1]}]):
        entries, skipped = read(tmp_path, lambda d, value=licences: d.update(licenses=value))
        assert len(entries) == 2 and entries[0].license is None and skipped == []


def test_a_folder_in_place_of_the_file(tmp_path):
    (tmp_path / "annotations" / "captions_x.json").mkdir(parents=True)
    with pytest.raises(DataError, match="cannot be read"):
        read_entries(tmp_path / "annotations" / "captions_x.json")


def test_the_folder_must_hold_one_caption_file(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        find_annotations(tmp_path / "nowhere")
    with pytest.raises(DataError, match="0 files match"):
        find_annotations(tmp_path)
    root = coco_folder(tmp_path / "coco")
    assert find_annotations(root).name == "captions_val2017.json"
    write_annotations(root, DATA, "train2017")
    assert find_annotations(root, "train2017").name == "captions_train2017.json"
    with pytest.raises(DataError, match="no split 'test2017'; 2 files match") as error:
        find_annotations(root, "test2017")
    assert "choose with --split: train2017, val2017" in error.value.remedy
    with pytest.raises(DataError, match=r"2 files match.*captions_train2017\.json, captions_val2017\.json"):
        find_annotations(root)


def test_images_lie_in_the_split_or_in_images(tmp_path):
    root = coco_folder(tmp_path)
    file = find_annotations(root)
    assert image_folder(file).name == "val2017"
    (root / "val2017").rename(root / "images")
    assert image_folder(file).name == "images"
    (root / "images").rename(root / "elsewhere")
    with pytest.raises(DataError, match="neither val2017/ nor images/"):
        image_folder(file)


@pytest.mark.parametrize(
    "name", ["../a.jpg", "a/../../b.jpg", "/a.jpg", "C:\\a.jpg", "..\\a.jpg", "", None, 3, "a\0b", "C:a"]
)
def test_unsafe_names(name):
    assert not safe_file_name(name)


@pytest.mark.parametrize("name", ["a.jpg", "b/c.jpg", "Ünïcode.png", "a..b.jpg"])
def test_safe_names(name):
    assert safe_file_name(name)


def foils_of(*given):
    return lambda data: data["annotations"][0].update(foils=list(given))


def test_foils_stand_beside_their_captions_and_captions_with_more_come_first(tmp_path):
    entries, skipped = read(
        tmp_path, foils_of({"caption": "a dog", "changed": "object"}, {"caption": "two cats", "note": 1})
    )
    assert skipped == [] and entries[0].caption_ids == (11, 10)
    assert entries[0].foils == ((Foil("a dog", "object"), Foil("two cats", "")), ())
    assert entries[1].foils == () and entries[1].captioned == [(20, "a dog " * 250, ())]


@pytest.mark.parametrize(
    ("given", "identity", "reason"),
    [
        ({"caption": " A  Cat"}, "11, foil 2", "foil equals its caption"),
        ({"caption": "猫 🐈  на окне"}, "11, foil 2", "foil equals another caption of its image"),
        ({"caption": ""}, "11, foil 2", "foil is empty or not text"),
        ({"caption": "\ud800"}, "11, foil 2", "foil is empty or not text"),
        ({"text": "a dog"}, "11, foil 2", "foil is empty or not text"),
        ("a dog", "11, foil 2", "foil is empty or not text"),
        ({"caption": "A DOG"}, "11, foil 2", "the same foil twice"),
    ],
)
def test_a_foil_that_is_none_is_named_and_its_caption_stays(tmp_path, given, identity, reason):
    entries, skipped = read(tmp_path, foils_of({"caption": "a dog"}, given))
    assert [(s.kind, s.id, s.reason) for s in skipped] == [("foil", identity, reason)]
    assert entries[0].caption_ids == (11, 10) and [len(foils) for foils in entries[0].foils] == [1, 0]


def test_foils_that_are_no_list_are_named(tmp_path):
    entries, skipped = read(tmp_path, lambda data: data["annotations"][0].update(foils={"caption": "a dog"}))
    assert [(s.kind, s.id) for s in skipped] == [("foil", "11")] and "no list" in skipped[0].reason
    assert entries[0].foils == ()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (2, ""),
        (1, "an image is no partner of itself"),
        (3, "its partner, image 3, is not among the pairs"),
        ("2", 'partner "2" is a string, not a 64-bit integer'),
        (True, "partner true is true or false, not a 64-bit integer"),
    ],
)
def test_a_partner_is_another_image(tmp_path, value, reason):
    entries, skipped = read(tmp_path, lambda data: data["images"][0].update(partner=value))
    assert [(s.kind, s.id, s.reason) for s in skipped] == ([("partner", "1", reason)] if reason else [])
    assert [entry.partner for entry in entries] == [None if reason else 2, None]


def test_a_partner_with_the_same_caption_makes_no_group(tmp_path):
    def change(data):
        data["images"][0]["partner"] = 2
        data["annotations"][2]["caption"] = "猫  🐈 на ОКНЕ"

    entries, skipped = read(tmp_path, change)
    assert [s.reason for s in skipped] == ["its partner, image 2, has the same caption"]
    assert entries[0].partner is None
