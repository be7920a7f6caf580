"""Does a model lean on one modality beyond a bound, or is it shown not to?

Both are claims that need evidence: "severe" needs a lower limit above the bound, "not severe" an upper limit below
it, and between them a model is undecided. Power is no substitute for the upper limit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from attention_collapse.stats import ties
from attention_collapse.stats.of_means import Function, bootstrap, describe_of_means
from attention_collapse.stats.one_sample import Rng, describe_columns, one_sample_columns
from attention_collapse.stats.power import images_needed, simulated_power

IMAGE, TEXT, NEITHER = "the image", "the text", "neither"


def severity_columns(
    shares: Mapping[str, ArrayLike],
    *,
    threshold: float,
    margin: float,
    alpha: float,
    power: float,
    confidence: float = 0.95,
    n_resamples: int = 10_000,
    rng: Rng,
) -> dict[str, dict[str, Any]]:
    """Test a mean imbalance against a bound, from both sides, for each share-like measure of one model.

    Parameters
    ----------
    shares
        measure -> (image,) shares s, 0 to 1; NaN where undefined. The imbalance of an image is max(s, 1 − s), so 0.5 to
        1. A `shapley_share` is a share of absolute Shapley values: a modality that lowers the score counts by how much.
    margin
        `power` of the result is that to show a true mean imbalance of threshold + margin.
    alpha
        Level of the test that the power is about. α over the models tested is what Holm's correction asks of the
        smallest p, so at that level the power after correction is at least the one given.
    power
        That `n_needed` and `n_to_settle` ask for.

    Returns
    -------
    dict
        measure -> mean, sd, n, n_undefined, ci_low, ci_high of the imbalance; share and ignored (the mean share, and
        the modality that it speaks of: "the image", "the text" or "neither"); share_severe (images above the threshold,
        0 to 1); the one-sided test (see `one_sample`) of H0 "mean imbalance ≤ threshold", and p_balanced, that of H0
        "≥ threshold"; margin; power (simulated from these residuals at this n), power_alpha; n_needed (images for
        `power` at that margin and this sd, by the noncentral t), n_still_needed; n_to_settle (the same at the distance
        that was found between mean and threshold); `reason` where the test does not exist, `n_needed_reason` where that
        number does not.
    """
    given = {name: np.asarray(values, np.float64) for name, values in shares.items()}
    imbalances = {name: np.maximum(values, 1 - values) for name, values in given.items()}
    options: dict[str, Any] = {"confidence": confidence, "n_resamples": n_resamples, "rng": rng}
    described = describe_columns(imbalances, **options)
    tested = one_sample_columns(
        {name: (values, threshold, "greater") for name, values in imbalances.items()}, **options
    )
    result = {}
    for name, values in imbalances.items():
        known, sd = values[np.isfinite(values)], described[name]["sd"]
        varied = not math.isnan(tested[name]["t"])
        needed, why = images_needed(
            margin / sd if varied else math.nan, power=power, alpha=alpha, alternative="greater"
        )
        result[name] = described[name] | tested[name] | {
            **_direction(float(np.nanmean(given[name])) if known.size else math.nan),
            "p_balanced": float(stats.t.cdf(tested[name]["t"], tested[name]["df"])) if varied else math.nan,
            "share_severe": float(ties.above(known, threshold).mean()) if known.size else math.nan,
            "margin": margin,
            "power": simulated_power(values, margin, alpha=alpha, n_simulations=n_resamples, rng=rng),
            "power_alpha": alpha,
            "n_needed": needed,
            "n_still_needed": max(0, needed - known.size) if why is None else math.nan,
            "n_to_settle": to_settle(described[name], threshold, alpha=alpha, power=power),
        }  # fmt: skip
        if why:
            result[name]["n_needed_reason"] = why
    return result


def severity_of_means(
    columns: Sequence[ArrayLike],
    function: Function,
    *,
    threshold: float,
    alpha: float,
    power: float,
    confidence: float = 0.95,
    n_resamples: int = 10_000,
    rng: Rng,
) -> dict[str, Any]:
    """The same for a share R that is a function of means over images: its imbalance is max(R, 1 − R), of the model.

    Returns
    -------
    dict
        mean (the imbalance), sd (of R, as of `describe_of_means`), n, n_undefined, ci_low, ci_high (from R's interval);
        share (R) and ignored; p (of H0 "imbalance ≤ threshold") and p_balanced (of H0 "≥ threshold"), by the bootstrap
        that the interval is made of; n_to_settle; `reason` where they do not exist.
    """
    options: dict[str, Any] = {"n_resamples": n_resamples, "rng": rng}
    share = describe_of_means(columns, function, confidence=confidence, **options)
    low, high, value = share["ci_low"], share["ci_high"], share["mean"]
    ends = (low, high) if low >= 0.5 else (1 - high, 1 - low) if high <= 0.5 else (0.5, max(high, 1 - low))
    result = share | {"mean": max(value, 1 - value), **_direction(value)}
    result |= {"ci_low": ends[0], "ci_high": ends[1], "p": math.nan, "p_balanced": math.nan}
    if not (math.isfinite(low) and math.isfinite(high)):
        result |= {"ci_low": math.nan, "ci_high": math.nan}
    found = bootstrap(columns, function, **options)
    if not isinstance(found, str):
        result["p"] = min(found.p_at_most(threshold), found.p_at_least(1 - threshold))
        result["p_balanced"] = max(found.p_at_least(threshold), found.p_at_most(1 - threshold))
    return result | {"n_to_settle": to_settle(result, threshold, alpha=alpha, power=power)}


def _direction(share: float) -> dict[str, Any]:
    """The mean share of the image, and which modality it says is used less."""
    ignored = IMAGE if ties.below(share, 0.5) else TEXT if ties.above(share, 0.5) else NEITHER
    return {"share": share, "ignored": ignored}


def to_settle(summary: Mapping[str, Any], threshold: float, *, alpha: float, power: float) -> float:
    """Images with which a mean at this distance from the threshold would be told from it; NaN if that is unknown."""
    sd, distance = summary["sd"], abs(summary["mean"] - threshold)
    if not (math.isfinite(distance) and sd > 0):
        return math.nan
    return images_needed(distance / sd, power=power, alpha=alpha, alternative="greater")[0]
