"""Sobol shares: the parts of the image, of the text and of both together in the variance of a score.

The score is that of any image with any text. Of the pairs at hand, every image with every text but its own is a two-way
layout without its diagonal: what matches was not drawn by chance, and would weigh more the fewer pairs there are. Least
squares fits m + a[image] + b[text]; the parts are the variances of the effects a and b, less what noise puts into them,
and that of the residuals (Sobol 1993, for the shares; Searle, Casella & McCulloch 1992, "Variance Components", for
estimates by moments).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attention_collapse.measures.matching import Grid, row_blocks
from attention_collapse.measures.record import CONTRIBUTION, Floats, Measure
from attention_collapse.measures.reliance import NO_GRID, ratio

FEWEST = 3  # pairs, for one degree of freedom of the residuals


def _others(grid: Grid, kept: NDArray[np.int64], shift: float) -> Iterator[tuple[NDArray[np.int64], Floats]]:
    """(places among those kept, their scores less `shift`) of some images at a time, 0 where image and text match."""
    done = 0
    for start, block in row_blocks(grid):
        here = kept[(kept >= start) & (kept < start + len(block))]
        own = np.arange(done, done + len(here))
        s = block[np.ix_(here - start, kept)] - shift
        s[own - done, own] = 0.0
        yield own, s
        done += len(here)


def sobol_parts(grid: Grid, same: ArrayLike | None = None) -> dict[str, Floats]:
    """The parts of the variance of a score, as a value per pair.

    Parameters
    ----------
    grid
        (image, text) scores of n images, of which the first n texts count.
    same
        (pair,) numbers: of pairs with one number, which match each other, the first one counts and the others are NaN.
        None: all are different.

    Returns
    -------
    dict
        grid_image, grid_text, grid_all: (pair,) each, in units of the score squared. Their means over pairs are
        unbiased estimates of the variance of the image's effect, of that of the text's, and of all of it; about 0, and
        then below it as often as above, for an effect that there is not. NaN for fewer than 3 pairs.

    Examples
    --------
    >>> parts = sobol_parts(np.array([[1.0] * 3, [-1.0] * 3, [3.0] * 3]))  # the image alone decides; variance 4
    >>> {name: round(float(values.mean()), 9) for name, values in parts.items()}
    {'grid_image': 4.0, 'grid_text': 0.0, 'grid_all': 4.0}
    """
    kept = np.arange(len(grid)) if same is None else np.sort(np.unique(np.asarray(same), return_index=True)[1])
    found = {name: np.full(len(grid), np.nan) for name in ("grid_image", "grid_text", "grid_all")}
    n = len(kept)
    if n < FEWEST:
        return found
    shift = float(next(row_blocks(grid))[1][0, kept[1]])  # so that a constant score is 0 everywhere
    rows, columns = np.zeros(n), np.zeros(n)
    for own, s in _others(grid, kept, shift):
        rows[own] = s.sum(1)
        columns += s.sum(0)
    mean = rows.sum() / (n * (n - 1))
    rows, columns = rows - (n - 1) * mean, columns - (n - 1) * mean
    image = ((n - 1) * rows + columns) / (n * (n - 2))  # the effects, least squares
    text = ((n - 1) * columns + rows) / (n * (n - 2))
    squares = np.zeros(n)  # of the residuals of a pair's image and of its text
    for own, s in _others(grid, kept, shift):
        residuals = (s - mean - image[own, None] - text) ** 2
        residuals[np.arange(len(own)), own] = 0.0
        squares[own] += residuals.sum(1)
        squares += residuals.sum(0)
    freedom = n * n - 3 * n + 1
    rest = float(squares.sum()) / 2 / freedom
    noise = rest * (n - 1) / (n * (n - 2))  # what the residuals put into the variance of either effect
    of_image, of_text = (effect**2 * n / (n - 1) - noise for effect in (image, text))
    of_rest = squares * n / freedom - rest  # each residual is its image's and its text's
    for name, part in zip(found, (of_image, of_text, of_image + of_text + of_rest), strict=True):
        found[name][kept] = part
    return found


def sobol_image(grid_image: Floats, grid_all: Floats) -> Floats:
    """First-order share of the image in the variance of the score, 0 to 1 but for the error of the estimate.

    Examples
    --------
    >>> float(sobol_image(np.float64(1.0), np.float64(4.0)))
    0.25
    """
    return ratio(grid_image, grid_all)


def sobol_text(grid_text: Floats, grid_all: Floats) -> Floats:
    """First-order share of the text, as `sobol_image`.

    Examples
    --------
    >>> float(sobol_text(np.float64(2.0), np.float64(4.0)))
    0.5
    """
    return ratio(grid_text, grid_all)


def sobol_interaction(grid_image: Floats, grid_text: Floats, grid_all: Floats) -> Floats:
    """The share that neither modality has alone: 1 − the two first-order shares; 0 for an additive score.

    Examples
    --------
    >>> float(sobol_interaction(np.float64(1.0), np.float64(2.0), np.float64(4.0)))  # 1 − ¼ − ½
    0.25
    """
    return ratio(grid_all - grid_image - grid_text, grid_all)


def _same(values: Floats) -> Floats:
    return values


GRID = tuple(
    Measure(
        _same, f"grid: {what}", f"variance of the score of any image with any text but its own, {what}", "score²",
        -np.inf, np.inf, name=name, inputs=(f"{name}_of_pair",), about=CONTRIBUTION, uses=frozenset({"detail"}),
        absent=NO_GRID,
    )
    for name, what in (
        ("grid_image", "of the image's effect"), ("grid_text", "of the text's effect"), ("grid_all", "all of it")
    )
)  # fmt: skip
SOBOL = tuple(
    Measure(
        formula, f"Sobol share, {what}",
        f"share of the variance of the score of any image with any text: {what} (an estimate may lie a little outside)",
        "share", 0, 1, level="means", about=CONTRIBUTION, absent=NO_GRID,
    )
    for formula, what in ((sobol_image, "image"), (sobol_text, "text"), (sobol_interaction, "interaction"))
)  # fmt: skip
