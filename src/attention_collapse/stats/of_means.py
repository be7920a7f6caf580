"""Functions of means over images, such as a ratio of two: BCa intervals, and one-sided tests that agree with them.

A mean of ratios is another quantity, and one that single images with a small denominator decide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from attention_collapse.stats import ties
from attention_collapse.stats.one_sample import BATCH, Rng

Floats = NDArray[np.float64]
Function = Callable[..., Floats]  # of the columns' means, arrays of any one shape


@dataclass(frozen=True)
class Bootstrap:
    """Resampled values of a function of means, and what BCa corrects them by (Efron 1987).

    Attributes
    ----------
    estimate, resampled
        The function of the sample's means, and of the means of each resample, (resample,).
    bias, acceleration
        z₀ (ties count half) and a (from the jackknife over images).
    jackknife_se
        Standard error of the estimate.
    """

    estimate: float
    resampled: Floats
    bias: float
    acceleration: float
    jackknife_se: float

    def limit(self, level: float) -> float:
        """The value below which the truth lies with probability `level`, 0 to 1, as far as the sample says."""
        z = self.bias + float(norm.ppf(level))
        return float(np.quantile(self.resampled, norm.cdf(self.bias + z / (1 - self.acceleration * z))))

    def p_at_most(self, value: float) -> float:
        """One-sided p of "the truth is at most `value`": small where it is greater. Never 0.

        It is the level at which `limit` reaches the value, so that p ≤ α exactly where the one-sided limit of level α
        lies above the value (but for the interpolation between two resamples).
        """
        below = (self.resampled < value).sum() + 0.5 * (self.resampled == value).sum()
        return self._level((below + 0.5) / (len(self.resampled) + 1))

    def p_at_least(self, value: float) -> float:
        """One-sided p of "the truth is at least `value`": small where it is less. Never 0."""
        below = (self.resampled < value).sum() + 0.5 * (self.resampled == value).sum()
        return 1.0 - self._level((below + 0.5) / (len(self.resampled) + 1))

    def _level(self, share: float) -> float:
        w = float(norm.ppf(share)) - self.bias
        return float(norm.cdf(w / (1 + self.acceleration * w) - self.bias))


def bootstrap(columns: Sequence[ArrayLike], function: Function, *, n_resamples: int, rng: Rng) -> Bootstrap | str:
    """Resample images and take the function of their means, or say why there is no such interval.

    Parameters
    ----------
    columns
        (image,) values each; an image that leaves any of them undefined is left out.
    """
    table = np.column_stack([np.asarray(column, np.float64) for column in columns])
    table = table[np.isfinite(table).all(1)]
    n = len(table)
    if n < 2:
        return f"{n} defined value{'s' if n != 1 else ''}, 2 or more needed"
    estimate = float(function(*table.mean(0)))
    if not math.isfinite(estimate):
        return "nothing moves the score"
    generator = np.random.default_rng(rng)
    parts = []
    batch = max(1, BATCH // n)
    for start in range(0, n_resamples, batch):
        drawn = generator.integers(n, size=(min(batch, n_resamples - start), n))
        times = np.apply_along_axis(np.bincount, 1, drawn, minlength=n)  # (resample, image): how often it was drawn
        parts.append(function(*(times @ table / n).T))
    resampled = np.concatenate(parts)
    left_out = function(*((table.sum(0) - table) / (n - 1)).T)  # (image,): without it
    if not (np.isfinite(resampled).all() and np.isfinite(left_out).all()):
        return "without some of the images nothing moves the score"
    away = left_out.mean() - left_out
    if ties.constant(resampled) or ties.constant(left_out):
        return "no variance"
    acceleration = float((away**3).sum() / (6 * (away**2).sum() ** 1.5))
    share = ((resampled < estimate).sum() + 0.5 * (resampled == estimate).sum()) / n_resamples
    if not 0 < share < 1:
        return "too few different values for a BCa interval"
    se = math.sqrt((n - 1) / n * float((away**2).sum()))
    return Bootstrap(estimate, resampled, float(norm.ppf(share)), acceleration, se)


def describe_of_means(
    columns: Sequence[ArrayLike], function: Function, *, confidence: float = 0.95, n_resamples: int = 10_000, rng: Rng
) -> dict[str, Any]:
    """A function of means over images with its BCa interval.

    Returns
    -------
    dict
        As of `one_sample.describe`: mean (the function's value), sd (its jackknife standard error · √n), n,
        n_undefined, ci_low, ci_high, and `reason` where the value or the interval does not exist.
    """
    arrays = [np.asarray(column, np.float64) for column in columns]
    table = np.column_stack(arrays)
    chosen = table[np.isfinite(table).all(1)]
    n = len(chosen)
    result: dict[str, Any] = {"mean": math.nan, "sd": math.nan, "n": n, "n_undefined": len(table) - n}
    result |= {"ci_low": math.nan, "ci_high": math.nan}
    if n:
        result["mean"] = float(function(*chosen.mean(0)))
    found = bootstrap(arrays, function, n_resamples=n_resamples, rng=rng)
    if isinstance(found, str):
        whole = {} if math.isfinite(result["mean"]) else {"n": 0, "n_undefined": len(table)}
        return result | {"reason": found} | whole
    tail = (1 - confidence) / 2
    return result | {
        "sd": found.jackknife_se * math.sqrt(n), "ci_low": found.limit(tail), "ci_high": found.limit(1 - tail),
    }  # fmt: skip


def pseudo_values(columns: Sequence[ArrayLike], function: Function) -> Floats:
    """Tukey's pseudo-values of a function of means, (image,): n θ − (n − 1) θ without the image.

    Their mean is the function's value but for its bias, their spread that of its influence. NaN where a column is.

    Examples
    --------
    >>> pseudo_values([[1.0, 2.0, 6.0]], lambda mean: mean).round(9).tolist()  # of a mean: the values themselves
    [1.0, 2.0, 6.0]
    """
    table = np.column_stack([np.asarray(column, np.float64) for column in columns])
    defined = np.isfinite(table).all(1)
    found = np.full(len(table), math.nan)
    chosen = table[defined]
    n = len(chosen)
    if n > 1:
        left_out = function(*((chosen.sum(0) - chosen) / (n - 1)).T)
        found[defined] = n * function(*chosen.mean(0)) - (n - 1) * left_out
    return found
