"""Ways to train against plain training of the same seeds: differences, and the rule that says which prevents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from attention_collapse.params import GainRule
from attention_collapse.stats import ties
from attention_collapse.stats.few_models import mean_with_t
from attention_collapse.stats.one_sample import holm

Floats = NDArray[np.float64]
UNDETERMINED = "undetermined"  # a verdict of fewer than two seeds


def over_seeds(values: Sequence[float], confidence: float) -> dict[str, float]:
    """The mean over seeds with its t interval."""
    mean, low, high = mean_with_t(values, confidence)
    return {"mean": mean, "ci_low": low, "ci_high": high}


def compared(gain: Floats, change: Floats, rule: GainRule, confidence: float) -> dict[str, Any]:
    """What a way to train gains over plain training, and what it changes where that does well.

    Parameters
    ----------
    gain, change
        (seed,) paired differences of accuracy: where the cue does not help, and as trained.

    Returns
    -------
    dict
        gain, change_trained: means with their intervals; p_gain, one-sided, that the gain is at most the rule's;
        p_no_loss, one-sided, that as much as the rule allows is lost, or more.
    """
    return {
        "gain": over_seeds(gain.tolist(), confidence), "change_trained": over_seeds(change.tolist(), confidence),
        "p_gain": _p_above(gain, rule.gain), "p_no_loss": _p_above(change, -rule.loss),
    }  # fmt: skip


def judge(judged: Sequence[dict[str, Any]], alpha: float, named: int) -> None:
    """Add p_gain_holm and the verdict to what `compared` gave of the arms of a kind.

    An arm prevents if its gain is shown to be above the rule's (one-sided paired t-test over seeds, by Holm over all
    that the study names) and its accuracy as trained is shown not to be worse by more than the rule's loss (one-sided,
    at the same level). Verdicts: "prevents"; "costs accuracy", where the gain is shown and the second is not; "not
    shown"; "undetermined" of fewer than two seeds.

    Parameters
    ----------
    named
        How many comparisons the study names. Those without a p-value yet count as showing nothing (p = 1), so that
        nothing is gained by leaving one out.
    """
    known = [found["p_gain"] for found in judged if not math.isnan(found["p_gain"])]
    corrected = iter(holm([*known, *[1.0] * (named - len(known))]))
    for found in judged:
        if math.isnan(found["p_gain"]):
            found |= {"p_gain_holm": math.nan, "verdict": UNDETERMINED}
            continue
        found["p_gain_holm"] = p = next(corrected)
        gained, kept = ties.below(p, alpha), ties.below(found["p_no_loss"], alpha)
        found["verdict"] = "prevents" if gained and kept else "costs accuracy" if gained else "not shown"


def could_be_shown(most: Floats, bound: float, alpha: float) -> bool:
    """Whether any gains over the same seeds could be shown to be above a bound, each of them at most `most`.

    Of all gains with the same mean those that are cut at one height vary least, so that they have the greatest t: only
    such ones are looked at.

    Parameters
    ----------
    most
        (seed,) the greatest gain that is possible: what plain training gets wrong.

    Examples
    --------
    >>> could_be_shown(np.array([0.06, 0.06, 0.06]), 0.05, 0.05), could_be_shown(np.array([0.04, 0.06]), 0.05, 0.05)
    (True, False)
    """
    heights = np.linspace(bound, most.max(), CUTS)
    return any(ties.below(_p_above(np.minimum(most, height), bound), alpha) for height in heights)


CUTS = 1001  # heights that are tried


def _p_above(values: Floats, bound: float) -> float:
    """One-sided p of the paired t-test that the mean is at most `bound`; NaN of fewer than two."""
    if len(values) < 2:
        return math.nan
    if np.ptp(values) < 1e-9:  # of accuracies: all the same
        return 0.0 if ties.above(values[0], bound) else 1.0
    return float(scipy_stats.ttest_1samp(values, bound, alternative="greater").pvalue)
