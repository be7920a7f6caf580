"""What reported numbers imply of one another: the audit (docs/measures.md, section 8).

Two readings of "0.73 ± 0.08" are followed: ± is the standard deviation over images, or the half-width of the interval
of the mean. Intervals and tests are those of a one-sample t-test with n − 1 degrees of freedom.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pingouin as pg
from scipy import stats

from attention_collapse.stats import ties


@dataclass(frozen=True)
class Reported:
    """The reported values; shares 0 to 1, times as their names say, d in standard deviations."""

    mcs: float
    plus_minus: float
    n: int
    reference: float
    cohen_d: float
    ci_low: float
    ci_high: float
    confidence: float
    power: float
    alpha: float
    early: float
    late_bound: float
    late: float
    seconds: float
    latency_ms: float
    planned_n: int
    planned_d: float
    planned_power: float


def agrees(reported: float, implied: float) -> bool:
    """Whether `implied`, rounded to as many decimals as `reported` shows, is `reported` (within one unit's half)."""
    exponent = Decimal(str(reported)).normalize().as_tuple().exponent
    places = -exponent if isinstance(exponent, int) and exponent < 0 else 0
    return math.isfinite(implied) and abs(implied - reported) <= 0.5 * 10.0**-places * (1 + 1e-9)


def effect(mean: float, reference: float, sd: float) -> float:
    """Cohen's d of one sample: (mean − reference) / sd."""
    return (mean - reference) / sd


def _power(d: float, alpha: float, n: int | None = None, power: float | None = None) -> float:
    """Power of the two-sided one-sample t-test, or the n for a power (noncentral t, by pingouin)."""
    found: float = pg.power_ttest(d=d, n=n, power=power, alpha=alpha, contrast="one-sample", alternative="two-sided")
    return float(found)


def implied(reported: Reported) -> dict[str, dict[str, Any]]:
    """Claim -> about, reported, implied (in the same unit), from (what implies it), consistent; and what lies between.

    A claim that was not reported as a number (the middle third) has reported None and says its own rule.
    """
    r = reported
    root_n = math.sqrt(r.n)
    quantile = float(stats.t.ppf((1 + r.confidence) / 2, r.n - 1))
    half_width = quantile * r.plus_minus / root_n  # of the mean's interval, if ± is the sd
    sd_of_interval = r.plus_minus * root_n / quantile  # if ± is that half-width
    difference = r.mcs - r.reference
    d_if_sd = effect(r.mcs, r.reference, r.plus_minus)
    middle = 3 * r.mcs - r.early - r.late  # thirds of equal size
    latency = r.latency_ms / 1000

    def claim(about: str, value: float, implication: float, source: str, **more: Any) -> dict[str, Any]:
        same = agrees(value, implication)
        return {"about": about, "reported": value, "implied": implication, "from": source, "consistent": same} | more

    sd, half = "the mean, n and ± as sd", "the mean, n and ± as half-width of the interval"
    found = {
        "mcs": claim("mean MCS", r.mcs, (r.ci_low + r.ci_high) / 2, "the centre of the reported interval"),
        "sd": claim("sd of MCS, if ± is the sd", r.plus_minus, difference / r.cohen_d, "the mean and d"),
        "cohen_d_if_sd": claim(
            "Cohen's d, if ± is the sd", r.cohen_d, d_if_sd, sd, t=d_if_sd * root_n, df=r.n - 1
        ),
        "cohen_d_if_half_width": claim(
            "Cohen's d, if ± is a half-width", r.cohen_d, effect(r.mcs, r.reference, sd_of_interval), half,
            sd=sd_of_interval,
        ),
        "ci_low": claim(
            "interval of the mean, low", r.ci_low, r.mcs - half_width, sd,
            mean_minus_sd=r.mcs - r.plus_minus, is_mean_minus_sd=agrees(r.ci_low, r.mcs - r.plus_minus),
        ),
        "ci_high": claim(
            "interval of the mean, high", r.ci_high, r.mcs + half_width, sd,
            mean_plus_sd=r.mcs + r.plus_minus, is_mean_plus_sd=agrees(r.ci_high, r.mcs + r.plus_minus),
        ),
        "power": claim("power of the test", r.power, _power(r.cohen_d, r.alpha, n=r.n), "n and d"),
        "seconds": claim(
            "seconds a sample", r.seconds, latency, "the reported latency", ratio=r.seconds / latency
        ),
        "planned_n": claim(
            "images for the planned power", r.planned_n, math.ceil(_power(r.planned_d, r.alpha, power=r.planned_power)),
            "the planned d and power",
        ),
    }  # fmt: skip
    found["middle_third"] = {
        "about": "MCS of the middle third of the layers",
        "reported": None,
        "implied": middle,
        "from": "the mean, the early and the late third",
        "consistent": not (ties.below(middle, r.early) or ties.above(middle, r.late)),
        "rule": "consistent if it lies between the early and the late third, as a rise over the layers does",
        "implied_at_late_bound": 3 * r.mcs - r.early - r.late_bound,
    }
    return found
