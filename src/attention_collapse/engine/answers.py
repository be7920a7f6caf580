"""What a model's answers to questions depend on: the image, the question, or neither.

The score of a pair is the log-odds of its right answer among its candidates; that answer stays the pair's own when
image or question are another pair's. `engine.answering` scores; what is here reads scores and knows no model.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from attention_collapse.data.entries import normal
from attention_collapse.data.questions import Asked
from attention_collapse.engine.contribution import FEWEST, OF_MEANS, OF_PAIRS, needs_competence, void
from attention_collapse.measures.answers import ANSWER_MEASURES
from attention_collapse.measures.contribution import CONTRIBUTION_MEASURES
from attention_collapse.params import Stats
from attention_collapse.stats import ties
from attention_collapse.stats.of_means import describe_of_means
from attention_collapse.stats.one_sample import describe_columns

COALITIONS = ("both", "image", "text", "neither", "text_mean_image", "neither_mean_image")  # what is the pair's own
INCOMPETENT = "its answers are not shown to be better than the best constant answer"
NOTHING_TO_SWAP = "fewer than 3 different images, or questions of one wording: nothing to swap in"
ATTEMPTS = 1000
SAME = 1e-9  # sums of credits that differ by less differ by the order of adding alone
Totals = dict[str, float]  # answer -> credit


def swaps(images: np.ndarray, wordings: np.ndarray, partners: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Whose image and whose question stand for absent ones: (pair, partner) each, by position of the pair.

    The image is another one, the question has another wording, and the two come from pairs of different images, so
    that nothing swapped in belongs together. −1 where there is no such pair: fewer than 3 images, or one wording.

    Parameters
    ----------
    images, wordings
        (pair,) numbers: pairs with one number share their image (their wording).
    """
    n, rng = len(images), np.random.default_rng([seed, 21])
    if len(np.unique(images)) < FEWEST:
        return np.full((n, partners), -1), np.full((n, partners), -1)
    own_image, own_wording = images[:, None], wordings[:, None]

    def redrawn(wrong_of: Any) -> np.ndarray:
        drawn = rng.integers(n, size=(n, partners))
        for _ in range(ATTEMPTS):
            wrong = wrong_of(drawn)
            if not wrong.any():
                break
            drawn[wrong] = rng.integers(n, size=int(wrong.sum()))
        drawn[wrong_of(drawn)] = -1  # so rare that no draw finds it, or not there at all
        return drawn

    image = redrawn(lambda drawn: images[drawn] == own_image)
    if len(np.unique(wordings)) < 2:
        return image, np.full((n, partners), -1)
    question = redrawn(lambda drawn: (wordings[drawn] == own_wording) | (images[drawn] == images[image]))
    return image, question


def baselines(questions: Sequence[Asked], reference: Sequence[Asked] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """What two ways to answer without looking are worth, (pair,) each: see `constant` and `question_only`.

    Parameters
    ----------
    reference
        The questions that were trained on. None: to answer a question, those about other images are counted.
    """
    worth = [{normal(answer): value for answer, value in one.answers} for one in questions]
    return constant(questions, worth), question_only(questions, worth, reference)


def constant(questions: Sequence[Asked], worth: Sequence[Mapping[str, float]]) -> np.ndarray:
    """Credit of the one answer that is worth most over all these questions, or of guessing, if that is worth more.

    Guessing is among a question's candidates, each with equal chance; it wins where candidates differ by question.
    """
    totals: dict[str, float] = defaultdict(float)
    for one, values in zip(questions, worth, strict=True):
        for candidate in one.candidates or values:
            totals[normal(candidate)] += values.get(normal(candidate), 0.0)
    best = min(totals, key=lambda answer: (-totals[answer], answer))
    said = np.array([values.get(best, 0.0) for values in worth])
    guessed = np.array([
        np.mean([values.get(normal(candidate), 0.0) for candidate in one.candidates]) if one.candidates else 0.0
        for one, values in zip(questions, worth, strict=True)
    ])  # fmt: skip
    return said if said.mean() >= guessed.mean() else guessed


def question_only(
    questions: Sequence[Asked], worth: Sequence[Mapping[str, float]], reference: Sequence[Asked] | None
) -> np.ndarray:
    """Credit of the answer that is worth most over the reference's questions of the same wording.

    A wording that the reference does not have gets the answer that is worth most over all of it; of several answers
    that are worth most, the mean. Without a reference the questions about other images are it, so that no pair counts
    for itself.
    """
    every: dict[str, Totals] = defaultdict(lambda: defaultdict(float))  # "" stands for all wordings
    of_image: dict[tuple[str, str], Totals] = defaultdict(lambda: defaultdict(float))
    for one in questions if reference is None else reference:
        for answer, value in one.answers:
            for wording in (normal(one.question), ""):
                every[wording][normal(answer)] += value
                of_image[one.image, wording][normal(answer)] += value

    def counted(one: Asked, wording: str) -> Totals:
        """What each of the question's candidates is worth elsewhere; none that is worth nothing."""
        own = of_image.get((one.image, wording), {}) if reference is None else {}
        left = {answer: total - own.get(answer, 0.0) for answer, total in every.get(wording, {}).items()}
        allowed = {normal(candidate) for candidate in one.candidates} or set(left)
        return {answer: total for answer, total in left.items() if answer in allowed and total > SAME}

    found = []
    for one, values in zip(questions, worth, strict=True):
        left = counted(one, normal(one.question)) or counted(one, "")
        most = max(left.values(), default=0.0)
        best = [answer for answer, total in left.items() if total > most - SAME]
        found.append(float(np.mean([values.get(answer, 0.0) for answer in best])) if best else 0.0)
    return np.array(found)


def answer_columns(
    odds: Mapping[str, np.ndarray], credits: Mapping[str, np.ndarray], picked: Mapping[str, np.ndarray],
    constant_worth: np.ndarray, question_only_worth: np.ndarray,
) -> pd.DataFrame:  # fmt: skip
    """Every measure of answers, and every one of contribution that four coalitions give, a row per pair.

    Parameters
    ----------
    odds, credits, picked
        Name of `COALITIONS` -> (pair, 1 or partner): log-odds of the right answer in nats, what the answer is worth,
        and which candidate it is (−1: undefined).
    constant_worth, question_only_worth
        (pair,) of `baselines`.
    """
    cells: dict[str, Any] = dict(odds)
    cells |= {f"credit_{name}": values for name, values in credits.items()}
    cells |= {f"chosen_{name}": values for name, values in picked.items()}
    cells |= {"credit_constant": constant_worth, "credit_question_only": question_only_worth}
    found = {}
    for name, measure in (ANSWER_MEASURES | OF_PAIRS).items():
        if measure.is_possible("", cells):
            found[name] = cells[name] = measure.of(cells)
    return pd.DataFrame(found)


def summarise_answers(table: pd.DataFrame, stats: Stats) -> dict[str, Any]:
    """Mean and interval over images of each measure of `answer_columns`; the questions of an image are averaged first.

    A model whose answers are not shown to be better than the best constant answer has no reliance and no share of what
    they depend on: all are void, with that reason.
    """
    by_image = table.groupby("image_id", sort=True).mean(numeric_only=True)
    columns = {name: by_image[name] for name in by_image if name in ANSWER_MEASURES or name in OF_PAIRS}
    result: dict[str, Any] = dict(
        describe_columns(
            columns, confidence=stats.confidence, n_resamples=stats.n_resamples, rng=np.random.default_rng(stats.seed)
        )
    )
    for name, measure in OF_MEANS.items():
        if all(key in by_image for key in measure.inputs) and not measure.absent.startswith("needs the score of every"):
            made_of = [by_image[key] for key in measure.inputs]
            result[name] = describe_of_means(
                made_of, measure.of_means, confidence=stats.confidence, n_resamples=stats.n_resamples, rng=stats.seed
            )
    for name, summary in result.items():
        measure = (ANSWER_MEASURES | CONTRIBUTION_MEASURES)[name]
        inputs = measure.inputs if measure.level == "means" else (name,)
        if any(by_image[key].isna().all() for key in inputs if key in by_image):
            summary["reason"] = NOTHING_TO_SWAP
    if reason := incompetence(result):
        result |= {name: void(summary, reason) for name, summary in result.items() if void_if_incompetent(name)}
    return result


def void_if_incompetent(name: str) -> bool:
    """Whether the measure of that name is void for a model whose answers are no better than a constant."""
    return name not in ANSWER_MEASURES and needs_competence(name)


def incompetence(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Why a model's answers are not worth taking apart; "" if they are.

    Competent is a model whose accuracy, question by question, is shown to be above that of the best constant answer: by
    the lower end of the interval of the difference or, without one (all alike), by the difference itself.
    """
    gain, accuracy, base = (results[n] for n in ("gain_over_constant", "answer_accuracy", "accuracy_constant"))
    low = gain["ci_low"] if np.isfinite(gain["ci_low"]) else gain["mean"]
    if gain["n"] and ties.above(low, 0.0):
        return ""
    return f"{INCOMPETENT}: accuracy {accuracy['mean']:.3f}, constant {base['mean']:.3f}"
