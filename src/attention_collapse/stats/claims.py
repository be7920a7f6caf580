"""What reported numbers imply of one another: the audit (docs/measures.md, section 8).

Two readings of "0.73 ± 0.08" are followed: ± is the standard deviation over images, or the half-width of the interval
of the mean. No more than one of them can be what was meant, so a claim that depends on it is one claim with two
readings. Intervals and tests are those of a one-sample t-test with n − 1 degrees of freedom.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from scipy import stats

from attention_collapse.stats import ties
from attention_collapse.stats.power import images_needed, t_test_power

READINGS = {"sd": "± is the sd over images", "half_width": "± is the half-width of the interval"}


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
    """Whether `implied`, rounded to as many decimals as `reported` shows, is `reported` (within one unit's half).

    Examples
    --------
    >>> agrees(0.73, 0.7349), agrees(0.73, 0.7361)
    (True, False)
    """
    exponent = Decimal(str(reported)).normalize().as_tuple().exponent
    places = -exponent if isinstance(exponent, int) and exponent < 0 else 0
    return math.isfinite(implied) and abs(implied - reported) <= 0.5 * 10.0**-places * (1 + 1e-9)


def effect(mean: float, reference: float, sd: float) -> float:
    """Cohen's d of one sample: (mean − reference) / sd.

    Examples
    --------
    >>> effect(0.75, 0.5, 0.125)
    2.0
    """
    return (mean - reference) / sd


def implied(reported: Reported) -> dict[str, dict[str, Any]]:
    """Claim -> about, reported, implied (in the same unit), from (what implies it), consistent; and what lies between.

    A claim that turns on what ± means has `readings`, one for each of `READINGS`, in place of `implied`, and is
    consistent if it is under one of them. An interval has its ends in place of one value, as `reported_low` and so on.
    A claim that was not reported as a number (the middle third) has reported None and says its own rule.
    """
    r = reported
    middle = 3 * r.mcs - r.early - r.late  # thirds of equal size
    latency = r.latency_ms / 1000

    def claim(about: str, value: float, implication: float, source: str, **more: Any) -> dict[str, Any]:
        same = agrees(value, implication)
        return {"about": about, "reported": value, "implied": implication, "from": source, "consistent": same} | more

    return {
        "mcs": claim("mean MCS", r.mcs, (r.ci_low + r.ci_high) / 2, "the centre of the reported interval"),
        "cohen_d": _effect_size(r),
        "interval": _interval(r),
        "power": claim("power of the test", r.power, t_test_power(r.cohen_d, r.n, alpha=r.alpha), "n and d"),
        "middle_third": {
            "about": "MCS of the middle third of the layers",
            "reported": None,
            "implied": middle,
            "from": "the mean, the early and the late third",
            "consistent": not (ties.below(middle, r.early) or ties.above(middle, r.late)),
            "rule": "consistent if it lies between the early and the late third, as a rise over the layers does",
            "implied_at_late_bound": 3 * r.mcs - r.early - r.late_bound,
        },
        "seconds": claim(
            "seconds a sample", r.seconds, latency, "the reported latency", ratio=r.seconds / latency
        ),
        "planned_n": claim(
            "images for the planned power", r.planned_n,
            images_needed(r.planned_d, power=r.planned_power, alpha=r.alpha)[0], "the planned d and power",
        ),
    }  # fmt: skip


def _quantile(r: Reported) -> float:
    return float(stats.t.ppf((1 + r.confidence) / 2, r.n - 1))


def _effect_size(r: Reported) -> dict[str, Any]:
    """Cohen's d under both readings, and the sd that the reported d needs."""
    root_n = math.sqrt(r.n)
    sds = {"sd": r.plus_minus, "half_width": r.plus_minus * root_n / _quantile(r)}
    readings = {}
    for name, sd in sds.items():
        d = effect(r.mcs, r.reference, sd)
        readings[name] = {
            "implied": d, "sd": sd, "t": d * root_n, "df": r.n - 1, "consistent": agrees(r.cohen_d, d),
        }  # fmt: skip
    return {
        "about": "Cohen's d",
        "reported": r.cohen_d,
        "from": "the mean, n and ±",
        "sd_needed": (r.mcs - r.reference) / r.cohen_d,
        **_either(readings),
    }


def _interval(r: Reported) -> dict[str, Any]:
    """The interval of the mean under both readings."""
    half_widths = {"sd": _quantile(r) * r.plus_minus / math.sqrt(r.n), "half_width": r.plus_minus}
    readings = {}
    for name, half in half_widths.items():
        low, high = r.mcs - half, r.mcs + half
        readings[name] = {
            "implied_low": low, "implied_high": high, "consistent": agrees(r.ci_low, low) and agrees(r.ci_high, high),
        }  # fmt: skip
    ends = agrees(r.ci_low, r.mcs - r.plus_minus) and agrees(r.ci_high, r.mcs + r.plus_minus)
    return {
        "about": "interval of the mean",
        "reported_low": r.ci_low,
        "reported_high": r.ci_high,
        "from": "the mean, n and ±",
        "is_mean_and_plus_minus": ends,
        **_either(readings),
    }


def _either(readings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The readings, and whether the claim is consistent under one of them."""
    return {"readings": dict(readings), "consistent": any(found["consistent"] for found in readings.values())}


def n_consistent(claims: Mapping[str, Mapping[str, Any]], reading: str) -> int:
    """How many claims agree with what the others imply, if ± means this one thing throughout."""
    return sum(bool(claim.get("readings", {}).get(reading, claim)["consistent"]) for claim in claims.values())
