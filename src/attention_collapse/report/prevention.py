"""Figures and tables of the ways to train: what each gains where the cue says nothing, and what it costs."""

from __future__ import annotations

import math
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
    "the cue as trained. Green: prevents collapse by the rule that was fixed before; orange: "
    "gains, and costs accuracy. Number at the right: cost in "
    "processor time, plain training = 1."
)
ORACLES = {"group-reweighting", "balanced-data"}
TOLD = " Told the cue (oracles): {}."
BELOW = (
    " Below the line: contrastive decoding of plainly trained models; the number is that of forward passes per pair."
)
CURVES = (  # column of `arm_curves.curves`, name of the axis
    ("neutral", "accuracy, cue says nothing"), ("swapped", "accuracy, {} swapped"), ("reliance", "reliance on the {}"),
)  # fmt: skip
DRAWN = {  # arm -> colour, line
    BASELINE: (SCORE, "-"), "swapped-negatives": (CAUSAL, "-"), "swapped-both": (CAUSAL, "--"),
    "choice": (PREVENTS, "-"), "nearest-negatives": (PREVENTS, "--"),
    "swap-consistency": (LOSES, "-"), "balanced-data": (NULL, ":"),
}  # fmt: skip


CUES = {"text": "cue in the text", "image": "cue in the image", "words": "prior of the words"}
BESIDE = 3  # cues side by side
SHOWN = tuple(name for name in REMEDIES if name != LOG_ODDS)


def cue_label(dose: Dose) -> str:
    """A cue in words."""
    return f"{CUES[dose.modality]}, right {100 * dose.reliability:g} %"


def _row(axes: Axes, place: int, found: Mapping[str, Any], seeds: pd.Series, said: float) -> None:
    """One way: its seeds' neutral accuracies, its means, and a number at the right."""
    colour = COLOURS.get(found.get("verdict", ""), SCORE)
    axes.scatter(seeds, np.full(len(seeds), place), s=7, color=colour, alpha=0.35, linewidths=0, zorder=2)
    style: dict[str, Any] = {"color": colour, "markersize": 4, "zorder": 3}
    mean, bar = number(found["neutral"]), error_bar(found["neutral"])
    axes.errorbar(mean, place, xerr=bar, fmt="o", capsize=2, linewidth=1, **style)
    axes.plot(found["trained"]["mean"], place, "s", markerfacecolor="none", **style)
    shown = "–" if math.isnan(said) else f"{said:.1f}"
    axes.text(1.02, place, shown, transform=axes.get_yaxis_transform(), va="center", fontsize=7)


def _panel(
    axes: Axes, models: pd.DataFrame, arms: Mapping[str, Any], remedies: Mapping[str, Any], names: Sequence[str]
) -> None:
    """Ways to train, and below a line the remedies without training, if there are any."""
    for place, name in enumerate(names):
        if found := arms.get(name):
            _row(axes, place, found, models.loc[models["arm"] == name, HELD_OUT], found["cost"])
        elif found := remedies.get(name):
            plain = models.loc[models["arm"] == BASELINE, f"{name}_uninformative"]
            _row(axes, place, found, plain, found["passes"])
    axes.axvline(0.5, color="0.8", linewidth=0.7, zorder=0)
    if remedies:
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
    cues, remedies = result["kinds"][kind], result["at_inference"].get(kind, {})
    shown = [dose for dose in study.doses if cue_key(dose) in cues]
    lines = _lines(shown)
    names = [[*_of_any(study, [cues[cue_key(dose)] for dose in line]), *SHOWN] for line in lines]
    heights = [4 + len(some) for some in names]
    figure = Figure(figsize=(BOTH_COLUMNS, 1.0 + 0.19 * sum(heights)), layout="constrained")
    panels = figure.subplots(
        len(lines), max(map(len, lines)), sharey="row", squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    for row, line, some in zip(panels, lines, names, strict=True):
        for axes, dose in zip(row, line, strict=False):
            arms = cues[cue_key(dose)]
            _panel(axes, _models(table, kind, dose), arms, remedies.get(cue_key(dose), {}), some)
            axes.set_title(f"{cue_label(dose).replace(', ', chr(10))}\n{_seeds(arms)}", loc="left")
        for axes in row[len(line) :]:
            axes.remove()
        _named(row[0], some)
    figure.suptitle(kind_label(kind), x=0.01, ha="left", fontsize=8)
    _finish(figure, [name for some in names for name in some], confidence, BELOW)
    return figure


def _lines(doses: Sequence[Dose]) -> list[Sequence[Dose]]:
    """As many cues as stand side by side."""
    return [doses[place : place + BESIDE] for place in range(0, len(doses), BESIDE)]


def _of_any(study: Prevention, cues: Sequence[Mapping[str, Any]]) -> list[str]:
    """The arms that were tried beside any of these cues."""
    return [arm for arm in study.arms if any(arm in arms for arms in cues)]


def _named(first: Axes, names: Sequence[str]) -> None:
    first.set_yticks(range(len(names)), [name.replace("-", " ") for name in names])


def kinds_figure(table: pd.DataFrame, result: Mapping[str, Any], study: Prevention, confidence: float) -> Figure:
    """Neutral accuracy beside the first cue, by the arms that were tried in more kinds than one; a panel for each kind.

    Parameters
    ----------
    table, result
        As of `arms_figure`.
    """
    dose, names = study.doses[0], repeated(result["kinds"], study)
    tried = {kind: cues[cue_key(dose)] for kind, cues in result["kinds"].items() if cue_key(dose) in cues}
    figure = Figure(figsize=(BOTH_COLUMNS, 1.5 + 0.2 * len(names)), layout="constrained")
    panels = figure.subplots(1, len(tried), sharey=True, squeeze=False)[0]
    for axes, (kind, arms) in zip(panels, tried.items(), strict=True):
        own = {arm: arms[arm] for arm in names if arm in arms}
        _panel(axes, _models(table, kind, dose), own, {}, names)
        axes.set_title(f"{kind_label(kind)}\n{_seeds(own)}", loc="left")
    _named(panels[0], names)
    _finish(figure, names, confidence, f" {cue_label(dose).capitalize()} of the training pairs.")
    return figure


def repeated(kinds: Mapping[str, Any], study: Prevention) -> list[str]:
    """The arms that were tried in more kinds than one beside the first cue, plain training first."""
    first = cue_key(study.doses[0])
    return [arm for arm in study.arms if sum(arm in cues.get(first, {}) for cues in kinds.values()) > 1]


def _models(table: pd.DataFrame, kind: str, dose: Dose) -> pd.DataFrame:
    beside = (table["modality"] == dose.modality) & (table["reliability"] == dose.reliability)
    return table[(table["kind"] == kind) & beside]


def _seeds(arms: Mapping[str, Any]) -> str:
    """How many seeds the arms have; nothing of none."""
    seeds = {found["n_seeds"] for found in arms.values()}
    if not seeds:
        return ""
    if len(seeds) > 1:
        return f"{min(seeds)} to {max(seeds)} seeds"
    return f"{min(seeds)} seed{'s' * (max(seeds) > 1)}"


def _finish(figure: Figure, names: Sequence[str], confidence: float, said: str) -> None:
    """The sentences below."""
    told = [name.replace("-", " ") for name in dict.fromkeys(names) if name in ORACLES]
    text = CAPTION.format(confidence=f"{100 * confidence:g} %") + (TOLD.format(", ".join(told)) if told else "") + said
    figure.supxlabel(textwrap.fill(text, 140), fontsize=7, x=0.01, ha="left")


def curves_figure(watched: Mapping[str, Sequence[pd.DataFrame]], kind: str, dose: Dose) -> Figure:
    """Accuracies and reliance against the step, the mean over seeds of each arm and the band of all of them.

    Parameters
    ----------
    watched
        arm -> of each seed, what `arm_curves.curves` gives.
    """
    ignored = OTHER[dose.modality]
    columns = {"neutral": "neutral", "swapped": f"{ignored}_swapped", "reliance": f"reliance_{ignored}"}
    figure = Figure(figsize=(BOTH_COLUMNS, 2.6), layout="constrained")
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
    figure.legend(*drawn, loc="outside lower center", ncols=(len(drawn[0]) + 1) // 2, fontsize=7)
    panels[0].set_title(f"{kind_label(kind)}: {cue_label(dose)}", loc="left")
    return figure


def arms_table(study: Prevention, kind: str, source: Evidence) -> str:
    """Arm by cue: gain in neutral accuracy with its interval, reliance on the ignored modality, cost; a star where the
    arm prevents. Below a line, remedies at inference."""
    cues = source.data["kinds"][kind]
    lines = _lines([dose for dose in study.doses if cue_key(dose) in cues])
    made = [_arms_table(study, kind, source, line) for line in lines]
    if len(made) == 1:
        return made[0]
    return "\\begin{tabular}{@{}l@{}}\n" + "\\\\ \\noalign{\\bigskip}\n".join(made) + "\\end{tabular}\n"


def _arms_table(study: Prevention, kind: str, source: Evidence, shown: Sequence[Dose]) -> str:
    """Of the cues that stand side by side. The cost is that beside the first of them."""
    columns = [("l", "Training"), *[("l", given(escape(cue_label(dose)))) for dose in shown], ("r", "cost")]
    rows: list[list[str]] = []
    for arm in _of_any(study, [source.data["kinds"][kind][cue_key(dose)] for dose in shown]):
        row = [escape(arm.replace("-", " "))]
        for dose in shown:
            said = _gained(source, kind, cue_key(dose), arm)
            reliance = f"kinds.{kind}.{cue_key(dose)}.{arm}.reliance.mean"
            row.append(said if said == DASH else f"{said}; {value(source, reliance, 2)}")
        first = f"kinds.{kind}.{cue_key(shown[0])}.{arm}.cost"
        rows.append([*row, value(source, first, 1)])
    return table(columns, [*rows, *_remedy_rows(source, kind, [cue_key(dose) for dose in shown])])


def _gained(source: Evidence, kind: str, cue: str, arm: str) -> str:
    """The gain in neutral accuracy with its interval, and a star where the arm prevents; the accuracy of `BASELINE`.

    A dash where there is none, or of fewer than two seeds, which shows nothing."""
    found = source.data["kinds"][kind].get(cue, {}).get(arm)
    if not found or (arm != BASELINE and found["n_pairs"] < 2):
        return DASH
    star = r"$^\star$" if found.get("verdict") == "prevents" else ""
    key = f"kinds.{kind}.{cue}.{arm}.{'neutral' if arm == BASELINE else 'gain'}"
    sign = "+" if arm != BASELINE and found["gain"]["mean"] >= 0 else ""
    return f"{sign}{value(source, f'{key}.mean', 3)}{star} {interval(source, key, 3)}"


def kinds_table(study: Prevention, source: Evidence) -> str:
    """Arm by kind, beside the first cue, of the arms that were tried in more kinds than one: the gain in neutral
    accuracy with its interval, starred where the arm prevents; and the least and greatest cost. Last, the seeds."""
    cue = cue_key(study.doses[0])
    found = source.data["kinds"]
    kinds = {kind: found[kind][cue] for kind in study.kinds if cue in found.get(kind, {})}
    columns = [("l", "Training"), *[("l", escape(kind_label(kind))) for kind in kinds], ("r", "cost")]
    rows: list[list[str]] = []
    for arm in repeated(found, study):
        known = {kind: arms[arm]["cost"] for kind, arms in kinds.items() if arms.get(arm, {}).get("cost") is not None}
        costs = sorted(known, key=known.__getitem__)
        ends = [*costs[:1], *(costs[1:][-1:] if arm != BASELINE else ())]
        cost = "--".join(value(source, f"kinds.{kind}.{cue}.{arm}.cost", 1) for kind in ends) or DASH
        rows.append([escape(arm.replace("-", " ")), *[_gained(source, kind, cue, arm) for kind in kinds], cost])
    seeds = [value(source, f"kinds.{kind}.{cue}.{BASELINE}.n_seeds", 0) for kind in kinds]
    return table(columns, [*rows, ["\\midrule seeds", *seeds, ""]])


def _remedy_rows(source: Evidence, kind: str, cues: Sequence[str]) -> list[list[str]]:
    """Of plainly trained models at inference, below a line: the gain, and forward passes per pair."""
    rows = []
    for place, name in enumerate(SHOWN):
        row = [("" if place else "\\midrule ") + escape(name.replace("-", " "))]
        for cue in cues:
            key = f"at_inference.{kind}.{cue}.{name}"
            found = source.data["at_inference"].get(kind, {}).get(cue, {}).get(name)
            if not found or found["gain"]["mean"] is None:
                row.append(DASH)
                continue
            star = r"$^\star$" if found.get("verdict") == "prevents" else ""
            sign = "+" if found["gain"]["mean"] >= 0 else ""
            row.append(f"{sign}{value(source, f'{key}.gain.mean', 3)}{star} {interval(source, f'{key}.gain', 3)}")
        rows.append([*row, value(source, f"at_inference.{kind}.{cues[0]}.{name}.passes", 1)])
    return rows
