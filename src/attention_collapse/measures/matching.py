"""Caption against foil from a grid of scores: accuracy, what it loses without a modality, and without interaction.

The grid holds the score of every image with every text; pair i is on its diagonal. A dual encoder gives it from N + N
encodings, so that the expectations over all permutations and the additive projection below are exact.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attention_collapse.measures.record import CONTRIBUTION, Floats, Measure


def won(own: Floats, other: Floats, lead: float = 0.0) -> Floats:
    """1 where the caption scores above the foil, ½ for a tie, 0 below; NaN stays NaN.

    `lead` is added to the caption's score: what a lead of the scores' rounding error wins, and one of its negative
    loses, is too close to call.

    Examples
    --------
    >>> won(np.array([2.0, 1.0, 0.0]), np.array([1.0, 1.0, 1.0])).tolist()
    [1.0, 0.5, 0.0]
    """
    ahead = own + lead
    return np.where(np.isnan(ahead - other), np.nan, (ahead > other) + 0.5 * (ahead == other))


def accuracy(grid: ArrayLike, foils: ArrayLike, lead: float = 0.0) -> Floats:
    """Per pair: does the image score its caption above the foil?

    Parameters
    ----------
    grid
        (image, text) scores.
    foils
        (image,) position of each image's foil, another pair's caption.
    lead
        As of `won`.

    Returns
    -------
    ndarray
        (image,): 1, 0, or ½ for a tie; its mean is the accuracy, 0 to 1, chance 0.5.

    Examples
    --------
    >>> accuracy([[2.0, 1.0], [3.0, 0.0]], foils=[1, 0]).tolist()  # 2 > 1, but 0 < 3
    [1.0, 0.0]
    """
    s, foil = np.asarray(grid, np.float64), np.asarray(foils)
    rows = np.arange(len(s))
    return won(s[rows, rows], s[rows, foil], lead)


def _others(same: ArrayLike | None, n: int) -> NDArray[np.bool_]:
    """(pair, pair): whether one is another to the other; `same` holds a number for each pair, None: all differ."""
    own = np.arange(n) if same is None else np.asarray(same)
    found: NDArray[np.bool_] = own[:, None] != own
    return found


def accuracy_without_image(
    grid: ArrayLike, foils: ArrayLike, lead: float = 0.0, same: ArrayLike | None = None
) -> Floats:
    """Per pair: the expectation of `accuracy` with another pair's image, over all of them.

    `same`: (pair,) numbers; pairs with one number are no others to each other.

    Examples
    --------
    >>> accuracy_without_image([[2.0, 1.0], [3.0, 0.0]], foils=[1, 0]).tolist()  # the other image: 3 > 0, 1 < 2
    [1.0, 0.0]
    """
    s, foil = np.asarray(grid, np.float64), np.asarray(foils)
    others = _others(same, len(s))
    wins = np.where(others, won(s, s[:, foil], lead), 0.0)  # (other image, pair): its caption against its foil
    expected: Floats = wins.sum(0) / others.sum(0)
    return expected


def accuracy_without_text(
    grid: ArrayLike, foils: ArrayLike, lead: float = 0.0, same: ArrayLike | None = None
) -> Floats:
    """Per pair: the expectation of `accuracy` with another pair's caption in place of its own, over all of them.

    Examples
    --------
    >>> accuracy_without_text([[2.0, 1.0], [3.0, 0.0]], foils=[1, 0]).tolist()  # the other caption is the foil: a tie
    [0.5, 0.5]
    """
    s, foil = np.asarray(grid, np.float64), np.asarray(foils)
    rows, others = np.arange(len(s)), _others(same, len(s))
    wins = np.where(others, won(s, s[rows, foil][:, None], lead), 0.0)  # (image, other text)
    expected: Floats = wins.sum(1) / others.sum(1)
    return expected


def additive_projection(grid: ArrayLike) -> Floats:
    """The additive function f(image) + g(text) nearest to the grid in least squares: EMAP (Hessel & Lee 2020).

    Row mean + column mean − grand mean.
    """
    s = np.asarray(grid, np.float64)
    projected: Floats = s.mean(1, keepdims=True) + s.mean(0, keepdims=True) - s.mean()
    return projected


def additive_without_own(grid: ArrayLike) -> Floats:
    """The additive projection at each pair, fitted without that pair's image or caption meeting each other.

    With few images a pair's own score would leak into its row's and column's means, and a model that is all
    interaction would look additive. Equal to `additive_projection` on the diagonal of an additive grid.

    Parameters
    ----------
    grid
        (image, text) scores of n ≥ 2 pairs.

    Returns
    -------
    ndarray
        (n,) scores.
    """
    s = np.asarray(grid, np.float64)
    n, own = len(s), np.diag(s)
    rows, columns = s.sum(1) - own, s.sum(0) - own
    rest = s.sum() - rows - columns - own  # cells without the pair's image and without its text
    found: Floats = rows / (n - 1) + columns / (n - 1) - rest / (n - 1) ** 2
    return found


def perceptual_score_image(right: Floats, right_without_image: Floats) -> Floats:
    """Accuracy lost with another pair's image, −1 to 1 (Gat et al. 2021)."""
    return right - right_without_image


def perceptual_score_text(right: Floats, right_without_text: Floats) -> Floats:
    """Accuracy lost with another pair's text, −1 to 1 (Gat et al. 2021)."""
    return right - right_without_text


def emap_gap(right: Floats, right_additive: Floats) -> Floats:
    """Accuracy lost by the additive projection of the scores, −1 to 1 (Hessel & Lee 2020)."""
    return right - right_additive


def _right(right: Floats) -> Floats:
    return right


MATCHING = (
    Measure(
        _right, "accuracy against a foil", "does the score prefer the caption to another pair's? ½ for a tie",
        "accuracy", 0, 1, name="accuracy", null=0.5, about=CONTRIBUTION, heading="accuracy",
    ),
    Measure(
        perceptual_score_image, "perceptual score, image", "accuracy lost with another image", "accuracy", -1, 1,
        null=0.0, about=CONTRIBUTION, image_ignored=-1, heading="lost: image",
    ),
    Measure(
        perceptual_score_text, "perceptual score, text", "accuracy lost with another text", "accuracy", -1, 1,
        null=0.0, about=CONTRIBUTION, text_ignored=-1, heading="lost: text",
    ),
    Measure(
        emap_gap, "EMAP gap", "accuracy lost by the additive projection of the scores", "accuracy", -1, 1, null=0.0,
        about=CONTRIBUTION, image_ignored=-1, text_ignored=-1, heading="EMAP gap",
        absent="needs the score of every image with every text, N × N passes of this model",
    ),
)  # fmt: skip
