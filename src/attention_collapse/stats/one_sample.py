"""What one sample of images says: mean, BCa interval, one-sample tests with effect sizes, Holm's correction.

The unit of analysis is the image. Where a quantity does not exist (one image, no variance, undefined values) the
result holds NaN for it and a `reason`; nothing is imputed and nothing raises.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pingouin as pg
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

Alternative = Literal["two-sided", "greater", "less"]
LN10 = math.log(10.0)


def _sample(values: ArrayLike) -> tuple[NDArray[np.float64], str | None]:
    """Finite values, and why no interval or test exists on them (None if one does)."""
    x = np.asarray(values, np.float64)
    finite = x[np.isfinite(x)]
    if finite.size < 2:
        return finite, f"{finite.size} defined value{'s' if finite.size != 1 else ''}, 2 or more needed"
    # Values that differ only by rounding have no variance: a t of 1e15 would be arithmetic noise.
    if float(np.ptp(finite)) <= 1e-12 * max(1.0, float(np.abs(finite).max())):
        return finite, "no variance"
    return finite, None


def describe(
    values: ArrayLike, *, confidence: float = 0.95, n_resamples: int = 10_000, rng: np.random.Generator
) -> dict[str, Any]:
    """Mean, standard deviation (ddof 1), n, and the BCa bootstrap interval of the mean (Efron 1987, by scipy).

    Returns
    -------
    dict
        mean, sd, n, n_undefined (NaN values, left out and counted), ci_low, ci_high, and `reason` where the interval
        does not exist.
    """
    x, reason = _sample(values)
    result: dict[str, Any] = {
        "mean": float(x.mean()) if x.size else math.nan,
        "sd": float(x.std(ddof=1)) if x.size > 1 else math.nan,
        "n": int(x.size),
        "n_undefined": int(np.size(values) - x.size),
        "ci_low": math.nan,
        "ci_high": math.nan,
    }
    if reason:
        return result | {"reason": reason}
    interval = stats.bootstrap(
        (x,), np.mean, confidence_level=confidence, n_resamples=n_resamples, method="BCa", rng=rng
    ).confidence_interval
    return result | {"ci_low": float(interval.low), "ci_high": float(interval.high)}


def bootstrap_columns(
    values: NDArray[np.float64], *, confidence: float, n_resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """BCa intervals of the column means of (image, column): (2, column), NaN where a column has no variance."""
    if len(values) < 2:
        return np.full((2, values.shape[1]), math.nan)
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore")  # a constant column has no BCa interval; it comes back as NaN
        interval = stats.bootstrap(
            (values,), np.mean, axis=0, vectorized=True, confidence_level=confidence, n_resamples=n_resamples,
            method="BCa", rng=rng, batch=max(1, 20_000_000 // max(1, values.size)),
        ).confidence_interval  # fmt: skip
    return np.stack([interval.low, interval.high])


def _log10_p(t: float, df: float, alternative: Alternative) -> float:
    """log10 of the p-value, which exists where the p-value itself underflows to 0."""
    tail = {"greater": t, "less": -t, "two-sided": abs(t)}[alternative]
    log_p = float(stats.t.logsf(tail, df))
    if not math.isfinite(log_p) and tail > 0:
        # P(T > t) = I_x(ν/2, ½) / 2 with x = ν / (ν + t²) (Abramowitz & Stegun 26.7.1, 26.5.23), in logarithms.
        a, x = df / 2, df / (df + tail**2)
        series = float(special.hyp2f1(a + 0.5, 1.0, a + 1.0, x))
        log_p = (
            a * math.log(x) + 0.5 * math.log1p(-x) - math.log(2 * a) - float(special.betaln(a, 0.5)) + math.log(series)
        )
    return (log_p + (math.log(2.0) if alternative == "two-sided" else 0.0)) / LN10


def one_sample(values: ArrayLike, value: float, alternative: Alternative = "two-sided") -> dict[str, Any]:
    """One-sample t-test against `value` (pingouin), with Wilcoxon's signed-rank test beside it (scipy).

    Returns
    -------
    dict
        value, alternative, n, t, df, p, log10_p, cohen_d (signed: (mean − value) / sd), hedges_g (with the exact
        small-sample factor), wilcoxon_p, and `reason` where the test does not exist.

    Notes
    -----
    pingouin prints |d|; here d keeps the sign of the difference.
    """
    x, reason = _sample(values)
    names = ("t", "df", "p", "log10_p", "cohen_d", "hedges_g", "wilcoxon_p")
    result: dict[str, Any] = {"value": value, "alternative": alternative, "n": int(x.size)}
    if reason:
        return result | dict.fromkeys(names, math.nan) | {"reason": reason}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # the Bayes factor that pingouin adds overflows for a large t; it is not used
        row = pg.ttest(x, value, alternative=alternative).iloc[0]
    t, df = float(row["T"]), float(row["dof"])
    d = float((x.mean() - value) / x.std(ddof=1))
    correction = math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2) if df > 1 else math.nan
    ranks = stats.wilcoxon(x - value, alternative=alternative)
    numbers = (t, df, float(row["p_val"]), _log10_p(t, df, alternative), d, d * correction, float(ranks.pvalue))
    return result | dict(zip(names, numbers, strict=True))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction over one family; NaN stays NaN and does not count as a member."""
    p = np.asarray(p_values, np.float64)
    adjusted = np.full(p.shape, math.nan)
    defined = np.isfinite(p)
    if defined.any():
        adjusted[defined] = pg.multicomp(p[defined].tolist(), method="holm")[1]
    return [float(value) for value in adjusted]
