"""What is read of the scores of candidates: answers by hand, and laws that models of known use obey."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from attention_collapse.data.questions import Asked, located
from attention_collapse.engine.answering import answer_measures, answer_scores
from attention_collapse.engine.answers import (
    INCOMPETENT,
    NOTHING_TO_SWAP,
    baselines,
    question_only,
    summarise_answers,
    swaps,
)
from attention_collapse.errors import DataError
from attention_collapse.measures.answers import ANSWER_MEASURES, chosen, credit, log_odds
from attention_collapse.models.answering import Answering, question_and_answer
from attention_collapse.models.interface import Batch, Without
from attention_collapse.params import Stats

COLOURS = {"red": (250, 0, 0), "green": (0, 250, 0), "blue": (0, 0, 250), "black": (0, 0, 0)}
STATS = Stats(n_resamples=200)


class Known(Answering):
    """Answers by a function of (colour of the image, question, answer) that gives a log-likelihood."""

    def __init__(self, function):
        self.function, self.name, self.module, self.answers = function, "known", None, None
        self.image_encoder = self.image_inputs = Without("a function")

    def pairs(self, pictures, captions):
        return Batch(
            [(picture.getpixel((0, 0)), text) for picture, text in zip(pictures, captions, strict=True)], (), {}, ()
        )

    def score(self, batch):
        found = []
        for pixel, text in batch.inputs:
            colour = next((name for name, rgb in COLOURS.items() if rgb == pixel), "mean")
            found.append(self.function(colour, *question_and_answer(text)))
        return torch.tensor(found)


def right_of(colour, question):
    """Three wordings, whose answer the image decides: what it is, whether it is red, and whether it is blue."""
    if question == "what colour?":
        return colour
    return "yes" if colour == question.removeprefix("is it ").removesuffix("?") else "no"


WORDINGS = ("what colour?", "is it red?", "is it blue?")
ALL = ("yes", "no", *COLOURS)


@pytest.fixture
def questions(tmp_path):
    asked = []
    for number in range(48):
        colour = list(COLOURS)[number % 4]
        Image.new("RGB", (8 + number, 8), COLOURS[colour]).save(tmp_path / f"{number}.png")
        wording = WORDINGS[number % 3]
        asked.append(
            Asked(str(number), str(number), f"{number}.png", wording, ((right_of(colour, wording), 1.0),), ALL)
        )
    return located(asked, tmp_path)[0]


def table_of(function, questions, **other):
    settings = {"partners": 4, "seed": 0, "batch_size": 16} | other
    return answer_measures(Known(function), questions, **settings)


def perfect(colour, question, answer):
    return 5.0 * (right_of(colour, question) == answer)


def test_log_odds_are_those_of_the_softmax_over_the_candidates():
    scores = np.log(np.array([[[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]])) + 7.0  # a constant changes nothing
    assert log_odds(scores, [0])[0] == pytest.approx([math.log(0.2 / 0.8), math.log(0.6 / 0.4)])
    padded = np.concatenate([scores, np.full((1, 2, 1), -np.inf)], 2)
    assert log_odds(padded, [0]) == pytest.approx(log_odds(scores, [0]))


@given(st.lists(st.floats(-20, 20), min_size=2, max_size=6), st.integers(0, 5), st.floats(-50, 50))
def test_two_candidates_log_odds_are_their_difference_and_a_shift_is_nothing(values, place, shift):
    place %= len(values)
    scores = np.array(values)[None, None]
    found = log_odds(scores, [place])[0, 0]
    assert log_odds(scores + shift, [place])[0, 0] == pytest.approx(found, abs=1e-9)
    if len(values) == 2:
        assert found == pytest.approx(values[place] - values[1 - place])
    assert (found > 0) <= (values[place] >= max(values) - 1e-12)  # more than even odds: none is likelier


def test_credit_is_that_of_the_best_and_of_several_best_their_mean():
    scores = np.array([[[1.0, 2.0, 0.0], [3.0, 3.0, 0.0], [np.nan, 0.0, 0.0]]])
    assert credit(scores, [[0.0, 1.0, 0.3]])[0] == pytest.approx([1.0, 0.5, np.nan], nan_ok=True)
    assert chosen(scores)[0].tolist() == [1, 0, -1]
    constant = np.zeros((1, 1, 4))
    assert credit(constant, [[1.0, 0, 0, 0]])[0, 0] == 0.25  # whatever the order of the candidates


def test_one_who_sees_all_is_right_and_loses_by_either_swap(questions):
    table = table_of(perfect, questions)
    assert (table["answer_accuracy"] == 1).all()
    assert 0 < table["answer_accuracy_blind"].mean() < 1
    summary = summarise_answers(table, STATS)
    assert summary["reliance_image"]["mean"] > 0.1
    assert summary["answer_flip_image"]["mean"] > 0.1
    assert (table["answer_lost_image"] == 1 - table["answer_accuracy_blind"]).all()
    assert (table["answer_lost_question"] == 1 - table["answer_accuracy_image_only"]).all()


def test_one_who_never_looks_has_no_reliance_on_the_image_and_its_blind_accuracy_is_its_accuracy(questions):
    table = table_of(lambda _c, q, a: {"what colour?": {"red": 2.0}}.get(q, {"no": 1.5}).get(a, 0.0), questions)
    assert (table["answer_accuracy"] == table["answer_accuracy_blind"]).all()
    for name in ("lost_image", "answer_flip_image", "answer_lost_image", "shapley_image"):
        assert (table[name] == 0).all(), name
    assert summarise_answers(table, STATS)["reliance_image"]["mean"] == 0


def test_one_who_never_reads_has_no_reliance_on_the_question(questions):
    table = table_of(lambda c, _q, a: {"red": 3.0, "no": 2.5}.get(a, 0.0) + 2.0 * (a == c), questions)
    for name in ("lost_text", "answer_flip_question", "answer_lost_question", "shapley_text"):
        assert (table[name] == 0).all(), name
    assert (table["answer_accuracy"] == table["answer_accuracy_image_only"]).all()
    assert (table["lost_image"] > 0).any()


def test_a_score_that_image_and_question_share_without_the_answer_is_nothing(questions):
    """It is not identified by any candidate: a decoder's probability of the question, say."""
    plain = table_of(perfect, questions)
    moved = table_of(lambda c, q, a: perfect(c, q, a) + 10 * len(q) + 3 * len(c), questions)
    pd.testing.assert_frame_equal(plain, moved, atol=1e-5)


def test_no_better_than_a_constant_answer_is_no_reliance(questions):
    summary = summarise_answers(table_of(lambda c, _q, a: 0.1 * len(c) + (a == "no"), questions), STATS)
    for name in ("reliance_image", "reliance_text", "reliance_share", "shapley_share"):
        assert math.isnan(summary[name]["mean"])
        assert summary[name]["reason"].startswith(INCOMPETENT), name
    assert summary["answer_accuracy"]["mean"] == summary["accuracy_constant"]["mean"] == pytest.approx(24 / 48)
    assert not math.isnan(summary["answer_flip_image"]["mean"])
    competent = summarise_answers(table_of(perfect, questions), STATS)
    assert "reason" not in competent["reliance_image"]


def test_each_image_and_wording_swapped_in_is_another_and_no_two_belong_together():
    rng = np.random.default_rng(0)
    images, wordings = rng.integers(0, 20, 300), rng.integers(0, 5, 300)
    image, question = swaps(images, wordings, 6, 3)
    assert image.shape == question.shape == (300, 6)
    assert (images[image] != images[:, None]).all()
    assert (wordings[question] != wordings[:, None]).all()
    assert (images[question] != images[image]).all()
    again = swaps(images, wordings, 6, 3)
    assert (again[0] == image).all()
    assert (swaps(images, wordings, 6, 4)[0] != image).any()


def test_questions_of_one_wording_swap_no_question_and_two_images_swap_nothing(questions):
    alike = [one for one in questions if one.asked.question == WORDINGS[0]]
    table = table_of(perfect, alike)
    assert table["answer_accuracy_image_only"].isna().all()
    assert table["answer_accuracy_blind"].notna().all()
    summary = summarise_answers(table, STATS)
    assert summary["answer_accuracy_image_only"]["reason"] == NOTHING_TO_SWAP
    assert summary["reliance_text"]["reason"] == NOTHING_TO_SWAP
    few = table_of(perfect, questions[:2])
    assert few["answer_accuracy"].notna().all()
    assert few["answer_accuracy_blind"].isna().all()


def test_candidates_of_different_number_are_each_a_questions_own(questions):
    from dataclasses import replace

    fewer = [
        replace(one, asked=replace(one.asked, candidates=("yes", "no")))
        if one.asked.question != WORDINGS[0] else one for one in questions
    ]  # fmt: skip
    table = table_of(perfect, fewer)
    assert (table["answer_accuracy"] == 1).all()
    two = [one.asked.question != WORDINGS[0] for one in fewer]
    assert table["score"][two].to_numpy() == pytest.approx(5.0, abs=1e-6)  # log-odds of two: their difference
    with pytest.raises(DataError, match="1 questions without candidates"):
        answer_scores(Known(perfect), [replace(questions[0], asked=replace(questions[0].asked, candidates=()))],
                      partners=1, seed=0, batch_size=4)  # fmt: skip


def asked(number, answer, text="what?", image=None, candidates=("a", "b", "c")):
    answers = answer if isinstance(answer, tuple) else ((answer, 1.0),)
    return Asked(str(number), image or str(number), "x.png", text, answers, candidates)


def test_the_best_constant_answer_and_guessing_by_hand():
    some = [asked(n, answer) for n, answer in enumerate("aaab")]
    assert baselines(some)[0].tolist() == [1, 1, 1, 0]
    apart = [asked(n, f"{n}x", candidates=(f"{n}x", f"{n}y")) for n in range(4)]
    assert baselines(apart)[0].tolist() == [0.5] * 4  # one answer is right once in four, guessing once in two
    soft = [asked(1, (("a", 1.0), ("b", 2 / 3))), asked(2, (("b", 1.0),)), asked(3, (("b", 2 / 3), ("c", 1 / 3)))]
    assert baselines(soft)[0] == pytest.approx([2 / 3, 1, 2 / 3])


def test_the_question_only_answer_counts_elsewhere_and_never_its_own_image():
    train = [asked(n, answer, text) for n, (answer, text) in enumerate(
        [("a", "q"), ("a", "q"), ("b", "q"), ("c", "r"), ("b", "r"), ("b", "s"), ("b", "s")])]  # fmt: skip
    test = [asked(10, "a", "Q "), asked(11, "b", "q"), asked(12, "c", "r"), asked(13, "b", "unseen")]
    assert baselines(test, train)[1].tolist() == [1, 0, 0.5, 1]  # a tie of b and c for r; b is right most often
    alone = [asked(1, "a", "only here", "1"), asked(2, "b", "x", "2"), asked(3, "b", "x", "3")]
    worth = [{"a": 1.0}, {"b": 1.0}, {"b": 1.0}]
    assert question_only(alone, worth, None).tolist() == [0, 1, 1]  # its own answer would be right: it does not count
    same = [asked(1, "a", "q", "1"), asked(2, "a", "q", "1"), asked(3, "b", "q", "2"), asked(4, "b", "y", "3")]
    assert question_only(same, [{"a": 1.0}] * 2 + [{"b": 1.0}] * 2, None)[0] == 0  # both of image 1 are its own


def test_questions_of_one_image_are_averaged_before_any_interval(questions):
    table = table_of(perfect, questions)
    table["image_id"] = ["all"] * 24 + [str(n) for n in range(24)]
    summary = summarise_answers(table, STATS)
    assert summary["answer_accuracy"]["n"] == 25
    blind = table["answer_accuracy_blind"]
    expected = np.mean([blind[:24].mean(), *blind[24:]])
    assert summary["answer_accuracy_blind"]["mean"] == pytest.approx(expected)


def test_one_file_under_two_ids_is_one_image(questions):
    from dataclasses import replace

    twin = replace(questions[0], asked=replace(questions[0].asked, id="twin", image="twin"))
    table = table_of(perfect, [*questions, twin])
    assert table["image_id"].iloc[-1] == table["image_id"].iloc[0] == "0"
    assert summarise_answers(table, STATS)["answer_accuracy"]["n"] == 48


def test_no_measure_of_answers_takes_the_name_of_another():
    from attention_collapse.measures.catalogue import MEASURES

    assert not ANSWER_MEASURES.keys() & MEASURES.keys()
