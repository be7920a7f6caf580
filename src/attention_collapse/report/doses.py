"""The figure of collapse dose by dose: what the models tell, and what the measures see of it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attention_collapse.engine.arm_cells import OTHER
from attention_collapse.engine.dose_summary import FALLEN, HELD_OUT, dose_key
from attention_collapse.registry import kind_label
from attention_collapse.report.figures import BOTH_COLUMNS, CAUSAL, NULL, SCORE, WIDTH, error_bar, number

Line: TypeAlias = tuple[str, str, str, str, str]
REVERSED, CHOICE = "#D55E00", "#009E73"
ACCURACY: tuple[Line, ...] = (  # column, in the legend, colour, marker, line
    ("accuracy_trained", "as in training", NULL, "s", ":"),
    (HELD_OUT, "cue says nothing (decides)", CAUSAL, "o", "-"),
    ("accuracy_reversed", "cue reversed", REVERSED, "v", "--"),
)
CAPTION = (
    "Held-out pairs whose content tells match from no match; in training a cue told it too, as often as its dose. "
    "Accuracy 0.5 where the cue says nothing is collapse. Dots: seeds; lines: means, {confidence} t intervals."
)


def _rows(modality: str) -> tuple[tuple[str, tuple[Line, ...]], ...]:
    """Rows of panels: name of the axis, and lines as of `ACCURACY`; the names are the same for either cue."""
    ignored = OTHER[modality]
    return (
        ("accuracy", ACCURACY),
        ("other modality", (
            (f"reliance_{ignored}_uninformative", "reliance on the modality without the cue", SCORE, "o", "-"),
            (f"flip_{ignored}_uninformative", "decisions that change with another pair's", CHOICE, "^", "--"),
        )),
        ("share of the image", (
            ("mcs_all", "MCS (attention entropy)", SCORE, "o", "-"),
            ("mass_share_all", "attention mass", CHOICE, "^", "--"),
        )),
    )  # fmt: skip


def _log_odds(doses: Sequence[float]) -> np.ndarray:
    """Where doses stand on the axis: their log-odds, a certain cue at those of 0.999."""
    p = np.minimum(np.asarray(doses, np.float64), 0.999)
    return np.asarray(np.log(p / (1 - p)))


def _lines(
    axes: Axes,
    models: pd.DataFrame,
    found: Mapping[str, Any],
    doses: Sequence[float],
    lines: Sequence[Line],
) -> None:
    """Seeds as dots, means with intervals as lines, side by side at each dose."""
    for index, (column, label, colour, marker, style) in enumerate(lines):
        if column not in models:
            continue
        shift = 0.16 * (index - (len(lines) - 1) / 2)
        x = _log_odds(doses) + shift
        summaries = [found["doses"][dose_key(dose)].get(column) for dose in doses]
        means = np.array([number(summary) for summary in summaries])
        axes.plot(x, means, style, color=colour, marker=marker, label=label, zorder=3)
        for place, summary in zip(x, summaries, strict=True):
            if summary and error_bar(summary):
                axes.errorbar(place, summary["mean"], error_bar(summary), color=colour, capsize=1.5, linewidth=0.9)
        axes.scatter(
            _log_odds(models["reliability"].tolist()) + shift,
            models[column],
            s=10,
            color=colour,
            alpha=0.5,
            linewidths=0,
            zorder=2,
        )


def _heading(kind: str, modality: str, found: Mapping[str, Any]) -> str:
    """Kind, cue, and where accuracy falls, in short lines."""
    fall = found["falls"]
    median, low, high = (number(fall, key) for key in ("median", "ci_low", "ci_high"))
    where = f"most stay\nabove {FALLEN:g}" if np.isinf(median) else "no seed with\nevery dose"
    if np.isfinite(median):
        where = f"below {FALLEN:g} from\n{median:.2f}"
        where += f" [{low:.2f}, {high:.2f}]" if np.isfinite([low, high]).all() else ""
    counts = {part["n_seeds"] for part in found["doses"].values()}
    seeds = f"{min(counts)}" if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
    return f"{kind_label(kind)}\ncue in the {modality}\n{seeds} seeds per dose\n{where}"


def dose_response(
    table: pd.DataFrame, kinds: Mapping[str, Mapping[str, Any]], doses: Sequence[float], confidence: float
) -> Figure:
    """Accuracy against the dose, a column of panels for each kind and modality of the cue, and the measures below it.

    Parameters
    ----------
    table
        Of `dose_scores.read_all`, one row per model.
    kinds
        Of `dose_summary.summary`.
    """
    shown = [(kind, modality, found) for kind, cues in kinds.items() for modality, found in cues.items()]
    width = WIDTH + 0.6 if len(shown) == 1 else BOTH_COLUMNS
    figure = Figure(figsize=(width, 4.9), layout="constrained")
    places = _log_odds(doses)
    parts: Any = figure.subfigures(3, 1, height_ratios=(1.6, 1, 1.45))
    for row, part in enumerate(parts):
        panels = part.subplots(1, len(shown), sharex=True, sharey=True, squeeze=False)[0]
        for axes, (kind, modality, found) in zip(panels, shown, strict=True):
            name, lines = _rows(modality)[row]
            mine = table[(table["kind"] == kind) & table["modality"].isin([modality, "none"])]
            _lines(axes, mine, found, doses, lines)
            axes.axhline(0.5, color="0.85", linewidth=0.7, zorder=0)
            axes.set_xticks(places, [f"{dose:g}" if row == 2 else "" for dose in doses], rotation=90)
            if row == 0:
                axes.set_title(_heading(kind, modality, found), loc="left", fontsize=6.5)
        panels[0].set(ylim=(-0.03, 1.06), yticks=(0, 0.5, 1), yticklabels=("0.0", "0.5", "1.0"))
        panels[0].set_ylabel(name, fontsize=7)
        handles = {
            label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        part.legend(
            handles.values(), handles.keys(), loc="outside upper left", ncols=3, frameon=False, handlelength=2.2
        )
    part.supxlabel("dose: reliability of the cue in training (log-odds)", fontsize=7)
    figure.supxlabel(
        textwrap.fill(CAPTION.format(confidence=f"{100 * confidence:g} %"), int(21.5 * width)),
        fontsize=6.5,
        x=0.01,
        ha="left",
    )
    return figure
