"""What a sample looks like: normality, shape, outliers. Reported beside the tests; nothing is removed or changed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from attention_collapse.stats import ties

NUMBERS = ("shapiro_w", "shapiro_p", "skew", "kurtosis", "outliers_iqr", "outliers_mad")
FAR = float(stats.norm.isf(0.0125))  # 2.24 scaled deviations: 2.5 % of a normal sample lies further away


def describe_shape(values: ArrayLike) -> dict[str, Any]:
    """Normality, shape and outliers of one sample; NaN values are left out.

    Returns
    -------
    dict
        n; shapiro_w and shapiro_p (Shapiro & Wilk 1965; p is approximate beyond 5,000 values); skew and kurtosis (of
        samples, 0 for a normal distribution; as Excel and SAS, by scipy with bias=False; NaN below 3 and 4 values);
        outliers_iqr (values further than 1.5 interquartile ranges outside the quartiles, Tukey 1977; quartiles of R's
        type 7); outliers_mad (values further than 2.24 scaled median absolute deviations from the median, Wilcox
        2011); `reason` where there is nothing to say.

    Examples
    --------
    >>> describe_shape([*range(10), 16])["outliers_iqr"]  # quartiles 2.5 and 7.5, so that the fence is at 15
    1
    """
    x = np.asarray(values, np.float64)
    x = x[np.isfinite(x)]
    result: dict[str, Any] = {"n": int(x.size)} | dict.fromkeys(NUMBERS, math.nan)
    if x.size < 3:
        return result | {"reason": f"{x.size} defined value{'s' if x.size != 1 else ''}, 3 or more needed"}
    if ties.constant(x):
        return result | {"reason": "no variance"}
    x = ties.settle(x)
    normality = stats.shapiro(x)
    low, high = np.percentile(x, [25, 75])
    reach = 1.5 * (high - low)
    result |= {
        "shapiro_w": float(normality.statistic),
        "shapiro_p": float(normality.pvalue),
        "skew": float(stats.skew(x, bias=False)),
        "kurtosis": float(stats.kurtosis(x, bias=False)) if x.size > 3 else math.nan,
        "outliers_iqr": int((ties.below(x, low - reach) | ties.above(x, high + reach)).sum()),
    }
    spread = float(stats.median_abs_deviation(x, scale="normal"))
    if spread == 0:
        return result | {"reason": "outliers_mad: more than half the values are equal"}
    return result | {"outliers_mad": int((np.abs(x - np.median(x)) / spread > FAR).sum())}
