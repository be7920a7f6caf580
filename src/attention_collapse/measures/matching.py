"""Caption against foil from a grid of scores: accuracy, what it loses without a modality, and without interaction.

The grid holds the score of every image with every text; pair i is on its diagonal. A dual encoder gives it from N + N
encodings, so that the expectations over all permutations and the additive projection below are exact. A grid is an
array, or what gives some of its rows at a time: of many pairs it would not fit into memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attention_collapse.measures.record import CONTRIBUTION, Floats, Measure


class Rows(Protocol):
    """A grid of scores of which some rows at a time are in memory."""

    def __len__(self) -> int:
        """Number of pairs."""

    def row_blocks(self) -> Iterator[tuple[int, Floats]]:
        """(position of the first image, (image, text) scores) of consecutive images, all in turn."""


Grid: TypeAlias = Sequence[Sequence[float]] | NDArray[np.float64] | Rows


def row_blocks(grid: Grid) -> Iterator[tuple[int, Floats]]:
    """(position of the first image, its scores and those of the images after it) of a grid; an array is one block.

    Examples
    --------
    >>> [(start, block.shape) for start, block in row_blocks([[2.0, 1.0], [3.0, 0.0]])]
    [(0, (2, 2))]
    """
    if isinstance(grid, Sequence | np.ndarray):
        yield 0, np.asarray(grid, np.float64)
    else:
        yield from grid.row_blocks()


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


def accuracy(grid: Grid, foils: ArrayLike, lead: float = 0.0) -> Floats:
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
    foil, found = np.asarray(foils), []
    for start, s in row_blocks(grid):
        rows = np.arange(len(s))
        found.append(won(s[rows, start + rows], s[rows, foil[start + rows]], lead))
    return np.concatenate(found)


def _numbers(same: ArrayLike | None, n: int) -> NDArray[np.int64]:
    """A number for each pair: those with one number are no others to each other; None: all differ."""
    return np.arange(n) if same is None else np.asarray(same)


def accuracy_without_image(grid: Grid, foils: ArrayLike, lead: float = 0.0, same: ArrayLike | None = None) -> Floats:
    """Per pair: the expectation of `accuracy` with another pair's image, over all of them.

    `same`: (pair,) numbers; pairs with one number are no others to each other.

    Examples
    --------
    >>> accuracy_without_image([[2.0, 1.0], [3.0, 0.0]], foils=[1, 0]).tolist()  # the other image: 3 > 0, 1 < 2
    [1.0, 0.0]
    """
    foil = np.asarray(foils)
    return blind(grid, np.arange(len(foil)), foil, _numbers(same, len(foil)), lead)


def blind(grid: Grid, owners: ArrayLike, foils: ArrayLike, same: ArrayLike, lead: float = 0.0) -> Floats:
    """Per foil: is the caption of its owner preferred to it, on average over the images of others than the owner?

    Parameters
    ----------
    owners, foils
        (foil,) positions of the captions and of the foils among the grid's texts.
    same
        (pair,) numbers; the images of pairs with the owner's number are left out.

    Examples
    --------
    >>> blind([[2.0, 1.0], [3.0, 0.0]], owners=[0], foils=[1], same=[0, 1]).tolist()  # the other image: 3 > 0
    [1.0]
    """
    own, foil, number = np.asarray(owners), np.asarray(foils), np.asarray(same)
    wins, counts = np.zeros(len(own)), np.zeros(len(own))
    for start, s in row_blocks(grid):
        others = number[start : start + len(s), None] != number[own]  # (image, foil)
        wins += np.where(others, won(s[:, own], s[:, foil], lead), 0.0).sum(0)
        counts += others.sum(0)
    return wins / counts


def accuracy_without_text(grid: Grid, foils: ArrayLike, lead: float = 0.0, same: ArrayLike | None = None) -> Floats:
    """Per pair: the expectation of `accuracy` with another pair's caption in place of its own, over all of them.

    Examples
    --------
    >>> accuracy_without_text([[2.0, 1.0], [3.0, 0.0]], foils=[1, 0]).tolist()  # the other caption is the foil: a tie
    [0.5, 0.5]
    """
    foil, found = np.asarray(foils), []
    number = _numbers(same, len(foil))
    for start, block in row_blocks(grid):
        rows, s = np.arange(len(block)), block[:, : len(foil)]  # no text beside the captions
        others = number[start + rows, None] != number
        wins = np.where(others, won(s, s[rows, foil[start + rows]][:, None], lead), 0.0)  # (image, other text)
        found.append(wins.sum(1) / others.sum(1))
    return np.concatenate(found)


def margins(grid: Grid) -> tuple[Floats, Floats, float]:
    """Mean of each row, of each column, and of all scores of a grid's n images with its first n texts.

    Examples
    --------
    >>> rows, columns, mean = margins([[1.0, 3.0], [5.0, 7.0]])
    >>> rows.tolist(), columns.tolist(), mean
    ([2.0, 6.0], [3.0, 5.0], 4.0)
    """
    rows, total = [], np.zeros(len(grid))
    for _, block in row_blocks(grid):
        s = block[:, : len(grid)]
        rows.append(s.mean(1))
        total = total + s.sum(0)
    means = np.concatenate(rows)
    columns = total / len(means)
    return means, columns, float(columns.mean())


def accuracy_additive(grid: Grid, foils: ArrayLike, lead: float = 0.0) -> Floats:
    """`accuracy` of the additive function f(image) + g(text) nearest to the grid in least squares: row mean + column
    mean − grand mean (EMAP, Hessel & Lee 2020).

    Examples
    --------
    >>> accuracy_additive([[2.0, 1.0], [3.0, 0.0]], foils=[1, 0]).tolist()  # the first text is the better, of any image
    [1.0, 0.0]
    """
    foil = np.asarray(foils)
    rows, columns, mean = margins(grid)
    return won(rows + columns - mean, rows + columns[foil] - mean, lead)


def additive_without_own(grid: ArrayLike) -> Floats:
    """The additive projection at each pair, fitted without that pair's image or caption meeting each other.

    With few images a pair's own score would leak into its row's and column's means, and a model that is all
    interaction would look additive. Equal to the projection of `accuracy_additive` on the diagonal of an additive grid.

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
