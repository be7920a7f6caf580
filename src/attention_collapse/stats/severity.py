"""Does a model lean on one modality beyond a threshold, and could so many images have shown it?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from attention_collapse.stats import ties
from attention_collapse.stats.one_sample import Rng, describe_columns, one_sample_columns
from attention_collapse.stats.power import images_needed, simulated_power


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
    """Test H0 "mean imbalance ≤ threshold" for each share-like measure of one model.

    Parameters
    ----------
    shares
        measure -> (image,) shares s, 0 to 1; NaN where undefined. The imbalance of an image is max(s, 1 − s), so 0.5 to
        1. A `shapley_share` is a share of absolute Shapley values: a modality that lowers the score counts by how much.
    margin
        The power is that to show a true mean imbalance of threshold + margin.
    power
        That `n_needed` asks for.
    alpha
        Level of the test that the power is about. α over the models tested is what Holm's correction asks of the
        smallest p, so at that level the power after correction is at least the one given.

    Returns
    -------
    dict
        measure -> mean, sd, n, n_undefined, ci_low, ci_high of the imbalance; share_severe (images above the
        threshold, 0 to 1); the one-sided test (see `one_sample`); margin; power (simulated from these residuals at this
        n), power_alpha; n_needed (images for `power` at that margin and this sd, by the noncentral t) and
        n_still_needed (those not yet there); `reason` where the test does not exist, `n_needed_reason` where that
        number does not.
    """
    given = {name: np.asarray(values, np.float64) for name, values in shares.items()}
    imbalances = {name: np.maximum(values, 1 - values) for name, values in given.items()}
    described = describe_columns(imbalances, confidence=confidence, n_resamples=n_resamples, rng=rng)
    tested = one_sample_columns(
        {name: (values, threshold, "greater") for name, values in imbalances.items()},
        confidence=confidence,
        n_resamples=n_resamples,
        rng=rng,
    )
    result = {}
    for name, values in imbalances.items():
        known, sd = values[np.isfinite(values)], described[name]["sd"]
        varied = not math.isnan(tested[name]["t"])
        needed, why = images_needed(
            margin / sd if varied else math.nan, power=power, alpha=alpha, alternative="greater"
        )
        result[name] = described[name] | tested[name] | {
            "share_severe": float(ties.above(known, threshold).mean()) if known.size else math.nan,
            "margin": margin,
            "power": simulated_power(values, margin, alpha=alpha, n_simulations=n_resamples, rng=rng),
            "power_alpha": alpha,
            "n_needed": needed,
            "n_still_needed": max(0, needed - known.size) if why is None else math.nan,
        }  # fmt: skip
        if why:
            result[name]["n_needed_reason"] = why
    return result
