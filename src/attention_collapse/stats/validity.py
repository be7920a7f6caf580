"""Planted answers beside what a measure says: its ranks over models, and how many values lie outside bounds.

Whether a measure tells models that ignore a modality from balanced ones is judged by `few_models`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from attention_collapse.stats import ties

Floats = NDArray[np.float64]


def rank_correlation(planted: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """(Spearman's rho, its two-sided p) of the models' means with what was planted; NaN without variation.

    p comes from permutations of the models, exact for few of them, so it is never 0.
    """
    x, y = np.asarray(planted, np.float64), np.asarray(values, np.float64)
    if len(x) < 3 or np.isnan(y).any() or ties.constant(x) or ties.constant(y):
        return float("nan"), float("nan")
    # Twice the ranks' distance from the middle is whole, and so are its products: no permutation is off by rounding.
    one, two = (2 * stats.rankdata(ties.settle(side)) - (len(x) + 1) for side in (x, y))
    size = math.sqrt((one**2).sum() * (two**2).sum())

    def rho(order: Floats, axis: int = -1) -> Floats:
        found: Floats = (order * two).sum(axis) / size
        return found

    test = stats.permutation_test(
        (one,), rho, permutation_type="pairings", n_resamples=4999, rng=np.random.default_rng(0),
        vectorized=True,
    )  # fmt: skip
    return float(test.statistic), float(test.pvalue)


def threshold(balanced: ArrayLike, *, two_sided: bool, rate: float = 0.05) -> tuple[float, float]:
    """(low, high) beyond which a balanced model's value lies with probability `rate`; one-sided, high is infinite.

    Examples
    --------
    >>> low, high = threshold([0.0, 1.0], two_sided=False, rate=0.25)
    >>> low, high
    (0.25, inf)
    """
    values = np.asarray(balanced, np.float64)
    if np.isnan(values).any() or not len(values):
        return float("nan"), float("nan")
    if not two_sided:
        return float(np.quantile(values, rate)), float("inf")
    low, high = np.quantile(values, [rate / 2, 1 - rate / 2])
    return float(low), float(high)


def flagged(values: ArrayLike, low: float, high: float) -> float:
    """Share of values outside [low, high], 0 to 1; NaN if a value or a bound is undefined.

    Examples
    --------
    >>> flagged([0.2, 0.5, 0.8, 0.6], 0.3, 0.7)
    0.5
    """
    found = np.asarray(values, np.float64)
    if not len(found) or np.isnan(found).any() or np.isnan(low) or np.isnan(high):
        return float("nan")
    return float((ties.below(found, low) | ties.above(found, high)).mean())
