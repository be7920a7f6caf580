"""What the view of training shows: collapse dose by dose, and ways to train side by side, with their curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from attention_collapse.engine.arm_cells import BASELINE, OTHER
from attention_collapse.engine.arm_summary import WATCHED
from attention_collapse.engine.dose_summary import FALLEN, HELD_OUT
from attention_collapse.registry import kind_label
from attention_collapse.report.evidence import Evidence
from attention_collapse.report.explorer import charts
from attention_collapse.report.explorer.charts import Chart, Line
from attention_collapse.report.explorer.cited import cited, estimate
from attention_collapse.report.prevention import CUES

ACCURACIES = (  # column, in words
    (HELD_OUT, "cue says nothing (decides)"), ("accuracy_trained", "cue as in training"),
    ("accuracy_reversed", "cue reversed"),
)  # fmt: skip
Watched = Mapping[str, Mapping[str, Mapping[str, Sequence[pd.DataFrame]]]]  # kind -> cue -> arm -> curves of each seed


def dose_views(doses: Evidence | None) -> list[dict[str, Any]]:
    """A view of each kind and modality of the cue: two charts, and the table that they are drawn from."""
    if doses is None:
        return []
    return [
        _dose_view(doses, kind, cue, found)
        for kind, cues in doses.data["kinds"].items()
        for cue, found in cues.items()
    ]  # fmt: skip


def _dose_view(doses: Evidence, kind: str, cue: str, found: Mapping[str, Any]) -> dict[str, Any]:
    at, ignored = f"kinds.{kind}.{cue}", OTHER[cue]
    keys = {float(key.removeprefix("reliability_")) / 100: key for key in found["doses"]}
    seen = (
        (f"reliance_{ignored}_uninformative", f"reliance on the {ignored}"),
        (f"flip_{ignored}_uninformative", f"decisions that change with another {ignored}"),
        ("mcs_all", "MCS (attention)"), ("mass_share_all", "mass share of the image (attention)"),
    )  # fmt: skip
    rows = [
        {
            "dose": f"{100 * dose:g} %",
            "cells": [estimate(doses, f"{at}.doses.{key}.{name}") for name, _ in (*ACCURACIES, *seen)],
        }
        for dose, key in keys.items()
    ]
    drawn = []
    for title, y, columns in (
        ("Accuracy against the dose of the cue", "accuracy", ACCURACIES),
        ("Measures against the dose, where the cue says nothing", "0 to 1", seen),
    ):
        lines = [
            _dose_line(look, words, [(dose, found["doses"][key].get(name)) for dose, key in keys.items()])
            for look, (name, words) in enumerate(columns)
        ]
        ticks = [(_log_odds(dose), f"{100 * dose:g} %") for dose in keys]
        chart = Chart(title, "reliability of the cue in training", y, lines, ticks, high=1.0)
        drawn.append({"title": title, "svg": charts.draw(chart), "legend": charts.legend(lines)})
    return {
        "kind": kind_label(kind), "cue": cue, "ignored": ignored, "charts": drawn, "rows": rows,
        "heads": [words for _, words in (*ACCURACIES, *seen)], "level": f"{FALLEN:g}",
        "falls": [cited(doses, f"{at}.falls.{end}", 2) for end in ("median", "ci_low", "ci_high")],
        "seeds": cited(doses, f"{at}.falls.n_seeds", 0),
    }  # fmt: skip


def _dose_line(look: int, words: str, summaries: Sequence[tuple[float, Mapping[str, Any] | None]]) -> Line:
    points, bands = [], []
    for dose, summary in summaries:
        x = _log_odds(dose) + 0.05 * look
        points.append((x, None if summary is None else summary["mean"]))
        if summary and summary["ci_low"] is not None:
            bands.append((x, summary["ci_low"], summary["ci_high"]))
    return Line(words, look, points, bands)


def _log_odds(dose: float) -> float:
    """Where a dose stands along the axis, a certain cue at that of 0.999."""
    p = min(dose, 0.999)
    return math.log(p / (1 - p))


def arm_views(prevention: Evidence | None, watched: Watched, rang: pd.DataFrame | None) -> list[dict[str, Any]]:
    """A view of each kind and cue: the ways to train side by side, and what was watched while they trained.

    Parameters
    ----------
    watched
        kind -> cue, as in the metrics -> arm -> of each seed, what `arm_curves.curves` gives.
    rang
        The table of models: kind, modality, reliability, seed, arm, and the steps at which alarms rang.
    """
    if prevention is None:
        return []
    views = []
    for kind, cues in prevention.data["kinds"].items():
        for cue, arms in cues.items():
            ignored = OTHER[cue.split("_")[0]]
            at = f"kinds.{kind}.{cue}"
            runs = watched.get(kind, {}).get(cue, {})
            views.append({
                "kind": kind_label(kind), "cue": _cue(cue), "ignored": ignored,
                "watched": [arm.replace("-", " ") for arm in WATCHED],
                "arms": [_arm(prevention, f"{at}.{arm}", arm) for arm in _in_order(arms)],
                "curves": [_curve(arm, runs[arm], ignored, _alarms(rang, kind, cue, arm))
                           for arm in _in_order(arms) if runs.get(arm)],
                "monitor": {
                    name: {key: cited(prevention, f"monitor.{kind}.{cue}.{name}.{key}", 0)
                           for key in ("collapsed", "rang", "sound", "false")}
                    for name in ("swap", "neutral_pairs")
                },
            })  # fmt: skip
    return views


def _in_order(arms: Mapping[str, Any]) -> list[str]:
    """Plain training first, the others by their accuracy where the cue says nothing."""
    return sorted(arms, key=lambda arm: (arm != BASELINE, -(arms[arm]["neutral"]["mean"] or 0)))


def _cue(key: str) -> str:
    modality, _, dose = key.partition("_reliability_")
    return f"{CUES[modality]}, right {dose} %"


def _arm(prevention: Evidence, at: str, arm: str) -> dict[str, Any]:
    neutral = estimate(prevention, f"{at}.neutral")
    verdict = cited(prevention, f"{at}.verdict", "text")
    return {
        "name": arm.replace("-", " "), "baseline": arm == BASELINE, "neutral": neutral,
        "plot": charts.interval(neutral.point, neutral.bounds, 0.4, 1.0, 0.5),
        "gain": estimate(prevention, f"{at}.gain"), "p": cited(prevention, f"{at}.p_gain_holm", "p"),
        "trained": estimate(prevention, f"{at}.trained"), "reliance": estimate(prevention, f"{at}.reliance", 2),
        "cost": cited(prevention, f"{at}.cost", 1), "seeds": cited(prevention, f"{at}.n_seeds", 0), "verdict": verdict,
    }  # fmt: skip


def _curve(arm: str, runs: Sequence[pd.DataFrame], ignored: str, alarms: list[tuple[float, str]]) -> dict[str, Any]:
    """The mean over seeds and the range of all of them, against the step, with the alarms that rang."""
    steps = runs[0]["step"].to_numpy(float)
    lines = []
    for look, (column, words) in enumerate((
        ("neutral", "accuracy, cue says nothing"), (f"{ignored}_swapped", f"accuracy, {ignored} of another pair"),
        (f"reliance_{ignored}", f"reliance on the {ignored}"),
    )):  # fmt: skip
        values = np.stack([run[column].to_numpy(float) for run in runs])  # (seed, check)
        mean, low, high = values.mean(0), values.min(0), values.max(0)
        points = [(x, float(y) if np.isfinite(y) else None) for x, y in zip(steps, mean, strict=True)]
        bands = [(x, float(a), float(b)) for x, a, b in zip(steps, low, high, strict=True) if np.isfinite([a, b]).all()]
        lines.append(Line(words, look, points, bands, markers=False))
    name = arm.replace("-", " ")
    ticks = [(float(step), f"{step:g}") for step in np.linspace(steps[0], steps[-1], 5)]
    high = max(1.0, *(y for line in lines for _, _, y in line.bands))
    chart = Chart(
        name, "step of training", "0 to 1", lines, ticks, high=math.ceil(high * 4) / 4, alarms=alarms
    )  # fmt: skip
    return {
        "name": name, "svg": charts.draw(chart), "legend": charts.legend(lines), "seeds": len(runs), "alarms": alarms,
        "watched": arm in WATCHED,
    }  # fmt: skip


def _alarms(rang: pd.DataFrame | None, kind: str, cue: str, arm: str) -> list[tuple[float, str]]:
    """(step, in words) of every alarm that rang while models of an arm trained."""
    if rang is None:
        return []
    modality, _, dose = cue.partition("_reliability_")
    mine = rang[(rang["kind"] == kind) & (rang["arm"] == arm) & (rang["modality"] == modality)]
    mine = mine[np.isclose(mine["reliability"], float(dose) / 100)]
    words = {
        "image_rang_at": "image unused, by swaps", "text_rang_at": "text unused, by swaps",
        "hard_rang_at": "pairs whose cue says nothing are failed",
    }  # fmt: skip
    return [
        (float(step), f"{why}: {count} of {len(mine)} seeds, at step {step:g}")
        for column, why in words.items()
        for step, count in zip(*np.unique(mine[column].dropna().to_numpy(float), return_counts=True), strict=True)
    ]
