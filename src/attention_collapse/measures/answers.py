"""What a model answers to questions about images, and what that depends on: docs/measures.md, section 5.

Everything is read of the log-likelihoods of a question's candidates, which mean something only against each other. The
right answer is the pair's own, whatever image or question the model is shown in its place.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from attention_collapse.measures.record import Floats, Measure

ABOUT = "answers"


def log_odds(scores: ArrayLike, right: ArrayLike) -> Floats:
    """Log-odds of the right answer among the candidates: log p − log(1 − p), p by softmax over the candidates.

    Parameters
    ----------
    scores
        (pair, partner, candidate) log-likelihoods in nats, up to a constant of pair and partner; −∞ where a pair has
        fewer candidates than others.
    right
        (pair,) place of the right answer among its candidates.

    Returns
    -------
    ndarray
        (pair, partner) in nats.
    """
    s = np.asarray(scores, np.float64)
    place = np.asarray(right)[:, None, None]
    own = np.take_along_axis(s, place, 2)[..., 0]
    others = s.copy()
    np.put_along_axis(others, place, -np.inf, 2)
    found: Floats = own - logsumexp(others, axis=2)
    return found


def credit(scores: ArrayLike, credits: ArrayLike) -> Floats:
    """What the answer with the highest score is worth: (pair, partner), 0 to 1; of several best, their mean.

    Parameters
    ----------
    scores
        As of `log_odds`.
    credits
        (pair, candidate) what each candidate is worth, 0 to 1.
    """
    s = np.asarray(scores, np.float64)
    best = s == s.max(2, keepdims=True)
    worth = np.asarray(credits, np.float64)[:, None, :]
    found: Floats = np.where(np.isnan(s).any(2), np.nan, (best * worth).sum(2) / np.maximum(best.sum(2), 1))
    return found


def chosen(scores: ArrayLike) -> NDArray[np.int64]:
    """(pair, partner) place of the candidate with the highest score, of several the first; −1: undefined."""
    s = np.asarray(scores, np.float64)
    found: NDArray[np.int64] = np.where(np.isnan(s).any(2), -1, np.nan_to_num(s, nan=0.0).argmax(2))
    return found


def answer_accuracy(credit_both: Floats) -> Floats:
    """What the answer is worth: 1 right, 0 wrong, or VQA's soft accuracy."""
    found: Floats = credit_both.mean(1)
    return found


def answer_accuracy_blind(credit_text: Floats) -> Floats:
    """`answer_accuracy` with another pair's image: what the question alone answers. Mean over partners."""
    found: Floats = credit_text.mean(1)
    return found


def answer_accuracy_image_only(credit_image: Floats) -> Floats:
    """`answer_accuracy` with another pair's question; the right answer stays the pair's own. Mean over partners."""
    found: Floats = credit_image.mean(1)
    return found


def answer_accuracy_neither(credit_neither: Floats) -> Floats:
    """`answer_accuracy` with the image of another pair and the question of a third."""
    found: Floats = credit_neither.mean(1)
    return found


def answer_lost_image(credit_both: Floats, credit_text: Floats) -> Floats:
    """Accuracy lost with another pair's image, −1 to 1 (the perceptual score of Gat et al. 2021)."""
    found: Floats = credit_both.mean(1) - credit_text.mean(1)
    return found


def answer_lost_question(credit_both: Floats, credit_image: Floats) -> Floats:
    """Accuracy lost with another pair's question, −1 to 1."""
    found: Floats = credit_both.mean(1) - credit_image.mean(1)
    return found


def _flipped(own: Floats, swapped: Floats) -> Floats:
    undefined = (own < 0) | (swapped < 0)
    found: Floats = np.where(undefined, np.nan, own != swapped).mean(1)
    return found


def answer_flip_image(chosen_both: Floats, chosen_text: Floats) -> Floats:
    """Share of partners with whose image another answer is chosen, 0 to 1."""
    return _flipped(chosen_both, chosen_text)


def answer_flip_question(chosen_both: Floats, chosen_image: Floats) -> Floats:
    """Share of partners with whose question another answer is chosen, 0 to 1."""
    return _flipped(chosen_both, chosen_image)


def accuracy_constant(credit_constant: Floats) -> Floats:
    """What the best constant answer is worth, chosen on these very questions."""
    return credit_constant


def accuracy_question_only(credit_question_only: Floats) -> Floats:
    """What the most frequent answer to the same wording is worth, counted elsewhere."""
    return credit_question_only


def gain_over_constant(credit_both: Floats, credit_constant: Floats) -> Floats:
    """Accuracy above that of the best constant answer, −1 to 1, pair by pair."""
    found: Floats = credit_both.mean(1) - credit_constant
    return found


def gain_over_question_only(credit_both: Floats, credit_question_only: Floats) -> Floats:
    """Accuracy above that of the most frequent answer to the same wording, −1 to 1, pair by pair."""
    found: Floats = credit_both.mean(1) - credit_question_only
    return found


NO_CANDIDATES = "the questions have no candidates, so no answer is chosen"
ANSWERS = tuple(
    Measure(
        formula, label, definition, unit, low, 1, null=null, about=ABOUT, image_ignored=image, text_ignored=text,
        absent=NO_CANDIDATES,
    )
    for formula, label, definition, unit, low, null, image, text in (
        (answer_accuracy, "accuracy of answers", "is the answer with the highest score right? (or its soft accuracy)",
         "accuracy", 0, "accuracy_constant", 0, 0),
        (answer_accuracy_blind, "blind accuracy of answers", "accuracy with another image: what the question answers",
         "accuracy", 0, None, 0, 0),
        (answer_accuracy_image_only, "image-only accuracy of answers", "accuracy with another question", "accuracy", 0,
         None, 0, 0),
        (answer_accuracy_neither, "accuracy of answers, both swapped", "accuracy with another image and question",
         "accuracy", 0, None, 0, 0),
        (answer_lost_image, "accuracy of answers lost, image", "accuracy of answers lost with another image",
         "accuracy", -1, 0.0, -1, 0),
        (answer_lost_question, "accuracy of answers lost, question", "accuracy of answers lost with another question",
         "accuracy", -1, 0.0, 0, -1),
        (answer_flip_image, "answers that flip, image swapped", "another answer is chosen with another image", "share",
         0, 0.0, -1, 0),
        (answer_flip_question, "answers that flip, question swapped", "another answer is chosen with another question",
         "share", 0, 0.0, 0, -1),
        (accuracy_constant, "accuracy of the best constant answer", "that of one answer to all of these questions",
         "accuracy", 0, None, 0, 0),
        (accuracy_question_only, "accuracy of the best question-only answer",
         "that of the most frequent answer to the same wording", "accuracy", 0, None, 0, 0),
        (gain_over_constant, "gain over the best constant answer", "accuracy of answers less that of the best constant",
         "accuracy", -1, 0.0, 0, 0),
        (gain_over_question_only, "gain over the best question-only answer",
         "accuracy of answers less that of the most frequent answer to the wording", "accuracy", -1, 0.0, -1, 0),
    )
)  # fmt: skip
ANSWER_MEASURES = {measure.name: measure for measure in ANSWERS}
