"""How large an effect is, in standard deviations, with exact intervals."""

from __future__ import annotations

import math

from scipy import special

LARGEST_T = 1e4  # beyond it the noncentral t takes seconds and loses its digits; such a sample has next to no variance


def hedges_factor(df: float) -> float:
    """Exact small-sample factor J(df) = Γ(df/2) / (√(df/2) Γ((df − 1)/2)) of Hedges (1981); NaN below 2 df.

    Examples
    --------
    >>> round(hedges_factor(2) * math.sqrt(math.pi), 9)  # Γ(1) / Γ(½)
    1.0
    """
    if df < 2:
        return math.nan
    return math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2)


def cohen_d_interval(t: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of Cohen's d of one sample (or of paired differences, d_z) from its t statistic, in sd.

    The limits are the noncentrality parameters under which the observed t is the upper and the lower tail's quantile,
    over √n (Steiger & Fouladi 1997; R: MBESS::conf.limits.nct). NaN for `|t|` above 10,000.

    Examples
    --------
    >>> low, high = cohen_d_interval(0.0, 25)
    >>> round(low + high, 6)  # symmetric about an effect of 0
    0.0
    """
    if not abs(t) <= LARGEST_T:
        return math.nan, math.nan
    tail = (1 - confidence) / 2
    low, high = (float(special.nctdtrinc(n - 1, p, t)) / math.sqrt(n) for p in (1 - tail, tail))
    return low, high
