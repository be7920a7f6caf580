"""What samples of images say: means, BCa intervals, one-sample tests with effect sizes, Holm's correction.

The unit of analysis is the image. Where a quantity does not exist (one image, no variance, undefined values) the
result holds NaN for it and a `reason`; nothing is imputed and nothing raises. Samples over the same images go through
the `_columns` functions together: they are resampled with the same images, once.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from attention_collapse.stats import ties
from attention_collapse.stats.effect_size import LARGEST_T, cohen_d_interval, hedges_factor
from attention_collapse.stats.permutation import Alternative, sign_flip

Rng = int | np.random.Generator  # a seed, or a generator that goes on, as scipy takes either
LN10 = math.log(10.0)
BATCH = 4_000_000  # draws held at once, 32 MB
TESTED = (
    "t", "df", "p", "log10_p", "cohen_d", "cohen_d_ci_low", "cohen_d_ci_high", "hedges_g", "hedges_g_ci_low",
    "hedges_g_ci_high", "wilcoxon_p", "permutation_p",
)  # fmt: skip


def _sample(values: ArrayLike) -> tuple[NDArray[np.float64], str | None]:
    """Finite values, and why no interval or test exists on them (None if one does)."""
    x = np.asarray(values, np.float64)
    finite = x[np.isfinite(x)]
    if finite.size < 2:
        return finite, f"{finite.size} defined value{'s' if finite.size != 1 else ''}, 2 or more needed"
    return finite, "no variance" if ties.constant(finite) else None


def bootstrap_columns(
    values: NDArray[np.float64], *, confidence: float, n_resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """BCa intervals of column means (Efron 1987, by scipy), every column resampled with the same images.

    Parameters
    ----------
    values
        (image, column), finite.

    Returns
    -------
    ndarray
        (2, column): low, high; NaN where a column has no interval (fewer than 2 images, no variance).

    Notes
    -----
    BCa corrects its bias by the share of resampled means below the observed one, ties counting half; a tie but for
    rounding is one here (`ties.of_means`). All else in it is continuous in the values.
    """
    n, columns = values.shape
    interval = np.full((2, columns), math.nan)
    varied = np.array([_sample(column)[1] is None for column in values.T], bool)
    if not varied.any():
        return interval
    chosen = values[:, varied]
    centre = chosen.mean(0)
    away = chosen - centre
    tie = ties.of_means(away)[:, None]

    def mean(images: NDArray[Any], axis: int = -1) -> NDArray[np.float64]:  # (..., draw) -> (column, ...)
        rows = images.reshape(-1, images.shape[axis]).astype(np.int64)
        places = rows + n * np.arange(len(rows))[:, None]
        times = np.bincount(places.ravel(), minlength=n * len(rows)).reshape(len(rows), n)  # each image was drawn
        shift = away.T @ times.T.astype(np.float64) / images.shape[axis]
        means = centre[:, None] + np.where(np.abs(shift) <= tie, 0.0, shift)
        found: NDArray[np.float64] = means.reshape(-1, *images.shape[:-1])
        return found

    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore")  # an interval that scipy cannot give (few, tied values) comes back as NaN
        found = stats.bootstrap(
            (np.arange(n),), mean, vectorized=True, confidence_level=confidence, n_resamples=n_resamples,
            method="BCa", rng=rng, batch=max(1, BATCH // n),
        ).confidence_interval  # fmt: skip
    interval[:, varied] = found.low, found.high
    return interval


def describe_columns(
    columns: Mapping[str, ArrayLike], *, confidence: float = 0.95, n_resamples: int = 10_000, rng: Rng
) -> dict[str, dict[str, Any]]:
    """`describe` of samples over the same images; those defined for the same images share one bootstrap."""
    arrays = {name: np.asarray(values, np.float64) for name, values in columns.items()}
    result: dict[str, dict[str, Any]] = {}
    groups: dict[bytes, list[str]] = {}
    for name, values in arrays.items():
        x, reason = _sample(values)
        result[name] = {
            "mean": float(x.mean()) if x.size else math.nan,
            "sd": float(x.std(ddof=1)) if x.size > 1 else math.nan,
            "n": int(x.size),
            "n_undefined": int(values.size - x.size),
            "ci_low": math.nan,
            "ci_high": math.nan,
        }
        if reason:
            result[name]["reason"] = reason
        else:
            groups.setdefault(np.isfinite(values).tobytes(), []).append(name)
    for names in groups.values():
        table = np.column_stack([arrays[name][np.isfinite(arrays[name])] for name in names])
        intervals = bootstrap_columns(
            table, confidence=confidence, n_resamples=n_resamples, rng=np.random.default_rng(rng)
        )
        for name, low, high in zip(names, *intervals.tolist(), strict=True):
            result[name] |= {"ci_low": low, "ci_high": high}
            if not math.isfinite(low + high):
                result[name]["reason"] = "too few different values for a BCa interval"
    return result


def describe(values: ArrayLike, *, confidence: float = 0.95, n_resamples: int = 10_000, rng: Rng) -> dict[str, Any]:
    """Mean, standard deviation (ddof 1), n, and the BCa bootstrap interval of the mean.

    Returns
    -------
    dict
        mean, sd, n, n_undefined (NaN values, left out and counted), ci_low, ci_high, and `reason` where the interval
        does not exist.

    Examples
    --------
    >>> found = describe([1.0, 2.0, 3.0, np.nan], rng=0)
    >>> found["mean"], found["sd"], found["n"], found["n_undefined"]
    (2.0, 1.0, 3, 1)
    """
    return describe_columns({"": values}, confidence=confidence, n_resamples=n_resamples, rng=rng)[""]


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


def one_sample_columns(
    tests: Mapping[str, tuple[ArrayLike, float, Alternative]],
    *,
    confidence: float = 0.95,
    n_resamples: int = 10_000,
    rng: Rng,
) -> dict[str, dict[str, Any]]:
    """`one_sample` of (values, value, alternative) over the same images; the permutation tests share their signs."""
    arrays = {name: np.asarray(values, np.float64) for name, (values, _, _) in tests.items()}
    if not tests:
        return {}
    flipped = sign_flip(
        np.column_stack([arrays[name] - value for name, (_, value, _) in tests.items()]),
        [alternative for _, _, alternative in tests.values()],
        n_resamples=n_resamples,
        rng=np.random.default_rng(rng),
    )
    return {
        name: _tested(arrays[name], value, alternative, confidence, float(p))
        for (name, (_, value, alternative)), p in zip(tests.items(), flipped, strict=True)
    }


def _tested(
    values: NDArray[np.float64], value: float, alternative: Alternative, confidence: float, permutation_p: float
) -> dict[str, Any]:
    x, reason = _sample(values)
    result: dict[str, Any] = {"value": value, "alternative": alternative, "n": int(x.size)}
    if reason:
        shown = permutation_p if x.size > 1 else math.nan  # a shift without variance has no t, but signs that flip
        return result | dict.fromkeys(TESTED, math.nan) | {"permutation_p": shown, "reason": reason}
    student = stats.ttest_1samp(x, value, alternative=alternative)
    t, df = float(student.statistic), float(student.df)
    d, factor = float((x.mean() - value) / x.std(ddof=1)), hedges_factor(df)
    low, high = cohen_d_interval(t, x.size, confidence)
    away = x - value
    ranks = stats.wilcoxon(np.sign(away) * ties.settle(np.abs(away), 0.0), alternative=alternative)
    effect = (d, low, high, d * factor, low * factor, high * factor)
    numbers = (t, df, float(student.pvalue), _log10_p(t, df, alternative), *effect, float(ranks.pvalue), permutation_p)
    if abs(t) > LARGEST_T:
        result["reason"] = "no interval of the effect size: next to no variance"
    return result | dict(zip(TESTED, numbers, strict=True))


def one_sample(
    values: ArrayLike,
    value: float,
    alternative: Alternative = "two-sided",
    *,
    confidence: float = 0.95,
    n_resamples: int = 10_000,
    rng: Rng = 0,
) -> dict[str, Any]:
    """One-sample t-test against `value`, with Wilcoxon's signed-rank and a sign-flip permutation test beside it.

    Returns
    -------
    dict
        value, alternative, n, t, df, p, log10_p; cohen_d (signed: (mean − value) / sd) and hedges_g (with the exact
        small-sample factor), each with _ci_low and _ci_high (two-sided, by the noncentral t); wilcoxon_p;
        permutation_p (never 0); and `reason` where the test does not exist.

    Notes
    -----
    The t-test takes normal means for granted, Wilcoxon's and the permutation test symmetry about `value`.

    Examples
    --------
    >>> found = one_sample([1.0, 2.0, 3.0], 2.0)  # the mean is the value
    >>> found["t"], found["df"], round(found["p"], 9), found["cohen_d"]
    (0.0, 2.0, 1.0, 0.0)
    """
    test = {"": (values, value, alternative)}
    return one_sample_columns(test, confidence=confidence, n_resamples=n_resamples, rng=rng)[""]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction over one family (Holm 1979); NaN stays NaN and does not count as a member.

    The k-th smallest of m is multiplied by m − k + 1; none may then be below a smaller one's, or above 1.

    Examples
    --------
    >>> holm([0.03, 0.01])  # 0.01 · 2, then 0.03 · 1
    [0.03, 0.02]
    """
    p = np.asarray(p_values, np.float64)
    adjusted = np.full(p.shape, math.nan)
    order = np.argsort(p, kind="stable")[: np.isfinite(p).sum()]  # NaN is sorted to the end
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1.0)
    return [float(value) for value in adjusted]
