"""The figures of one diagnosis: every measure with its interval, and those of a study's model that fit one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attention_collapse.measures.catalogue import MEASURES
from attention_collapse.measures.record import ATTENTION, CONTRIBUTION
from attention_collapse.report.figures import (
    CAUSAL,
    NULL,
    SCORE,
    attention_entropy,
    layer_wise_attention,
    modality_contribution,
    save,
    use_style,
)

if TYPE_CHECKING:
    from attention_collapse.report.diagnosis import Diagnosis

WITHOUT_UNIT = ("share", "accuracy", "ratio")  # one axis holds them; nats and units of the score are on none of it
HEADS = {ATTENTION: "where it looks", CONTRIBUTION: "what the score depends on"}
COLOURS = {ATTENTION: SCORE, CONTRIBUTION: CAUSAL}


def draw(result: Diagnosis, folder: Path) -> list[Path]:
    """Write measures and modality_contribution and, where a model has layers and heads, layer_wise_attention and
    attention_entropy, each as PNG and PDF."""
    use_style()
    name, rows, confidence = _name(result), result.settings["rows"], result.settings["confidence"]
    summaries, heads = {key: vars(found) for key, found in result.estimates.items()}, result.tables["heads"]
    images = result.tables["images"]
    figures = {
        "measures": measures(result),
        "modality_contribution": modality_contribution(name, images, summaries, rows, confidence),
    }
    if result.layers:  # an empty figure says less than none
        figures["layer_wise_attention"] = layer_wise_attention(name, result.layers, rows, confidence)
    if len(heads):
        figures["attention_entropy"] = attention_entropy(name, heads, rows)
    return [path for stem, figure in figures.items() for path in save(figure, folder / stem)]


def _name(result: Diagnosis) -> str:
    """The model's name; of a folder its last part, which has room in a title."""
    return Path(result.model).name or result.model


def measures(result: Diagnosis) -> Figure:
    """Every defined measure without a unit: its mean, its interval, and its null as a grey line."""
    shown = {
        about: [
            name
            for name, found in result.estimates.items()
            if MEASURES[name].about == about and MEASURES[name].unit in WITHOUT_UNIT and found.mean is not None
        ]
        for about in HEADS
    }
    heights = [max(1, len(names)) for names in shown.values()]
    figure = Figure(figsize=(6.75, 1.5 + 0.19 * sum(heights)), layout="constrained")
    panels = figure.subplots(2, 1, height_ratios=heights, sharex=True)
    for axes, (about, names) in zip(panels, shown.items(), strict=True):
        axes.set_title(HEADS[about], loc="left")
        for row, name in enumerate(names):
            _row(result, axes, row, name)
        axes.set_yticks(range(len(names)), [MEASURES[name].label for name in names])
        axes.set_ylim(max(1, len(names)) - 0.5, -0.5)
        axes.grid(axis="x", color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
        if not names:
            axes.set(yticks=[])
            axes.text(0.5, 0, "none is defined for this model", transform=axes.get_yaxis_transform(), ha="center")
    panels[-1].set_xlabel("share, accuracy or ratio")
    confidence = 100 * result.settings["confidence"]
    figure.suptitle(
        f"{_name(result)} · {result.n_images} images, {result.n_pairs} pairs · rows: {result.settings['rows']}\n"
        f"dots: means over images, hollow without an interval · lines: {confidence:g} % CI\n"
        "grey: the null, what a score or attention without meaning gives",
        x=0.01, ha="left", fontsize=8,
    )  # fmt: skip
    return figure


def _row(result: Diagnosis, axes: Axes, row: int, name: str) -> None:
    """One measure's line of the figure."""
    found, colour = result.estimates[name], COLOURS[MEASURES[name].about]
    mean = np.nan if found.mean is None else found.mean
    null = _null(result, name)
    if np.isfinite(null):
        axes.vlines(null, row - 0.35, row + 0.35, color=NULL, linewidth=1.6, zorder=1)
    if found.interval is not None:
        axes.hlines(row, *found.interval, color=colour, linewidth=1.2, zorder=2)
    face = colour if found.interval is not None else "white"  # hollow: a mean without an interval
    axes.plot(mean, row, "o", color=colour, markerfacecolor=face, markersize=3.5, zorder=3)


def _null(result: Diagnosis, name: str) -> float:
    """The null of a measure: a number, or what another measure came to; NaN where it has none."""
    null = MEASURES[name].null
    if isinstance(null, str):
        other = result.estimates.get(null)
        return np.nan if other is None or other.mean is None else other.mean
    return np.nan if null is None else float(null)
