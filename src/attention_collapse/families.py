"""The families of models, and which measures each defines (the measurement contract, sections 2 and 3)."""

from __future__ import annotations

from collections.abc import Mapping

DUAL_ENCODER = "dual encoder"
CROSS_ATTENTION = "cross-attention fusion"
SINGLE_STREAM = "single stream"
THREE_GROUP = "three-group fusion"
NO_ATTENTION = "no attention"
FAMILIES = (DUAL_ENCODER, CROSS_ATTENTION, SINGLE_STREAM, THREE_GROUP, NO_ATTENTION)

SHARES = ("mcs", "mcs_null", "mcs_calibrated", "imbalance")
CROSS_MODAL = ("cross_modal_entropy", "cross_modal_entropy_normalized")
SURROGATE = ("cross_modal_entropy_surrogate", "cross_modal_entropy_surrogate_normalized")
MASS = ("mass_share", "mass_share_null", "mass_per_token_ratio")
ENTROPIES = ("entropy_vision", "entropy_text")
ATTENTION_MEASURES = (*SHARES, *ENTROPIES, *CROSS_MODAL, *SURROGATE, *MASS)


def undefined_measures(family: str, missing: Mapping[str, str]) -> dict[str, str]:
    """measure -> why this model does not have it.

    Parameters
    ----------
    missing
        "vision", "text" or "surrogate" -> what this one model lacks, beyond what its family does.
    """
    if family == NO_ATTENTION:
        reason = missing.get("vision", "the model has no attention that can be seen")
        return dict.fromkeys(ATTENTION_MEASURES, reason)
    reasons: dict[str, str] = {}
    if family == DUAL_ENCODER:
        reasons |= dict.fromkeys(CROSS_MODAL, "a dual encoder holds no attention between modalities")
        reasons |= dict.fromkeys(MASS, "no query of a dual encoder sees both groups")
        if "surrogate" in missing:
            reasons |= dict.fromkeys(SURROGATE, missing["surrogate"])
    else:
        reasons |= dict.fromkeys(SURROGATE, "the model has real attention between modalities")
    if family == CROSS_ATTENTION:
        reasons |= dict.fromkeys(MASS, "no query sees both groups in one attention call")
    for tower in ("vision", "text"):
        if tower in missing:
            reasons |= dict.fromkeys((*SHARES, f"entropy_{tower}"), missing[tower])
    return reasons
