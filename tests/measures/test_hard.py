from itertools import permutations

import numpy as np
import pytest

from attention_collapse.measures.contribution import CONTRIBUTION_MEASURES
from attention_collapse.measures.hard import HARD, choices, group, of_pairs, perceptual_image_hard

RNG = np.random.default_rng(0)


def test_known_answers():
    # Caption 3 against foils 1, 3 and 5 of the same pair: 1, ½ and 0; the next pair has none, the last one.
    own, foil = np.array([[3.0], [3.0], [3.0], [7.0]]), np.array([[1.0], [3.0], [5.0], [2.0]])
    assert choices(own, foil).tolist() == [1.0, 0.5, 0.0, 1.0]
    found = of_pairs(choices(own, foil), [0, 0, 0, 2], 3)
    assert found[[0, 2]].tolist() == [0.5, 1.0] and np.isnan(found[1])
    # Over two images: caption above the foil with the first, below it with the second.
    assert choices([[2.0, 0.0]], [[1.0, 1.0]]).tolist() == [0.5]


def test_a_score_without_ties_that_means_nothing_has_a_group_score_of_one_in_six():
    every = np.array(list(permutations(range(4))), float)  # both own scores, then both crossed ones
    assert group(every[:, :2], every[:, 2:]).mean() == pytest.approx(1 / 6)
    assert next(m for m in HARD if m.name == "group_score").null == pytest.approx(1 / 6)


@pytest.mark.parametrize(
    ("own", "crossed", "score"),
    [
        ([3, 4], [1, 2], 1),
        ([3, 2], [2.5, 1], 0),  # the second image prefers the first caption
        ([3, 4], [1, 3], 0),  # a tie is no group
        ([0, 10], [1, -1], 0),  # right on average, wrong for one image
    ],
)
def test_both_captions_have_to_be_right_for_both_images(own, crossed, score):
    assert group([own], [crossed]).tolist() == [score]


def test_a_score_that_does_not_use_the_image_has_no_group_and_loses_nothing_without_it():
    prior = RNG.normal(size=(50, 2))
    assert (group(prior, prior[:, ::-1]) == 0).all()  # each image scores the two captions alike
    own, foil = RNG.normal(size=(2, 20, 1))
    everywhere = choices(np.repeat(own, 9, 1), np.repeat(foil, 9, 1))
    assert (perceptual_image_hard(choices(own, foil), everywhere) == 0).all()


def test_any_increasing_map_of_the_score_leaves_the_decisions():
    own, foil = RNG.normal(size=(2, 30, 4))
    for change in (np.exp, lambda x: 7 * x - 100, lambda x: x**3):
        assert np.array_equal(choices(change(own), change(foil)), choices(own, foil))
        assert np.array_equal(group(change(own[:, :2]), change(foil[:, :2])), group(own[:, :2], foil[:, :2]))


def test_a_lead_wins_what_is_too_close_to_call_and_nothing_else():
    assert choices([[1.0, 5.0]], [[1.1, 9.0]], lead=0.2).tolist() == [0.5]
    assert group([[1.0, 1.0]], [[1.1, 0.0]], lead=0.2).tolist() == [1.0]


def test_the_records_say_why_a_data_set_may_lack_them():
    for name in ("accuracy_hard", "blind_accuracy", "perceptual_image_hard"):
        assert CONTRIBUTION_MEASURES[name].absent == "the pairs have no hard foils"
    assert CONTRIBUTION_MEASURES["group_score"].absent
    assert CONTRIBUTION_MEASURES["perceptual_image_hard"].image_ignored == -1
