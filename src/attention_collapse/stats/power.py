"""How surely a t-test of one sample (or of paired differences) shows an effect, and how many images that takes."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from attention_collapse.stats import ties
from attention_collapse.stats.one_sample import BATCH, Rng
from attention_collapse.stats.permutation import Alternative

MOST = 1e7  # images; more are no plan


def t_test_power(d: float, n: float, *, alpha: float = 0.05, alternative: Alternative = "two-sided") -> float:
    """Power, 0 to 1, of the t-test of n values whose true mean lies d standard deviations away (noncentral t).

    P(T < −c) of the noncentral t is taken as P(T > c) with −d: SciPy's lower tail is NaN where it is next to 0.

    Parameters
    ----------
    n
        2 or more; between whole numbers too, for `images_needed` to look for its root.

    Examples
    --------
    >>> round(t_test_power(0.0, 20, alpha=0.05), 9)  # without an effect it is the level
    0.05
    """
    if n < 2 or math.isnan(d):
        return math.nan
    critical = stats.t.isf(alpha / 2 if alternative == "two-sided" else alpha, n - 1)
    tails = {"two-sided": (d, -d), "greater": (d,), "less": (-d,)}[alternative]
    return sum(_beyond(float(critical), n - 1, side * math.sqrt(n)) for side in tails)


def _beyond(critical: float, df: float, noncentrality: float) -> float:
    """P(T > critical); where SciPy's is NaN, the noncentrality is so large that it is 1, or so small that it is 0."""
    found = float(stats.nct.sf(critical, df, noncentrality))
    return float(noncentrality > critical) if math.isnan(found) else found


def images_needed(
    d: float, *, power: float = 0.8, alpha: float = 0.05, alternative: Alternative = "two-sided"
) -> tuple[float, str | None]:
    """The fewest images with which the t-test of an effect d reaches `power`, and why there is no such number.

    d = 0.5, two-sided, α = 0.05, power 0.8: 34. NaN with a reason for an effect of 0, in the wrong direction, or so
    small that more than 10⁷ images would be needed.

    Examples
    --------
    >>> images_needed(0.5)  # Cohen (1988)
    (34, None)
    """
    towards = {"two-sided": abs(d), "greater": d, "less": -d}[alternative]
    if not towards > ties.ROUNDING or math.isinf(d):
        return math.nan, "no standard deviation to plan with" if not math.isfinite(d) else "no effect to show"
    if t_test_power(d, 2, alpha=alpha, alternative=alternative) >= power:
        return 2, None

    def missing(n: float) -> float:
        return t_test_power(d, n, alpha=alpha, alternative=alternative) - power

    if missing(MOST) < 0:
        return math.nan, "more than 10^7 images"
    return math.ceil(optimize.brentq(missing, 2, MOST)), None


def simulated_power(
    values: ArrayLike,
    effect: float,
    *,
    alpha: float = 0.05,
    alternative: Alternative = "greater",
    n_simulations: int = 10_000,
    rng: Rng,
) -> float:
    """Power of the t-test at this n if the true mean lay `effect` beyond the tested value, with these residuals.

    Residuals (values − mean) are drawn with replacement and `effect` is added, so that the power is that of the
    values' own distribution, not of a normal one.

    Parameters
    ----------
    values
        (image,); NaN left out.
    effect
        True mean minus the tested value, in units of the values.

    Returns
    -------
    float
        Share of simulated studies in which p ≤ α; NaN for fewer than 2 values or without variance.
    """
    x = np.asarray(values, np.float64)
    x = x[np.isfinite(x)]
    if x.size < 2 or ties.constant(x):
        return math.nan
    residuals, n, generator = ties.settle(x) - x.mean(), x.size, np.random.default_rng(rng)
    tie = float(ties.of_means(residuals))
    critical = stats.t.isf(alpha / 2 if alternative == "two-sided" else alpha, n - 1)
    sign = -1.0 if alternative == "less" else 1.0
    shown, batch = 0, max(1, BATCH // n)
    for start in range(0, n_simulations, batch):
        drawn = residuals[generator.integers(n, size=(min(batch, n_simulations - start), n))] + effect
        with np.errstate(divide="ignore", invalid="ignore"):  # a draw of one image n times over has no variance
            means = drawn.mean(1)
            means[np.abs(means) <= tie] = 0.0  # of one image whose value is the tested one: 0 / 0, which shows nothing
            t = sign * means / (drawn.std(1, ddof=1) / math.sqrt(n))
        shown += int(((np.abs(t) if alternative == "two-sided" else t) >= critical).sum())
    return shown / n_simulations
