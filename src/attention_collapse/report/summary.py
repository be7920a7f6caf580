"""A result as text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def _line(label: str, summary: Mapping[str, Any], confidence: float) -> str:
    low, high = summary["ci_low"], summary["ci_high"]
    interval = (
        f"{confidence:.0%} CI [{low:.4f}, {high:.4f}]" if math.isfinite(low) else f"no interval: {summary['reason']}"
    )
    return f"  {label:<15}{summary['mean']:.4f}   {interval}"


def diagnosis_text(result: Mapping[str, Any]) -> str:
    """The summary that `attention-collapse diagnose` prints."""
    statistics, confidence = result["statistics"], result["confidence"]
    mcs, null = statistics["mcs"], statistics["mcs_null"]
    weights = result["weights"]
    lines = [
        f"{result['model']}  ({weights}; {result['parameters']:,} parameters)",
        f"{result['n_images']} images, {result['n_pairs']} pairs, {len(result['skipped'])} skipped, "
        f"rows: {result['rows']}",
    ]
    if result["untrained"]:
        lines.insert(0, "NOTE: untrained weights. This is a control, not a result about a trained model.")
    if result["n_truncated_captions"]:
        lines.append(f"{result['n_truncated_captions']} captions were longer than the context and were cut")
    lines += [f"  skipped {item['kind']} {item['id']}: {item['reason']}" for item in result["skipped"][:10]]
    lines += [
        "",
        _line("MCS", mcs, confidence),
        _line("null", null, confidence),
        _line("calibrated", statistics["mcs_calibrated"], confidence) + "   (0.5 = no departure from the null)",
        f"  {'entropy':<15}vision {statistics['entropy_vision']['mean']:.4f} nats, "
        f"text {statistics['entropy_text']['mean']:.4f} nats",
        "",
        f"  by the original thresholds (0.3 / 0.7): {statistics['reading_original']}; "
        f"{result['share_of_pairs_above_0_7']:.1%} of pairs above 0.7, "
        f"where uniform attention already has {result['share_of_nulls_above_0_7']:.1%}",
        f"  against the null: {statistics['reading_null']} (MCS − null = {statistics['mcs_minus_null']['mean']:+.4f})",
    ]
    return "\n".join(lines)
