"""A result as text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from attention_collapse.measures.attention import ATTENTION_MEASURES
from attention_collapse.measures.catalogue import MEASURES
from attention_collapse.measures.contribution import CONTRIBUTION_MEASURES

WIDTH = max(len(measure.label) for measure in MEASURES.values()) + 2


def _line(label: str, summary: Mapping[str, Any], confidence: float, unit: str = "") -> str:
    low, high = summary["ci_low"], summary["ci_high"]
    finite = low is not None and math.isfinite(low)
    interval = f"{confidence:.0%} CI [{low:.4f}, {high:.4f}]" if finite else f"no interval: {summary['reason']}"
    undefined = f"   ({summary['n_undefined']} undefined)" if summary["n_undefined"] else ""
    return f"  {label:<{WIDTH}}{summary['mean']:.4f}   {interval}{undefined}{'   ' + unit if unit else ''}"


def _attention(result: Mapping[str, Any]) -> list[str]:
    statistics, confidence = result["statistics"], result["confidence"]
    lines = [
        _line(found.label, statistics[name], confidence, found.unit)
        for name, found in ATTENTION_MEASURES.items()
        if name in statistics and statistics[name]["n"]
    ]
    reasons: dict[str, list[str]] = {}
    for measure, reason in result["reasons"].items():
        reasons.setdefault(reason, []).append(ATTENTION_MEASURES[measure].label)
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
    known = {name: found for name, found in CONTRIBUTION_MEASURES.items() if name in causal}
    lines += [
        _line(found.label, causal[name], result["confidence"], found.unit)
        for name, found in known.items()
        if causal[name]["n"]
    ]
    lines += [
        f"  not defined: {found.label}: {causal[name]['reason']}"
        for name, found in known.items()
        if not causal[name]["n"] and "reason" in causal[name]
    ]
    lines.append(f"  an absent modality is {' or '.join(causal['baselines'])}; {causal['partners']} partners")
    return "\n".join(lines)
