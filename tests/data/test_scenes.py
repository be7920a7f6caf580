import numpy as np
import pytest

from attention_collapse.data.pairs import read_folder
from attention_collapse.data.scenes import COLOURS, SIZE, Group, Scene, captions, render, sample, write_scenes
from attention_collapse.errors import DataError
from attention_collapse.files import sha256_file


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
