"""What a model's answers to questions depend on: the image, the question, or neither.

The texts that the scoring engine scores are questions with one candidate each, so that every model, every batch and
every resumed run goes through the code that captions go through. The score of a pair is the log-odds of its right
answer among its candidates; that answer stays the pair's own when image or question are another pair's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from attention_collapse.data.coco import normal
from attention_collapse.data.questions import Asked, Located
from attention_collapse.engine.contribution import FEWEST, OF_MEANS, OF_PAIRS, described, needs_competence, void
from attention_collapse.engine.scoring import Cells, score_texts
from attention_collapse.errors import DataError
from attention_collapse.measures.answers import ANSWER_MEASURES, chosen, credit, log_odds
from attention_collapse.measures.contribution import CONTRIBUTION_MEASURES
from attention_collapse.models.answering import Answering, asked
from attention_collapse.params import Stats
from attention_collapse.stats import ties
from attention_collapse.stats.of_means import describe_of_means

COALITIONS = ("both", "image", "text", "neither", "text_mean_image", "neither_mean_image")  # what is the pair's own
INCOMPETENT = "its answers are not shown to be better than the best constant answer"
NOTHING_TO_SWAP = "fewer than 3 images, or questions of one wording: nothing to swap in"
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


def answer_scores(
    model: Answering, questions: Sequence[Located], *, partners: int, seed: int, batch_size: int,
    work: Path | None = None, identity: str = "",
) -> dict[str, np.ndarray]:  # fmt: skip
    """Log-likelihoods of each pair's candidates, with its own image and question and with another pair's.

    Parameters
    ----------
    questions
        Each with 2 candidates or more, the right answer among them.
    work, identity
        As of `engine.contribution.contributions`.

    Returns
    -------
    dict
        Name of `COALITIONS` -> (pair, 1 or partner, candidate) in nats, −∞ where a pair has fewer candidates than
        another; NaN where there is no image (no question) to swap in.

    Raises
    ------
    DataError
        A question has no candidates; a score is NaN or infinite.
    """
    if lacking := [one.asked.id for one in questions if len(one.asked.candidates) < 2]:
        raise DataError(
            f"{len(lacking)} questions without candidates ({', '.join(lacking[:3])})",
            expected="2 candidates or more for each question",
            remedy="give each the most frequent answers (`data.questions.most_frequent`, `with_candidates`)",
        )
    n, width = len(questions), max(len(one.asked.candidates) for one in questions)
    files = {one.sha256: one.path for one in questions}
    place = {digest: index for index, digest in enumerate(files)}
    images = np.array([place[one.sha256] for one in questions])
    wordings = np.unique([normal(one.asked.question) for one in questions], return_inverse=True)[1]
    image, question = swaps(images, wordings, partners, seed)
    texts: dict[str, int] = {}

    def text_of(pair: int, other: int) -> list[int]:
        """Places of the texts that put the other's question to this pair's candidates."""
        mine = questions[pair].asked.candidates
        said = [asked(questions[other].asked.question, candidate) for candidate in mine]
        found = [texts.setdefault(text, len(texts)) for text in said]
        return found + [found[0]] * (width - len(found))

    own = np.array([text_of(i, i) for i in range(n)])[:, None]  # (pair, 1, candidate)
    others = np.array([[text_of(i, k if k >= 0 else i) for k in row] for i, row in enumerate(question)])
    mine, theirs, mean = images[:, None, None], images[image][..., None], np.full((n, 1, 1), len(files))
    cells: Cells = {
        "both": (mine, own), "image": (mine, others), "text": (theirs, own), "neither": (theirs, others),
        "text_mean_image": (mean, own), "neither_mean_image": (mean, others),
    }  # fmt: skip
    found = score_texts(
        model, list(files.values()), list(texts), cells, captions=len(texts), batch_size=batch_size, work=work,
        identity=f"{identity} partners={partners} seed={seed}",
    )  # fmt: skip
    given = np.array([len(one.asked.candidates) for one in questions])[:, None, None]
    missing = {"image": question < 0, "neither": (question < 0) | (image < 0), "text": image < 0}
    missing["neither_mean_image"] = question < 0
    scores = {}
    for name in COALITIONS:
        values = np.where(np.arange(width) < given, found[name], -np.inf)
        undefined = missing.get(name, np.zeros((n, 1), bool))[..., None]
        scores[name] = np.where(undefined, np.nan, values)
    return scores


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


def answer_measures(
    model: Answering, questions: Sequence[Located], *, partners: int, seed: int, batch_size: int,
    reference: Sequence[Asked] | None = None, work: Path | None = None, identity: str = "",
) -> pd.DataFrame:  # fmt: skip
    """What a model answers and what that depends on, a row per question: image_id, question_id, and every measure.

    Parameters and errors are those of `answer_scores` and `baselines`.
    """
    scores = answer_scores(
        model, questions, partners=partners, seed=seed, batch_size=batch_size, work=work, identity=identity
    )
    plain = [one.asked for one in questions]
    right = np.array([[normal(c) for c in one.candidates].index(normal(one.right)) for one in plain])
    width = scores["both"].shape[2]
    credits = np.array([
        [one.credit(candidate) for candidate in one.candidates] + [0.0] * (width - len(one.candidates))
        for one in plain
    ])  # fmt: skip
    table = answer_columns(
        {name: log_odds(values, right) for name, values in scores.items()},
        {name: credit(values, credits) for name, values in scores.items()},
        {name: chosen(values) for name, values in scores.items()},
        *baselines(plain, reference),
    )
    table.insert(0, "question_id", [one.id for one in plain])
    table.insert(0, "image_id", [one.image for one in plain])
    return table


def summarise_answers(table: pd.DataFrame, stats: Stats) -> dict[str, Any]:
    """Mean and interval over images of each measure of `answer_columns`; the questions of an image are averaged first.

    A model whose answers are not shown to be better than the best constant answer has no reliance and no share of what
    they depend on: all are void, with that reason.
    """
    by_image = table.groupby("image_id", sort=True).mean(numeric_only=True)
    names = [name for name in by_image if name in ANSWER_MEASURES or name in OF_PAIRS]
    result: dict[str, Any] = {name: described(by_image[name], stats) for name in names}
    for name, measure in OF_MEANS.items():
        if all(key in by_image for key in measure.inputs) and not measure.absent.startswith("needs the score of every"):
            columns = [by_image[key] for key in measure.inputs]
            result[name] = describe_of_means(
                columns, measure.of_means, confidence=stats.confidence, n_resamples=stats.n_resamples, rng=stats.seed
            )
    for name, summary in result.items():
        measure = (ANSWER_MEASURES | CONTRIBUTION_MEASURES)[name]
        made_of = measure.inputs if measure.level == "means" else (name,)
        if any(by_image[key].isna().all() for key in made_of if key in by_image):
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
