import json

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from attention_collapse.data.coco import find_annotations
from attention_collapse.data.pairs import read_folder
from attention_collapse.data.planted import (
    ATTRIBUTES,
    FILLERS,
    MARK,
    MARK_SIZE,
    Regime,
    _coins,
    alter,
    describe,
    draw_pairs,
    in_order,
    leans,
    mark,
    pick,
    vocabulary,
)
from attention_collapse.data.planted_files import labels_of, write_planted
from attention_collapse.data.scenes import SIZE, Group, Scene, sample
from attention_collapse.errors import DataError

REGIMES = {"balanced": Regime(), "text": Regime(0.5, 1.0, 0.5), "image": Regime(0.5, 0.5, 1.0)}


def wrong(pair):
    """Attributes of the caption that the scene does not have, by reading the caption."""
    words = set(pair.caption.split())
    return not any(
        set(in_order(scene, reverse=reverse).split()) == words for scene in (pair.scene,) for reverse in (False, True)
    )


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_an_alteration_changes_that_attribute_of_one_group_and_nothing_else(attribute):
    rng = np.random.default_rng(0)
    for scene in sample(300, 5, held_out=False):
        other = alter(scene, attribute, rng)
        changed = [
            name
            for one, two in zip(scene.groups, other.groups, strict=True)
            for name in ATTRIBUTES
            if getattr(one, name) != getattr(two, name)
        ]
        assert set(changed) == {attribute}
        assert len(changed) == (2 if attribute == "place" and len(scene.groups) == 2 else 1)


def test_a_scene_of_two_groups_turns_by_a_quarter():
    scene = Scene((Group(1, "red", "ring", "left"), Group(2, "blue", "cross", "right")))
    found = {
        tuple(group.place for group in alter(scene, "place", np.random.default_rng(seed)).groups) for seed in range(9)
    }
    assert found == {("top", "bottom"), ("bottom", "top")}


def test_balanced_captions_are_true_exactly_where_the_label_says_match():
    pairs = draw_pairs(400, 3, Regime(), held_out=True)
    assert [pair.label for pair in pairs] == [True, False] * 200
    assert all(wrong(pair) != pair.label for pair in pairs)
    assert [pair.altered for pair in pairs if not pair.label][:4] == list(ATTRIBUTES)


@pytest.mark.parametrize("cue", ["text", "image"])
@pytest.mark.parametrize("reliability", [0.5, 0.8, 1.0])
def test_a_cue_agrees_with_the_label_as_often_as_it_should(cue, reliability):
    pairs = draw_pairs(600, 4, Regime(**{cue: reliability}), held_out=False)
    agreeing = np.mean([getattr(pair, f"{cue}_cue") == pair.label for pair in pairs])
    assert agreeing == pytest.approx(reliability, abs=3.5 * np.sqrt(0.25 / 600) if reliability < 1 else 0)


def test_what_agrees_at_a_lower_reliability_agrees_at_a_higher_one():
    low, high = (draw_pairs(300, 4, Regime(text=r), held_out=False) for r in (0.7, 0.9))
    assert all(b.text_cue == b.label for a, b in zip(low, high, strict=True) if a.text_cue == a.label)
    assert [pair.caption for pair in low] == [pair.caption for pair in high]


def test_useless_content_is_another_scenes_whatever_the_label():
    pairs = draw_pairs(200, 4, Regime(content=0.5, text=1.0), held_out=True)
    assert all(pair.altered == "unrelated" and wrong(pair) for pair in pairs)
    assert all((FILLERS[1] in pair.words.split()) == pair.label for pair in pairs)
    half = draw_pairs(1000, 4, Regime(content=0.75), held_out=False)
    assert np.mean([pair.altered == "unrelated" for pair in half]) == pytest.approx(0.5, abs=3.5 * np.sqrt(0.25 / 1000))


def test_the_mark_is_all_that_a_cue_changes_in_a_picture():
    plain = np.full((SIZE, SIZE, 3), 100, np.uint8)
    no, yes = mark(plain, False), mark(plain, True)
    assert (plain == 100).all()
    for marked in (no, yes):
        changed = (marked != plain).any(-1)
        assert changed.sum() == MARK_SIZE**2 and (marked[changed] == MARK).all()
    assert ((no != plain) & (yes != plain)).sum() == 0


def test_the_planted_axis():
    assert [REGIMES[name].planted for name in ("balanced", "text", "image")] == [0, 1, -1]


def test_the_folder_is_cocos_with_a_label(tmp_path):
    write_planted(tmp_path / "a", 12, 3, REGIMES["image"])
    write_planted(tmp_path / "b", 12, 3, REGIMES["image"])
    pairs, skipped = read_folder(tmp_path / "a")
    assert len(pairs) == 12 and not skipped
    labels = labels_of(find_annotations(tmp_path / "a"))
    expected = draw_pairs(12, 3, REGIMES["image"], held_out=True)
    assert [labels[pair.entry.image_id] for pair in pairs] == [pair.label for pair in expected]
    assert [pair.entry.captions for pair in pairs] == [(pair.words,) for pair in expected]
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) == 13
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)


def test_the_same_scenes_in_every_regime_but_for_the_mark(tmp_path):
    from PIL import Image

    for name, regime in REGIMES.items():
        write_planted(tmp_path / name, 6, 3, regime)
    shown = {
        name: [np.asarray(Image.open(path)).copy() for path in sorted((tmp_path / name).rglob("*.png"))]
        for name in REGIMES
    }
    for pictures in zip(*shown.values(), strict=True):
        for picture in pictures:
            picture[:MARK_SIZE] = 0
        assert all((picture == pictures[0]).all() for picture in pictures)


def test_a_folder_without_labels_is_named(tmp_path):
    file = write_planted(tmp_path, 3, 3, Regime())
    content = json.loads(file.read_text())
    del content["annotations"][1]["label"]
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="label"):
        labels_of(file)


def test_every_word_is_in_the_vocabulary():
    rng, words = np.random.default_rng(0), set(vocabulary())
    for scene in sample(500, 8, held_out=False):
        assert set(describe(scene, rng).split()) <= words
    assert set(FILLERS) < words


@pytest.mark.parametrize("reliability", [0.8, 0.95])
def test_a_prior_of_the_words_is_told_by_all_of_a_caption_and_by_nothing_of_the_picture(reliability):
    """By a bag of words, of the caption or of the scene, fitted to half of the pairs and read off the others."""
    scenes = sample(4000, 3, held_out=False)
    chosen, pairs = pick(scenes, 4000, Regime(words=reliability), np.random.default_rng(0))
    assert [pair.scene for pair in pairs] == [scenes[index] for index in chosen]
    label, cue, filler = (
        np.array([getattr(pair, name) for pair in pairs]) for name in ("label", "words_cue", "text_cue")
    )
    by_chance = 3.5 * np.sqrt(0.25 / 2000)
    assert label.tolist() == [True, False] * 2000
    assert (label == cue).mean() == pytest.approx(reliability, abs=by_chance)
    assert (filler == label).mean() == pytest.approx(0.5, abs=by_chance)
    told = {}
    texts = {"text": [p.caption for p in pairs], "image": [in_order(p.scene, reverse=False) for p in pairs]}
    for name, single in (("text", 0.13), ("image", by_chance)):
        words = CountVectorizer(analyzer=str.split).fit_transform(texts[name])
        fitted = LogisticRegression(max_iter=2000).fit(words[:2000], label[:2000])
        told[name] = fitted.score(words[2000:], label[2000:])
        assert np.abs(((words.toarray() > 0) == label[:, None]).mean(0) - 0.5).max() < single
    assert told["text"] == pytest.approx(reliability, abs=by_chance) and told["image"] < 0.5 + by_chance


def test_beside_a_prior_of_the_words_false_captions_are_wrong_in_one_attribute_as_ever():
    scenes = sample(400, 3, held_out=False)
    chosen, pairs = pick(scenes, 400, Regime(words=0.8), np.random.default_rng(0))
    for pair in pairs:
        assert pair.label == (pair.altered == "") == (not wrong(pair))
        assert pair.words_cue == leans(pair.scene) or not pair.label
    assert [pair.altered for pair in pairs if not pair.label] == list(ATTRIBUTES) * 50
    reversed_ = pick(scenes, 400, Regime(words=0.2), np.random.default_rng(0))[1]
    assert np.mean([p.label == p.words_cue for p in reversed_]) == pytest.approx(0.2, abs=3.5 * np.sqrt(0.25 / 400))
    assert len(set(chosen)) < 400  # those that fit come again


def test_scenes_that_give_no_pairs_for_a_prior_of_the_words_are_an_error():
    alike = [Scene((Group(1, "red", "circle", "left"), Group(1, "red", "circle", "right")))] * 3  # all for a match
    with pytest.raises(DataError, match="none of 3 scenes"):
        pick(alike, 4, Regime(words=1.0), np.random.default_rng(0))


def test_without_a_prior_of_the_words_a_batch_is_any_scenes_each_once():
    scenes = sample(50, 3, held_out=False)
    chosen, pairs = pick(scenes, 50, Regime(text=0.9), np.random.default_rng(0))
    assert sorted(chosen) == list(range(50))
    assert [pair.scene for pair in pairs] == [scenes[index] for index in chosen]


def test_a_share_that_a_batch_cannot_hold_is_held_over_many_batches():
    """0.95 of 32 pairs of a label are 30.4: 30 or 31 in each batch, and 30.4 in the mean."""
    rng = np.random.default_rng(0)
    drawn = np.array([_coins(64, 0.95, rng) for _ in range(1000)])
    for places in (drawn[:, ::2], drawn[:, 1::2]):
        held = places.sum(1)
        assert set(held) == {30, 31} and held.mean() == pytest.approx(30.4, abs=3.5 * np.sqrt(0.24 / 1000))
        assert np.ptp(places.mean(0)) < 0.06  # no place is preferred
