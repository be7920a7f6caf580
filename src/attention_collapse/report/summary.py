"""A result as text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

LABELS = {
    "mcs": ("MCS", ""),
    "mcs_null": ("null", ""),
    "mcs_calibrated": ("calibrated", "(0.5 = no departure from the null)"),
    "entropy_vision": ("entropy, vision", "nats"),
    "entropy_text": ("entropy, text", "nats"),
    "cross_modal_entropy": ("cross-modal entropy", "nats"),
    "cross_modal_entropy_normalized": ("  of its maximum", ""),
    "cross_modal_entropy_surrogate": ("surrogate of cross-modal entropy", "nats; similarity, not attention"),
    "mass_share": ("mass share of the image", ""),
    "mass_share_null": ("null of the mass share", ""),
    "mass_per_token_ratio": ("mass per token, image ÷ text", ""),
}
CAUSAL = {
    "score": "score",
    "shapley_image": "Shapley value of the image",
    "shapley_text": "Shapley value of the text",
    "shapley_share": "share of the image",
    "interaction": "interaction",
    "shapley_share_mean_image": "share, against the mean image",
    "accuracy": "accuracy against a foil",
    "perceptual_score_image": "  lost with another image",
    "perceptual_score_text": "  lost with another text",
    "emap_gap": "  lost without interaction (EMAP)",
}


def _line(label: str, summary: Mapping[str, Any], confidence: float, unit: str = "") -> str:
    low, high = summary["ci_low"], summary["ci_high"]
    finite = low is not None and math.isfinite(low)
    interval = f"{confidence:.0%} CI [{low:.4f}, {high:.4f}]" if finite else f"no interval: {summary['reason']}"
    undefined = f"   ({summary['n_undefined']} undefined)" if summary["n_undefined"] else ""
    return f"  {label:<34}{summary['mean']:.4f}   {interval}{undefined}{'   ' + unit if unit else ''}"


def _attention(result: Mapping[str, Any]) -> list[str]:
    statistics, confidence = result["statistics"], result["confidence"]
    lines = [
        _line(label, statistics[key], confidence, unit) for key, (label, unit) in LABELS.items() if statistics[key]["n"]
    ]
    reasons: dict[str, list[str]] = {}
    for measure, reason in result["reasons"].items():
        if measure in LABELS:
            reasons.setdefault(reason, []).append(measure)
    lines += [f"  not defined: {', '.join(measures)}: {reason}" for reason, measures in reasons.items()]
    if statistics["mcs"]["n"]:
        lines += [
            "",
            f"  by the original thresholds (0.3 / 0.7): {statistics['reading_original']}; "
            f"{result['share_of_pairs_above_0_7']:.1%} of pairs above 0.7, "
            f"where uniform attention already has {result['share_of_nulls_above_0_7']:.1%}",
            f"  against the null: {statistics['reading_null']} "
            f"(MCS − null = {statistics['mcs_minus_null']['mean']:+.4f})",
        ]
    return lines


def diagnosis_text(result: Mapping[str, Any]) -> str:
    """The summary that `attention-collapse diagnose` prints."""
    lines = [
        f"{result['model']}  ({result['family']}; {result['weights']}; {result['parameters']:,} parameters)",
        f"{result['n_images']} images, {result['n_pairs']} pairs, {len(result['skipped'])} skipped, "
        f"rows: {result['rows']}",
    ]
    if result["untrained"]:
        lines.insert(0, "NOTE: untrained weights. This is a control, not a result about a trained model.")
    lines += [f"NOTE: {note}" for note in result["notes"]]
    if result["n_truncated_captions"]:
        lines.append(f"{result['n_truncated_captions']} captions were longer than the context and were cut")
    lines += [f"  skipped {item['kind']} {item['id']}: {item['reason']}" for item in result["skipped"][:10]]
    lines += ["", "attention: where the model looks", *_attention(result)]
    causal = result["causal"]
    lines += ["", "contribution: what the score depends on"]
    if "reason" in causal:
        return "\n".join([*lines, f"  none: {causal['reason']}"])
    lines += [_line(label, causal[key], result["confidence"]) for key, label in CAUSAL.items() if causal[key]["n"]]
    lines += [
        f"  not defined: {key}: {causal[key]['reason']}"
        for key in CAUSAL
        if not causal[key]["n"] and "reason" in causal[key]
    ]
    lines.append(f"  an absent modality is {' or '.join(causal['baselines'])}; {causal['partners']} partners")
    return "\n".join(lines)
