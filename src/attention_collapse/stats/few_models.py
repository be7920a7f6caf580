"""What few models can say: intervals that hold for any distribution, and verdicts from them.

The mean of k independent values between 0 and 1 with expectation θ reaches m ≥ θ with probability at most
exp(−k · KL(m, θ)), KL(m, θ) = m ln(m/θ) + (1 − m) ln((1 − m)/(1 − θ)) (Hoeffding 1963, theorem 1). So does a mean over
all pairs of two independent samples, with k the size of the smaller: it is an average, over assignments of the smaller
sample to members of the other, of means of k independent pairs, and exp is convex (Hoeffding's section 5; proved anew
for U-statistics by Pitcan, arXiv:1712.06160). The θ for which neither bound is below (1 − confidence) / 2 are the
interval: never too short, whatever the distributions, ties counting ½. Of values all 1 it is [(α/2)^(1/k), 1], that of
Clopper and Pearson: [0.29, 1] of 3 against 3, [0.69, 1] of 10 against 10. No method can promise more for these: the
area is a binomial share where one sample is constant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from attention_collapse.stats import ties

Floats = NDArray[np.float64]
NAN = float("nan")


def bounded_mean(mean: float, k: int, confidence: float) -> tuple[float, float]:
    """Interval of the expectation of a mean of `k` independent values between 0 and 1; (0, 1) where k is 0.

    Examples
    --------
    >>> low, high = bounded_mean(1.0, 3, 0.95)  # (0.05 / 2)^(1/3)
    >>> round(low, 4), high
    (0.2924, 1.0)
    """
    if math.isnan(mean) or k < 1:
        return (NAN, NAN) if k else (0.0, 1.0)
    most = math.log(2 / (1 - confidence)) / k

    def surplus(theta: float) -> float:
        parts = ((mean, theta), (1 - mean, 1 - theta))
        return sum(m * math.log(m / t) for m, t in parts if m > 0) - most

    tiny = 1e-12
    low = (
        0.0 if mean <= 0 or surplus(tiny) < 0 else optimize.brentq(surplus, tiny, mean - tiny * (mean == 1), xtol=tiny)
    )
    high = 1.0 if mean >= 1 or surplus(1 - tiny) < 0 else optimize.brentq(surplus, max(mean, tiny), 1 - tiny, xtol=tiny)
    return float(low), float(high)


@dataclass(frozen=True)
class Separation:
    """How well a measure tells two sets of models, oriented as its reading says: 1 as it says, ½ blind, 0 the reverse.

    Attributes
    ----------
    auroc
        Chance that a model of one side lies as the reading says beside one of the other, ½ for a tie; a seed's models
        of one side share its weight.
    ci_low, ci_high
        Its interval by `bounded_mean`, k the number of seeds of the smaller side. Seeds are independent of each other;
        that the two sides are is assumed here, although models of one seed share their start.
    within
        The same within seeds that have models of both sides, and needs no such assumption: k is their number.
    within_low, within_high
        Its interval.
    n_low, n_high, n_within
        Numbers of seeds.
    """

    auroc: float
    ci_low: float
    ci_high: float
    within: float
    within_low: float
    within_high: float
    n_low: int
    n_high: int
    n_within: int

    @property
    def verdict(self) -> str:
        """ "separates" ("reversed"): both intervals lie above (below) ½; "undefined" without values of both sides."""
        if math.isnan(self.auroc):
            return "undefined"
        if ties.above([self.ci_low, self.within_low], 0.5).all():
            return "separates"
        return "reversed" if ties.below([self.ci_high, self.within_high], 0.5).all() else "undetermined"


def separate(low: Mapping[int, Sequence[float]], high: Mapping[int, Sequence[float]], confidence: float) -> Separation:
    """Separation of two sets of models.

    Parameters
    ----------
    low, high
        seed -> values of its models, one or more; the reading expects `low` below `high`. An undefined value makes the
        answer undefined.

    Examples
    --------
    >>> separate({0: [0.1], 1: [0.2]}, {0: [0.3], 1: [0.4]}, 0.95).auroc  # each below each
    1.0
    """
    one, two = [key for key in low if len(low[key])], [key for key in high if len(high[key])]
    pool = ties.settle(np.concatenate([np.empty(0), *(low[key] for key in one), *(high[key] for key in two)]))
    parts = np.split(pool, np.cumsum([len(side[key]) for side, keys in ((low, one), (high, two)) for key in keys])[:-1])
    below, above = dict(zip(one, parts, strict=False)), dict(zip(two, parts[len(one) :], strict=False))
    both = [key for key in one if key in above]
    if not one or not two or np.isnan(pool).any():
        return Separation(NAN, NAN, NAN, NAN, NAN, NAN, len(one), len(two), len(both))

    def share(a: Floats, b: Floats) -> float:
        apart = b[None, :] - a[:, None]
        return float(((apart > 0) + 0.5 * (apart == 0)).mean())

    area = float(np.mean([[share(a, b) for b in above.values()] for a in below.values()]))
    within = float(np.mean([share(below[key], above[key]) for key in both])) if both else NAN
    inner = bounded_mean(within, len(both), confidence) if both else (0.0, 1.0)
    return Separation(
        area, *bounded_mean(area, min(len(one), len(two)), confidence), within, *inner, len(one), len(two), len(both)
    )


def tell_apart(
    ignoring: Mapping[int, Sequence[float]],
    balanced: Mapping[int, Sequence[float]],
    way: int,
    confidence: float,
    undefined: str,
) -> dict[str, Any]:
    """Whether a measure tells models that ignore a modality from balanced ones, as the metrics keep it.

    Parameters
    ----------
    ignoring, balanced
        seed -> values of its models, as of `separate`.
    way
        −1 if the measure should fall where the modality is ignored, 1 if it should rise.
    undefined
        Why a value of a model may be undefined.

    Returns
    -------
    dict
        verdict; says, "falls" or "rises"; every attribute of `Separation`; and the reason of an undefined verdict.
    """
    found = separate(*((ignoring, balanced) if way < 0 else (balanced, ignoring)), confidence)
    result = {"verdict": found.verdict, "says": "falls" if way < 0 else "rises", **asdict(found)}
    if found.verdict == "undefined":
        result["reason"] = undefined if found.n_low and found.n_high else "no model of one of the two sides"
    return result


def seeds_needed(confidence: float) -> int:
    """Fewest seeds per side of which a perfect separation has an interval above ½, (α/2)^(1/k) > ½: 6 at 0.95.

    Examples
    --------
    >>> seeds_needed(0.95)  # (0.05 / 2)^(1/6) is 0.54, above ½
    6
    """
    return math.floor(math.log2(2 / (1 - confidence)) * (1 + ties.ROUNDING)) + 1


def mean_with_t(values: ArrayLike, confidence: float) -> tuple[float, float, float]:
    """(mean, low, high) of seeds' values by Student's t, exact for normal values; of fewer than two, NaN bounds.

    Examples
    --------
    >>> mean_with_t([2.0, 2.0, 2.0], 0.95)
    (2.0, 2.0, 2.0)
    """
    x = np.asarray(values, np.float64).ravel()
    if not len(x) or np.isnan(x).any():
        return NAN, NAN, NAN
    mean = float(x.mean())
    if len(x) < 2:
        return mean, NAN, NAN
    half = float(stats.t.ppf((1 + confidence) / 2, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)))
    return mean, mean - half, mean + half


def median_with_ranks(values: ArrayLike, confidence: float) -> tuple[float, float, float]:
    """(median, low, high) by order statistics, for any distribution; values may be infinite (never reached).

    The bounds are the j-th smallest and largest values with the largest j whose coverage, 1 − 2 P(B < j) with B
    binomial (n, ½), is enough; NaN where even the extremes are not: fewer than 6 values at 0.95.

    Examples
    --------
    >>> median_with_ranks([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 0.95)  # 1 − 2 / 2⁶ is 0.97
    (3.5, 1.0, 6.0)
    """
    x = np.sort(np.asarray(values, np.float64).ravel())
    n = len(x)
    if not n or np.isnan(x).any():
        return NAN, NAN, NAN
    middle = x[(n - 1) // 2], x[n // 2]
    median = float(middle[0] if middle[0] == middle[1] else np.mean(middle))
    j = int(stats.binom.ppf((1 - confidence) / 2, n, 0.5))  # the smallest that is too many: P(B < j) is small enough
    return (median, float(x[j - 1]), float(x[n - j])) if j else (median, NAN, NAN)


def falls_below(doses: Sequence[float], values: Sequence[float], level: float) -> float:
    """The dose at which values first fall below a level, interpolated from the dose before; infinite: at none of them.

    NaN if the first value is below it already, or one is undefined.

    Examples
    --------
    >>> falls_below([0.5, 0.7, 0.9], [1.0, 0.75, 0.25], 0.5)  # halfway between 0.7 and 0.9
    0.8
    """
    x, y = np.asarray(doses, np.float64), np.asarray(values, np.float64)
    under = ties.below(y, level)
    if np.isnan(y).any() or not len(y) or under[0]:
        return NAN
    if not under.any():
        return math.inf
    i = int(under.argmax())
    return float(x[i - 1] + (x[i] - x[i - 1]) * (y[i - 1] - level) / (y[i - 1] - y[i]))
