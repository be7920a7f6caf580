"""Hard foils: the caption against itself with one thing changed, and against nothing but a language prior.

A caption and its hard foil speak of the same things, so matching topics does not help: to prefer the caption, a model
has to read the picture for what was changed, or to find the foil improbable as a sentence. The second is what is left
once the image is another pair's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from attention_collapse.measures.matching import won
from attention_collapse.measures.record import CONTRIBUTION, Floats, Measure


def of_pairs(choices: ArrayLike, owners: ArrayLike, n: int) -> Floats:
    """The mean over each pair's foils.

    Parameters
    ----------
    choices
        (foil,) what `won` gives of each.
    owners
        (foil,) position of the pair that each foil belongs to.
    n
        Number of pairs.

    Returns
    -------
    ndarray
        (pair,), NaN where a pair has no foil.

    Examples
    --------
    >>> of_pairs([1.0, 0.0, 1.0], owners=[0, 0, 2], n=3).tolist()  # the second pair has no foil
    [0.5, nan, 1.0]
    """
    owner = np.asarray(owners, np.int64)
    total = np.bincount(owner, np.asarray(choices, np.float64), minlength=n)
    count = np.bincount(owner, minlength=n)
    found: Floats = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return found


def group(own: ArrayLike, crossed: ArrayLike, lead: float = 0.0) -> Floats:
    """Winoground's group score of two images with two captions (Thrush et al. 2022).

    Parameters
    ----------
    own
        (group, 2) scores of each image with its own caption.
    crossed
        (group, 2) scores of each image with the other's caption.
    lead
        As of `measures.matching.won`.

    Returns
    -------
    ndarray
        (group,): 1 where both images prefer their caption and both captions their image, else 0, also for a tie.

    Examples
    --------
    >>> group([[2.0, 2.0], [2.0, 1.0]], [[1.0, 1.0], [0.0, 1.5]]).tolist()  # 1 < 1.5 in the second group
    [1.0, 0.0]
    """
    right, wrong = np.asarray(own, np.float64), np.asarray(crossed, np.float64)
    found: Floats = (right.min(1) + lead > wrong.max(1)).astype(np.float64)
    return found


def choices(own: ArrayLike, foil: ArrayLike, lead: float = 0.0) -> Floats:
    """(foil,): the mean over the last axis of `won` for scores of shape (foil, image).

    Examples
    --------
    >>> choices([[2.0, 1.0]], [[1.0, 1.0]]).tolist()  # won, tied
    [0.75]
    """
    found: Floats = won(np.asarray(own, np.float64), np.asarray(foil, np.float64), lead).mean(1)
    return found


def accuracy_hard(right_hard: Floats) -> Floats:
    """Per pair: does the score prefer the caption to its hard foils? Their mean, ½ for a tie."""
    return right_hard


def blind_accuracy(right_hard_without_image: Floats) -> Floats:
    """`accuracy_hard` with another pair's image: what a language prior alone answers."""
    return right_hard_without_image


def perceptual_image_hard(right_hard: Floats, right_hard_without_image: Floats) -> Floats:
    """Accuracy against hard foils that is lost with another pair's image, −1 to 1.

    Examples
    --------
    >>> float(perceptual_image_hard(np.float64(0.75), np.float64(0.5)))
    0.25
    """
    return right_hard - right_hard_without_image


def group_score(right_group: Floats) -> Floats:
    """Both captions right for both images: 1 or 0, NaN where a pair is not the first of a group."""
    return right_group


NO_FOILS = "the pairs have no hard foils"
HARD = (
    Measure(
        accuracy_hard, "accuracy against hard foils",
        "does the score prefer the caption to itself with one thing changed? ½ for a tie", "accuracy", 0, 1,
        null=0.5, about=CONTRIBUTION, heading="hard foils", absent=NO_FOILS,
    ),
    Measure(
        blind_accuracy, "blind accuracy", "accuracy against hard foils with another image: a language prior's",
        "accuracy", 0, 1, null=0.5, about=CONTRIBUTION, heading="blind", absent=NO_FOILS,
    ),
    Measure(
        perceptual_image_hard, "perceptual score, image, hard", "accuracy against hard foils lost with another image",
        "accuracy", -1, 1, null=0.0, about=CONTRIBUTION, image_ignored=-1, absent=NO_FOILS,
    ),
    Measure(
        group_score, "group score", "both captions right for both images of a group (Winoground)", "accuracy", 0, 1,
        null=1 / 6, about=CONTRIBUTION, absent="no pair names another image as its partner",
    ),
)  # fmt: skip
