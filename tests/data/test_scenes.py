import json
import re
from collections import Counter

import numpy as np
import pytest

from attention_collapse.data.pairs import read_folder
from attention_collapse.data.scenes import (
    ATTRIBUTES,
    COLOURS,
    OPPOSITE,
    PLACE,
    RELATION,
    SHAPES,
    SIZE,
    Group,
    Scene,
    captions,
    foil,
    render,
    sample,
    write_scenes,
)
from attention_collapse.errors import DataError
from attention_collapse.files import read_json, sha256_bytes, sha256_file


def pixels(scene, seed=0):
    return np.asarray(render(scene, np.random.default_rng(seed))).astype(int)


def near(image, colour, tolerance=40):
    return np.abs(image - np.array(COLOURS[colour])).sum(-1) < tolerance


@pytest.mark.parametrize("shape", ["circle", "square", "triangle", "cross", "ring"])
@pytest.mark.parametrize(
    ("place", "half"), [("left", np.s_[:, :32]), ("right", np.s_[:, 32:]), ("top", np.s_[:32]), ("bottom", np.s_[32:])]
)
def test_shapes_stand_where_the_caption_says(shape, place, half):
    mask = near(pixels(Scene((Group(2, "red", shape, place),))), "red")
    assert mask.sum() >= 20
    assert mask[half].sum() == mask.sum()


def components(mask):
    """Number of 4-connected regions."""
    mask, count = mask.copy(), 0
    while mask.any():
        count += 1
        todo = [tuple(np.argwhere(mask)[0])]
        while todo:
            y, x = todo.pop()
            if 0 <= y < SIZE and 0 <= x < SIZE and mask[y, x]:
                mask[y, x] = False
                todo += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
    return count


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("colour", list(COLOURS))
def test_as_many_shapes_as_the_caption_says(count, colour):
    for seed in range(3):
        assert components(near(pixels(Scene((Group(count, colour, "square", "top"),)), seed), colour)) == count


def test_captions_name_both_groups():
    scene = Scene((Group(2, "red", "cross", "left"), Group(1, "orange", "ring", "right")))
    texts = captions(scene)
    assert len(set(texts)) == 5
    assert all("two red crosses" in t and "an orange ring" in t for t in texts)
    assert texts[1] == "two red crosses left of an orange ring"


def test_no_held_out_picture_or_caption_was_seen_in_training():
    """With the seeds and sizes of the embedded study, in whichever order the groups were drawn."""
    train, test = sample(12_000, 1, held_out=False), sample(200, 2, held_out=True) + sample(100, 0, held_out=True)
    assert len({s.description for s in train}) == 12_000
    assert not {frozenset(s.groups) for s in train} & {frozenset(s.groups) for s in test}
    assert not {c for s in train for c in captions(s)} & {c for s in test for c in captions(s)}


def test_a_held_out_caption_fits_one_scene_only():
    texts = [c for s in sample(200, 2, held_out=True) for c in captions(s)]
    assert len(set(texts)) == len(texts)


def test_the_order_of_the_groups_is_no_property_of_a_scene():
    a, b = Group(2, "red", "cross", "left"), Group(1, "blue", "ring", "right")
    assert Scene((a, b)).description == Scene((b, a)).description and Scene((a, b)).held_out is Scene((b, a)).held_out


def test_more_scenes_than_there_are():
    with pytest.raises(DataError, match="different scenes found"):
        sample(1200, 0, held_out=True)


def test_the_written_study_is_deterministic_and_usable(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_scenes(tmp_path / name, 5, seed)
    hashes = {
        n: {p.relative_to(tmp_path / n).as_posix(): sha256_file(p) for p in sorted((tmp_path / n).rglob("*.*"))}
        for n in "abc"
    }
    assert hashes["a"] == hashes["b"] != hashes["c"]
    pairs, skipped = read_folder(tmp_path / "a")
    assert len(pairs) == 5 and skipped == [] and all(p.notes == () and len(p.entry.captions) == 5 for p in pairs)


PHRASE = rf"(an?|two|three) ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})(?:e?s)?"
WHERE = rf"({'|'.join(PLACE.values())})"
BESIDE = rf"({'|'.join(RELATION.values())})"
SENTENCES = (  # what each of the ten captions is
    rf"{PHRASE} {WHERE}", rf"there (?:is|are) {PHRASE} {WHERE} of the picture", rf"a drawing of {PHRASE}",
    rf"{WHERE} of the image there (?:is|are) {PHRASE}", rf"only {PHRASE} and nothing else",
    rf"{PHRASE} {WHERE} and {PHRASE} {WHERE}", rf"{PHRASE} {BESIDE} {PHRASE}", rf"a drawing of {PHRASE} and {PHRASE}",
    rf"{PHRASE} {WHERE} of the picture with {PHRASE} {WHERE}",
)  # fmt: skip


def parsed(text):
    """Which sentence it is, and its words by attribute in their order."""
    [(kind, found)] = [(k, m) for k, s in enumerate(SENTENCES) if (m := re.fullmatch(s, text))]
    words = [word for word in found.groups() if word is not None]
    places = [word for word in words if word in {*PLACE.values(), *RELATION.values()}]
    rest = [word for word in words if word not in places]
    groups = [tuple(rest[k : k + 3]) for k in range(0, len(rest), 3)]
    said = {
        "count": [{"a": 1, "an": 1, "two": 2, "three": 3}[g[0]] for g in groups], "colour": [g[1] for g in groups],
        "shape": [g[2] for g in groups], "place": places,
    }  # fmt: skip
    return kind, said


def grammatical(text):
    """Articles, plurals and verbs agree with what they stand by."""
    for number, colour, shape, ending in re.findall(PHRASE.replace("(?:e?s)?", r"(\w*)"), text):
        plural = number in ("two", "three")
        if number in ("a", "an") and (number == "an") != (colour[0] in "aeiou"):
            return False
        if ending != (("es" if shape.endswith("s") else "s") if plural else ""):
            return False
        if re.search(r"there (is|are)", text) and (" are " in text) != plural:
            return False
    return True


def true_of(said, scene):
    """Whether a parsed caption describes the scene, counts read exactly."""
    told = list(zip(said["count"], said["colour"], said["shape"], strict=True))
    shown = {group.place: (group.count, group.colour, group.shape) for group in scene.groups}
    if not said["place"]:
        return sorted(told) == sorted(shown.values())
    of_relation = {words: place for place, words in RELATION.items()}
    if said["place"][0] in of_relation:
        place = of_relation[said["place"][0]]
        return shown.get(place) == told[0] and shown.get(OPPOSITE[place]) == told[1]
    at = {words: place for place, words in PLACE.items()}
    return all(shown.get(at[where]) == what for where, what in zip(said["place"], told, strict=True))


def test_a_foil_differs_in_the_attribute_it_names_and_nothing_else_and_is_false_of_the_picture(tmp_path):
    scenes = sample(300, 0, held_out=True)
    annotations = read_json(write_scenes(tmp_path, 300, 0))["annotations"]
    changed = Counter()
    for item in annotations:
        scene, [given] = scenes[item["image_id"] - 1], item["foils"]
        (kind, said), (other, false) = parsed(item["caption"]), parsed(given["caption"])
        assert kind == other and grammatical(item["caption"]) and grammatical(given["caption"])
        assert [name for name in ATTRIBUTES if said[name] != false[name]] == [given["changed"]]
        if given["changed"] != "place":
            assert sum(a != b for a, b in zip(said[given["changed"]], false[given["changed"]], strict=True)) == 1
        assert true_of(said, scene) and not true_of(false, scene), (item["caption"], given["caption"])
        changed[given["changed"]] += 1
    assert set(changed) == set(ATTRIBUTES) and min(changed.values()) > 0.15 * len(annotations)


def test_two_equal_groups_do_not_change_places():
    """Who stands left of whom would be true again."""
    two = tuple(Group(1, "red", "ring", place) for place in ("left", "right"))
    rng = np.random.default_rng(0)
    assert {foil(Scene(two), position, rng)[1] for position in range(5) for _ in range(50)} == {
        "colour",
        "shape",
        "count",
    }


def test_no_foil_shows_two_groups_in_one_half(tmp_path):
    """Readers of captions alone would know it for false."""
    for item in read_json(write_scenes(tmp_path, 100, 0))["annotations"]:
        places = [w for w in PLACE.values() if w in item["foils"][0]["caption"]]
        groups = item["foils"][0]["caption"].count(" and ") + item["foils"][0]["caption"].count(" with ")
        if groups and "nothing else" not in item["caption"] and "drawing" not in item["caption"]:
            assert len(places) == 2


def test_foils_change_neither_pictures_nor_captions(tmp_path):
    """Sums of what was written before there were foils."""
    file = write_scenes(tmp_path, 5, 0)
    data = read_json(file)
    for item in data["annotations"]:
        del item["foils"]
    assert (
        sha256_bytes(json.dumps(data, sort_keys=True).encode())
        == "ac6cfc9fd5adddc123c8be07d7282daa28c79403f56b3eecab51e58fe04e7c00"
    )
    assert (
        sha256_file(tmp_path / "scenes" / "000000000005.png")
        == "eb9ce22b08074e00e523f7b86b8c04c9ad01ff4b3ac81076a421de3b34681dd4"
    )
