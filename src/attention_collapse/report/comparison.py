"""The models of a study in one picture: the score with its thresholds, and every measure with its null."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from attention_collapse.measures.attention import ATTENTION_MEASURES
from attention_collapse.measures.contribution import CONTRIBUTION_MEASURES
from attention_collapse.measures.mcs import TEXT_COLLAPSE, VISION_COLLAPSE
from attention_collapse.report.figures import (
    BOTH_COLUMNS,
    CALIBRATED,
    CAUSAL,
    NULL,
    SCORE,
    error_bar,
    number,
    thresholds,
)

Models = Mapping[str, Mapping[str, Any]]  # name -> measure -> mean, ci_low, ci_high


def ordered(models: Models) -> list[str]:
    """Models under test, then controls, each in the study's order."""
    return sorted(models, key=lambda name: bool(models[name].get("control")))


def _point(axes: Axes, summary: Mapping[str, Any], y: float, marker: str, colour: str, *, control: bool) -> None:
    """A mean with its interval, hollow for a control; nothing where it is not defined."""
    if np.isnan(mean := number(summary)):
        return
    axes.errorbar(
        mean, y, xerr=error_bar(summary), color=colour, marker=marker, markersize=4, capsize=2, linewidth=1,
        markerfacecolor="white" if control else colour, markeredgewidth=0.8, linestyle="none",
    )  # fmt: skip


def _null(axes: Axes, value: float, y: float) -> None:
    axes.plot([value], [y], marker="|", markersize=11, markeredgewidth=1.8, color=NULL, linestyle="none", zorder=1)


def _model_axis(axes: Axes, names: Sequence[str], models: Models) -> None:
    labels = [f"{name}*" if models[name].get("control") else name for name in names]
    axes.set_yticks(range(len(names)), labels)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def _shown(summary: Mapping[str, Any] | None) -> str:
    mean, low, high = (number(summary, key) for key in ("mean", "ci_low", "ci_high"))
    if np.isnan(mean):
        return "not defined"
    return f"{mean:.3f}" if np.isnan(low) else f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def _key(colour: str, marker: str, label: str, *, hollow: bool = False) -> Line2D:
    face = "white" if hollow else colour
    wide = 1.8 if marker == "|" else 0.8
    return Line2D(
        [], [], color=colour, marker=marker, linestyle="none", markersize=7 if marker == "|" else 4,
        markerfacecolor=face, markeredgewidth=wide, label=label,
    )  # fmt: skip


def forest(models: Models, causal: Models, confidence: float) -> Figure:
    """MCS of every model with its interval, null, calibrated score and the thresholds; its reliance share beside it.

    Parameters
    ----------
    models, causal
        The statistics of attention (with `control`) and of the causal measures, by model.
    """
    names = ordered(models)
    figure = Figure(figsize=(BOTH_COLUMNS, 1.15 + 0.3 * len(names)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.25, 1))
    thresholds(left, horizontal=False)
    right.axvline(0.5, color="0.8", linewidth=0.7, zorder=0)
    for y, name in enumerate(names):
        control = bool(models[name].get("control"))
        _null(left, number(models[name]["mcs_null"]), y - 0.15)
        _point(left, models[name]["mcs"], y - 0.15, "D", SCORE, control=control)
        _point(left, models[name]["mcs_calibrated"], y + 0.2, "s", CALIBRATED, control=control)
        _point(right, causal.get(name, {}).get("reliance_share", {}), y, "o", CAUSAL, control=control)
        for axes, summary in ((left, models[name]["mcs"]), (right, causal.get(name, {}).get("reliance_share"))):
            axes.text(1.02, y, _shown(summary), transform=axes.get_yaxis_transform(), va="center", fontsize=7)
    _model_axis(left, names, models)
    for axes, heading in ((left, "MCS [CI]"), (right, "share [CI]")):
        axes.text(1.02, 1.0, heading, transform=axes.transAxes, va="bottom", fontsize=7, color="0.4")
        axes.set_xlim(0, 1)
        axes.set_xticks([0, TEXT_COLLAPSE, 0.5, VISION_COLLAPSE, 1] if axes is left else [0, 0.5, 1])
    right.tick_params(axis="y", length=0)
    for x, side in ((TEXT_COLLAPSE / 2, "text\ncollapse"), ((1 + VISION_COLLAPSE) / 2, "vision\ncollapse")):
        left.text(x, 1.0, side, transform=left.get_xaxis_transform(), ha="center", va="bottom", fontsize=7, color="0.4")
    left.set_xlabel("vision's share of attention entropy")
    right.set_xlabel("image's share of what moves the score")
    handles = [
        _key(SCORE, "D", "MCS"), _key(NULL, "|", "its null: uniform attention"),
        _key(CALIBRATED, "s", "calibrated (0.5 = null)"), _key(CAUSAL, "o", "reliance share (0.5 = equal)"),
        _key(SCORE, "D", "* control: random weights", hollow=True),
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=5, columnspacing=0.9, handletextpad=0.2)
    figure.suptitle(f"Means and {100 * confidence:g} % CI over images", x=0.01, ha="left", fontsize=8)
    return figure


def comparison(models: Models, causal: Models, confidence: float) -> Figure:
    """Every measure of every model beside its null, a column a measure; measures that no model defines are left out."""
    names = ordered(models)
    columns = [
        (measure, table, colour)
        for table, measures, colour in (
            (models, ATTENTION_MEASURES, SCORE), (causal, CONTRIBUTION_MEASURES, CAUSAL),
        )
        for measure in measures.values()
        if measure.heading and measure.null is not None and (measure.low, measure.high) == (0, 1)
        and any(np.isfinite(number(table.get(name, {}).get(measure.name))) for name in names)
    ]  # fmt: skip
    figure = Figure(figsize=(BOTH_COLUMNS, 1.2 + 0.22 * len(names)), layout="constrained")
    panels = figure.subplots(1, max(1, len(columns)), sharey=True, squeeze=False)[0]
    characters = 95 // max(1, len(columns))  # of a heading, that panels side by side have room for
    for axes, (measure, table, colour) in zip(panels, columns, strict=False):
        axes.set_title(textwrap.fill(measure.heading, characters, break_long_words=False), fontsize=7)
        axes.set(xlim=(-0.05, 1.05), xticks=[0, 0.5, 1])
        axes.set_xticklabels(["0", ".5", "1"])
        for y, name in enumerate(names):
            values = table.get(name, {})
            if np.isnan(number(values.get(measure.name))):
                axes.text(0.5, y, "–", ha="center", va="center", color="0.6")
                continue
            null = measure.null
            _null(axes, number(values.get(null)) if isinstance(null, str) else float(null or 0), y)
            _point(axes, values[measure.name], y, "o", colour, control=bool(models[name].get("control")))
        axes.set_axisbelow(True)
        axes.grid(axis="y")
        axes.tick_params(axis="y", length=0)
    _model_axis(panels[0], names, models)
    handles = [
        _key(SCORE, "o", "attention"), _key(CAUSAL, "o", "causal"),
        _key(SCORE, "o", "* control: random weights", hollow=True),
        _key(NULL, "|", "null: uniform attention, equal shares, shuffled scores, chance"),
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=4, columnspacing=0.9, handletextpad=0.2)
    figure.suptitle(f"Means and {100 * confidence:g} % CI over images; –: not defined", x=0.01, ha="left", fontsize=8)
    return figure
