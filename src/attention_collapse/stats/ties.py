"""What counts as equal: numbers that differ only by rounding are ties, on every processor.

Sums in another order, or other vector instructions, change the last digits of a number. Where a statistic compares
(ranks, counts beyond a bound, resampled means beside the observed one), those digits would decide ties, and a count or
a confidence limit would jump. Whatever compares numbers therefore compares what this module returns; means, t
statistics and quantiles are continuous in the values and take them as they are.

Two laws:

- Values: sorted neighbours closer than `ROUNDING` belong together, and a group holding the bound that it is compared
  with is that bound. A lattice to round to would have edges of its own, where one more digit decides; gaps have none
  as long as values differ either by rounding or by what the instrument resolves.
- Resampled means: those closer than `RESAMPLED` of their standard error are equal.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

# Relative to a value, absolute below 1. Arithmetic in float64 leaves errors of 1e-16 to 1e-12; values that differ in
# tables of 6 significant digits differ by more, 1e-7 for shares of 0.01 to 0.1.
ROUNDING = 1e-10
# Of a resampled mean's standard error. Multiples of 1/99 in a table of 6 digits are off by 5e-7 at most, 2.9e-7 rms, so
# that resampled means of one whole number are apart by 2.9e-7 / √n rms: by 1e-6 standard errors where the values' sd is
# 0.3. Means of different whole numbers are apart by 1 / (99 n), by more than 1e-5 standard errors up to n = 10⁶. A mean
# of continuous values lies so close to the observed one in 1 of 100,000 resamples, far below resampling's own error.
RESAMPLED = 1e-5


def settle(values: ArrayLike, *anchors: float) -> Floats:
    """Values that differ only by rounding become equal; what differs so from an anchor becomes the anchor.

    Parameters
    ----------
    values
        Of any shape; NaN and infinite values stay as they are.
    anchors
        What the values are compared with, further apart than `ROUNDING`.

    Returns
    -------
    ndarray
        Each value, or the smallest one (else the anchor) of its group: sorted neighbours form a group while the gap
        between them is at most `ROUNDING` times the smaller one's size, or `ROUNDING` where that size is below 1.

    Examples
    --------
    >>> settle([0.3, 0.1 + 0.2]).tolist()
    [0.3, 0.3]
    """
    x = np.asarray(values, np.float64)
    pool = np.concatenate([np.asarray(anchors, np.float64), x.ravel()])
    order = np.argsort(pool, kind="stable")
    ordered = pool[order]
    with np.errstate(invalid="ignore"):  # the gap between infinities, or beside NaN, is no gap
        size = np.maximum(1.0, np.minimum(np.abs(ordered[:-1]), np.abs(ordered[1:])))
        first = np.append(True, ~(np.diff(ordered) <= ROUNDING * size))[: pool.size]
    group = np.empty(pool.size, np.int64)
    group[order] = np.cumsum(first) - 1
    stands_for = ordered[first]
    stands_for[group[: len(anchors)]] = anchors
    settled: Floats = stands_for[group[len(anchors) :]].reshape(x.shape)
    return settled


def above(values: ArrayLike, bound: float) -> NDArray[np.bool_]:
    """Which values exceed the bound by more than rounding; NaN does not.

    Examples
    --------
    >>> above([0.1 + 0.2, 0.4], 0.3).tolist()
    [False, True]
    """
    return np.asarray(settle(values, bound) > bound)


def below(values: ArrayLike, bound: float) -> NDArray[np.bool_]:
    """Which values fall short of the bound by more than rounding; NaN does not.

    Examples
    --------
    >>> below([0.2, 0.3], 0.3).tolist()
    [True, False]
    """
    return np.asarray(settle(values, bound) < bound)


def constant(values: Floats) -> bool:
    """Whether finite values differ by rounding alone: a t of 1e15 of them would be arithmetic noise.

    Examples
    --------
    >>> constant(np.array([0.3, 0.1 + 0.2]))
    True
    """
    return float(np.ptp(values)) <= ROUNDING * max(1.0, float(np.abs(values).max()))


def of_means(deviations: Floats) -> Floats:
    """How close resampled means of (image, ...) deviations are equal: (...,), in the deviations' unit.

    Deviations from the mean that is resampled; their root mean square over √n is its standard error.
    """
    standard_error = np.sqrt((deviations**2).sum(axis=0)) / max(1, len(deviations))
    largest = np.abs(deviations).max(axis=0, initial=1.0)
    tie: Floats = np.maximum(RESAMPLED * standard_error, ROUNDING * largest)
    return tie
