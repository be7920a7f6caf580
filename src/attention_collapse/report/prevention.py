"""The figures and the table of the ways to train: what each gains where the cue says nothing, and what it costs."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attention_collapse.engine.arm_cells import BASELINE, OTHER
from attention_collapse.engine.arm_summary import cue_key
from attention_collapse.engine.at_inference import LOG_ODDS, REMEDIES
from attention_collapse.engine.dose_summary import HELD_OUT
from attention_collapse.params import Dose, Prevention
from attention_collapse.registry import kind_label
from attention_collapse.report.evidence import DASH, Evidence
from attention_collapse.report.figures import BOTH_COLUMNS, CALIBRATED, CAUSAL, NULL, SCORE, error_bar, number
from attention_collapse.report.latex import escape, given, interval, table, value

PREVENTS, LOSES = CALIBRATED, "#D55E00"
COLOURS = {"prevents": PREVENTS, "costs accuracy": LOSES}
CAPTION = (
    "Held-out pairs whose content always tells match from no match. Filled: accuracy where the cue says nothing (0.5: "
    "the cue alone decided), dots are seeds, bars {confidence} t intervals over seeds; hollow squares: accuracy with "
    "the cue as trained. Green: prevents collapse by the rule that was fixed before. Group reweighting and balanced "
    "data are oracles, which know the cue. Number at the right: cost in processor time, plain training = 1. Below the "
    "line: contrastive decoding of the plainly trained models; the number is that of forward passes per pair."
)
CURVES = (  # column of `arm_curves.curves`, name of the axis
    ("neutral", "accuracy, cue says nothing"), ("swapped", "accuracy, {} swapped"), ("reliance", "reliance on the {}"),
)  # fmt: skip
DRAWN = {  # arm -> colour, line
    BASELINE: (SCORE, "-"), "swapped-negatives": (CAUSAL, "-"), "swapped-both": (CAUSAL, "--"),
    "choice": (PREVENTS, "-"),
    "swap-consistency": (LOSES, "-"), "balanced-data": (NULL, ":"),
}  # fmt: skip


SHOWN = tuple(name for name in REMEDIES if name != LOG_ODDS)


def cue_label(dose: Dose) -> str:
    """A cue in words."""
    return f"cue in the {dose.modality}, right {100 * dose.reliability:g} %"


def _row(axes: Axes, place: int, found: Mapping[str, Any], seeds: pd.Series, said: float) -> None:
    """One way: its seeds' neutral accuracies, its means, and a number at the right."""
    colour = COLOURS.get(found.get("verdict", ""), SCORE)
    axes.scatter(seeds, np.full(len(seeds), place), s=7, color=colour, alpha=0.35, linewidths=0, zorder=2)
    style: dict[str, Any] = {"color": colour, "markersize": 4, "zorder": 3}
    mean, bar = number(found["neutral"]), error_bar(found["neutral"])
    axes.errorbar(mean, place, xerr=bar, fmt="o", capsize=2, linewidth=1, **style)
    axes.plot(found["trained"]["mean"], place, "s", markerfacecolor="none", **style)
    axes.text(1.02, place, f"{said:.1f}", transform=axes.get_yaxis_transform(), va="center", fontsize=7)


def _panel(
    axes: Axes, models: pd.DataFrame, arms: Mapping[str, Any], remedies: Mapping[str, Any], names: list[str]
) -> None:
    for place, name in enumerate(names):
        if found := arms.get(name):
            _row(axes, place, found, models.loc[models["arm"] == name, HELD_OUT], found["cost"])
        elif found := remedies.get(name):
            plain = models.loc[models["arm"] == BASELINE, f"{name}_uninformative"]
            _row(axes, place, found, plain, found["passes"])
    axes.axvline(0.5, color="0.8", linewidth=0.7, zorder=0)
    axes.axhline(len(names) - len(SHOWN) - 0.5, color="0.6", linewidth=0.7, zorder=0)
    axes.set(xlim=(0.42, 1.01), ylim=(len(names) - 0.5, -0.5), xlabel="accuracy")


def arms_figure(
    table: pd.DataFrame, result: Mapping[str, Any], kind: str, study: Prevention, confidence: float
) -> Figure:
    """Neutral accuracy by arm, a panel for each cue.

    Parameters
    ----------
    table
        A row per model, as `arm_summary.summary` takes it.
    result
        "kinds" as `arm_summary.summary`, and "at_inference" as `arm_summary.remedied` gives it.
    """
    cues, remedies = result["kinds"][kind], result["at_inference"][kind]
    shown = [dose for dose in study.doses if cue_key(dose) in cues]
    names = [*study.arms, *SHOWN]
    figure = Figure(figsize=(BOTH_COLUMNS, 1.3 + 0.22 * len(names)), layout="constrained")
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, dose in zip(panels, shown, strict=True):
        here = table[
            (table["kind"] == kind) & (table["modality"] == dose.modality) & (table["reliability"] == dose.reliability)
        ]
        _panel(axes, here, cues[cue_key(dose)], remedies.get(cue_key(dose), {}), names)
        seeds = {found["n_seeds"] for found in cues[cue_key(dose)].values()}
        count = f"{min(seeds)}" if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
        axes.set_title(f"{kind_label(kind)}: {cue_label(dose)}\n{count} seeds", loc="left")
    panels[0].set_yticks(range(len(names)), [name.replace("-", " ") for name in names])
    text = textwrap.fill(CAPTION.format(confidence=f"{100 * confidence:g} %"), 140)
    figure.supxlabel(text, fontsize=7, x=0.01, ha="left")
    return figure


def curves_figure(watched: Mapping[str, Sequence[pd.DataFrame]], kind: str, dose: Dose) -> Figure:
    """Accuracies and reliance against the step, the mean over seeds of each arm and the band of all of them.

    Parameters
    ----------
    watched
        arm -> of each seed, what `arm_curves.curves` gives.
    """
    ignored = OTHER[dose.modality]
    columns = {"neutral": "neutral", "swapped": f"{ignored}_swapped", "reliance": f"reliance_{ignored}"}
    figure = Figure(figsize=(BOTH_COLUMNS, 2.5), layout="constrained")
    panels = figure.subplots(1, len(CURVES), squeeze=False)[0]
    for axes, (name, label) in zip(panels, CURVES, strict=True):
        for arm, (colour, style) in DRAWN.items():
            runs = watched.get(arm, ())
            if not runs:
                continue
            steps = runs[0]["step"].to_numpy()
            values = np.stack([run[columns[name]].to_numpy() for run in runs])  # (seed, check)
            axes.plot(steps, values.mean(0), style, color=colour, label=arm.replace("-", " "))
            axes.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.12, linewidth=0)
        axes.set(xlabel="step", ylabel=label.format(ignored))
        if name != "reliance":
            axes.axhline(0.5, color="0.8", linewidth=0.7, zorder=0)
    drawn = panels[0].get_legend_handles_labels()
    figure.legend(*drawn, loc="outside lower center", ncols=len(drawn[0]), fontsize=7)
    panels[0].set_title(f"{kind_label(kind)}: {cue_label(dose)}", loc="left")
    return figure


def arms_table(study: Prevention, kind: str, source: Evidence) -> str:
    """Arm by cue: gain in neutral accuracy with its interval, reliance on the ignored modality, cost; a star where the
    arm prevents. Below a line, remedies at inference."""
    cues = source.data["kinds"][kind]
    shown = [dose for dose in study.doses if cue_key(dose) in cues]
    columns = [("l", "Training"), *[("l", given(escape(cue_label(dose)))) for dose in shown], ("r", "cost")]
    rows: list[list[str]] = []
    for arm in study.arms:
        row = [escape(arm.replace("-", " "))]
        for dose in shown:
            at, found = f"kinds.{kind}.{cue_key(dose)}.{arm}", cues[cue_key(dose)].get(arm)
            if not found:
                row.append(DASH)
                continue
            star = r"$^\star$" if found.get("verdict") == "prevents" else ""
            key = f"{at}.neutral" if arm == BASELINE else f"{at}.gain"
            sign = "" if arm == BASELINE else "+" if found["gain"]["mean"] >= 0 else ""
            reliance = value(source, f"{at}.reliance.mean", 2)
            row.append(f"{sign}{value(source, f'{key}.mean', 3)}{star} {interval(source, key, 3)}; {reliance}")
        first = f"kinds.{kind}.{cue_key(study.doses[0])}.{arm}.cost"
        rows.append([*row, value(source, first, 1)])
    return table(columns, [*rows, *_remedy_rows(source, kind, [cue_key(dose) for dose in shown])])


def _remedy_rows(source: Evidence, kind: str, cues: Sequence[str]) -> list[list[str]]:
    """Of plainly trained models at inference, below a line: the gain, and forward passes per pair."""
    rows = []
    for place, name in enumerate(SHOWN):
        row = [("" if place else "\\midrule ") + escape(name.replace("-", " "))]
        for cue in cues:
            key = f"at_inference.{kind}.{cue}.{name}"
            if f"{key}.gain.mean" not in source:
                row.append(DASH)
                continue
            found = source.data["at_inference"][kind][cue][name]
            star = r"$^\star$" if found.get("verdict") == "prevents" else ""
            sign = "+" if found["gain"]["mean"] >= 0 else ""
            row.append(f"{sign}{value(source, f'{key}.gain.mean', 3)}{star} {interval(source, f'{key}.gain', 3)}")
        rows.append([*row, value(source, f"at_inference.{kind}.{cues[0]}.{name}.passes", 1)])
    return rows
