"""Does a measure tell models that ignore a modality from those that use both? Planted answers tell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from attention_collapse.stats import ties

Floats = NDArray[np.float64]


def auroc(low: ArrayLike, high: ArrayLike) -> float:
    """P(a value of `high` exceeds a value of `low`) + ½ P(tie), from all pairs of values: 0 to 1, 0.5 is blind.

    NaN if either side is empty; an undefined value makes the answer NaN, so that it is never dropped unseen.
    """
    a, b = np.asarray(low, np.float64).ravel(), np.asarray(high, np.float64).ravel()
    if not len(a) or not len(b) or np.isnan(a).any() or np.isnan(b).any():
        return float("nan")
    ranks = stats.rankdata(ties.settle(np.concatenate([a, b])))
    return float((ranks[len(a) :].sum() - len(b) * (len(b) + 1) / 2) / (len(a) * len(b)))


def _share_above(low: Floats, high: Floats, tie: float) -> Floats:
    """`auroc` of the means of (..., model) values, a difference of at most `tie` being none: (...,)."""
    apart = high[..., None, :] - low[..., :, None]
    found: Floats = ((apart > tie) + 0.5 * (np.abs(apart) <= tie)).mean((-2, -1))
    return found


@dataclass(frozen=True)
class Contrast:
    """How well a measure separates two sets of models, oriented as the measure's own reading says.

    Attributes
    ----------
    auroc
        Of the models' means: 1 as the reading says, 0.5 blind, 0 the reverse.
    ci_low, ci_high
        Percentile interval, models (seeds) and images resampled.
    auroc_images
        Of single images, pooled over models.
    by_seed
        `auroc_images` of the two models of each seed.
    """

    auroc: float
    ci_low: float
    ci_high: float
    auroc_images: float
    by_seed: Mapping[int, float]


def contrast(
    low: Mapping[int, ArrayLike], high: Mapping[int, ArrayLike], *, n_resamples: int, confidence: float, seed: int
) -> Contrast:
    """Separation of two sets of models.

    Parameters
    ----------
    low, high
        seed -> (image,) values of the model of that seed; the reading expects `low` below `high`. Every model has the
        same images, in the same order.
    n_resamples
        Bootstrap resamples over seeds (each side on its own) and images (the same for all models).
    """
    a, b = (np.array([np.asarray(values, np.float64) for values in side.values()]) for side in (low, high))
    if not len(a) or not len(b):
        nan = float("nan")
        return Contrast(nan, nan, nan, nan, {})
    means = a.mean(1), b.mean(1)
    deviations = np.concatenate([a - means[0][:, None], b - means[1][:, None]])
    tie = float(ties.of_means(deviations.T).max())
    point = math.nan if math.isnan(tie) else float(_share_above(*means, tie))
    by_seed = {key: auroc(low[key], high[key]) for key in low if key in high}
    if np.isnan(point):
        return Contrast(point, point, point, auroc(a, b), by_seed)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(a.shape[1], size=(n_resamples, a.shape[1]))
    times = np.zeros(drawn.shape)  # (resample, image): how often it was drawn
    np.add.at(times, (np.arange(n_resamples)[:, None], drawn), 1.0)

    def resampled(side: Floats) -> Floats:
        """(resample, model) means of models drawn with replacement over the drawn images."""
        models = rng.integers(len(side), size=(n_resamples, len(side)))
        return np.take_along_axis(times @ side.T / side.shape[1], models, axis=1)

    found = _share_above(resampled(a), resampled(b), tie)
    tail = (1 - confidence) / 2
    ci_low, ci_high = np.quantile(found, [tail, 1 - tail])
    return Contrast(point, float(ci_low), float(ci_high), auroc(a, b), by_seed)


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
    """(low, high): values of balanced models lie outside with probability `rate`; one-sided, high is infinite."""
    values = np.asarray(balanced, np.float64)
    if np.isnan(values).any() or not len(values):
        return float("nan"), float("nan")
    if not two_sided:
        return float(np.quantile(values, rate)), float("inf")
    low, high = np.quantile(values, [rate / 2, 1 - rate / 2])
    return float(low), float(high)


def flagged(values: ArrayLike, low: float, high: float) -> float:
    """Share of values outside [low, high], 0 to 1; NaN if a value or a bound is undefined."""
    found = np.asarray(values, np.float64)
    if not len(found) or np.isnan(found).any() or np.isnan(low) or np.isnan(high):
        return float("nan")
    return float((ties.below(found, low) | ties.above(found, high)).mean())


def verdict(contrasts: Sequence[Contrast]) -> str:
    """What a measure is worth for a kind, by rule.

    "trusted": every contrast ≥ 0.9 with its interval above 0.5; "misleading": some interval below 0.5; "blind": no
    interval above 0.5; "partial": anything else; "undefined": a contrast is not defined.
    """
    if not contrasts or any(np.isnan(found.auroc) for found in contrasts):
        return "undefined"
    if ties.below([found.ci_high for found in contrasts], 0.5).any():
        return "misleading"
    above = ties.above([found.ci_low for found in contrasts], 0.5)
    if all(above) and not ties.below([found.auroc for found in contrasts], 0.9).any():
        return "trusted"
    return "partial" if any(above) else "blind"
