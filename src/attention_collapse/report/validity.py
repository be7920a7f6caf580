"""Figures of the test with planted answers: what was planted, and which measure sees it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from attention_collapse.engine.validity import SIDES, contrasts
from attention_collapse.measures.catalogue import label
from attention_collapse.registry import kind_label
from attention_collapse.report.figures import BOTH_COLUMNS

# Okabe and Ito's hues, told apart by lightness too.
GOOD, RATHER_GOOD, NEITHER, RATHER_BAD, BAD, EMPTY = "#0072B2", "#A6D3EE", "#E6E6E6", "#F6D998", "#E69F00", "#FFFFFF"
INK = {GOOD: "white"}
PLACES = (  # where these models lie: colour, in the legend
    (GOOD, "1: all as it claims"), (RATHER_GOOD, "above 0.5"), (NEITHER, "0.5"), (RATHER_BAD, "below 0.5"),
    (BAD, "0: all the reverse"),
)  # fmt: skip
DECIDED = ("separates", "reversed")


def _colour(auroc: float) -> str:
    """Of a cell: where the models lie, which is no verdict."""
    if np.isnan(auroc):
        return EMPTY
    cuts = (auroc == 1, auroc > 0.5, auroc == 0.5, auroc > 0)
    return next((colour for (colour, _), holds in zip(PLACES, cuts, strict=False) if holds), BAD)


def _evidence(kinds: Mapping[str, Any]) -> str:
    """How much the areas of the figure can show of other models, in a sentence or two."""
    sides = [side for kind in kinds.values() for result in kind["measures"].values() for side in contrasts(result)]
    undetermined = sum(side["verdict"] == "undetermined" for side in sides)
    perfect = [side for side in sides if side["auroc"] == 1]
    widest = min(perfect, key=lambda side: side["ci_low"], default=None)
    shown = ""
    if widest is not None:
        seeds = min(widest["n_low"], widest["n_high"])
        shown = f"With {seeds} seeds on each side the interval of 1.00 is [{widest['ci_low']:.2f}, 1.00]. "
    return f"{shown}Of other models {undetermined} of {len(sides)} areas say nothing (undetermined); others are bold."


def separation(result: Mapping[str, Any]) -> Figure:
    """Every measure against every kind: AUROC between models where the image, and where the text, is ignored."""
    kinds = list(result["kinds"])
    measures = list(dict.fromkeys(name for kind in kinds for name in result["kinds"][kind]["measures"]))
    figure = Figure(figsize=(BOTH_COLUMNS, 1.28 + 0.23 * len(measures)), layout="constrained")
    axes = figure.add_subplot()
    for y, measure in enumerate(measures):
        for x, kind in enumerate(kinds):
            found = result["kinds"][kind]["measures"].get(measure)
            if found is None:
                axes.text(x, y, "not defined", ha="center", va="center", fontsize=6, color="0.55")
                continue
            for left, name in zip((-0.49, 0.01), SIDES, strict=True):
                _cell(axes, x + left, y, found.get(name, {"verdict": "undefined", "auroc": None}))
    axes.set(xlim=(-0.5, len(kinds) - 0.5), ylim=(len(measures) - 0.5, -0.5))
    ticks = [
        (x + offset, text)
        for x, kind in enumerate(kinds)
        for offset, text in (
            (-0.25, "image"), (0.0, f"{kind_label(kind)}\n{result['kinds'][kind]['n_models']} models\n"),
            (0.25, "text"),
        )
    ]  # fmt: skip
    axes.set_xticks([place for place, _ in ticks], [text for _, text in ticks])
    axes.set_yticks(range(len(measures)), [label(measure) for measure in measures])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel(_evidence(result["kinds"]), fontsize=6.5, loc="right")
    handles = [Rectangle((0, 0), 1, 1, color=colour) for colour, _ in PLACES]
    words = [word for _, word in PLACES]
    figure.legend(handles, words, loc="outside lower center", ncols=len(PLACES), columnspacing=1.0, fontsize=6.5)
    figure.suptitle(
        "Does it tell models that ignore the image, or the text, from balanced ones? AUROC between these models",
        fontsize=8, x=0.01, ha="left",
    )  # fmt: skip
    return figure


def _cell(axes: Axes, x: float, y: float, side: Mapping[str, Any]) -> None:
    """The area of one contrast, bold where it has a verdict; a dash where there is none."""
    auroc = float("nan") if side["auroc"] is None else side["auroc"]
    colour = _colour(auroc)
    axes.add_patch(Rectangle((x, y - 0.46), 0.48, 0.92, color=colour, linewidth=0))
    axes.text(
        x + 0.24, y, "–" if np.isnan(auroc) else f"{auroc:.2f}", ha="center", va="center", fontsize=7,
        color=INK.get(colour, "black"), fontweight="bold" if side["verdict"] in DECIDED else "normal",
    )  # fmt: skip


def decision_rule(result: Mapping[str, Any]) -> Figure:
    """The decision's rule on every planted model: how many it finds, leaves undecided and gets wrong, by measure."""
    totals = result["rule_over_all_kinds"]
    figure = Figure(figsize=(BOTH_COLUMNS, 1.05 + 0.26 * len(totals)), layout="constrained")
    most = max(found["ignoring_n_models"] for found in totals.values())
    fewer = max(found["balanced_n_models"] for found in totals.values())
    panels = figure.subplots(1, 2, sharey=True, width_ratios=(most, fewer))
    shown = {"right": GOOD, "undecided": NEITHER, "wrong": BAD}
    for axes, side, heading in zip(
        panels, ("ignoring", "balanced"), ("models that ignore a modality", "models that use both"), strict=True
    ):
        for y, found in enumerate(totals.values()):
            left = 0
            for outcome, colour in shown.items():
                count = found[f"{side}_{outcome}"]
                axes.barh(y, count, left=left, height=0.72, color=colour, linewidth=0)
                if count:
                    ink = INK.get(colour, "black")
                    axes.text(left + count / 2, y, str(count), ha="center", va="center", fontsize=7, color=ink)
                left += count
        axes.set_title(heading, fontsize=8, loc="left")
        axes.set(ylim=(len(totals) - 0.5, -0.5), xlim=(0, most if side == "ignoring" else fewer))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(totals)), [label(measure) for measure in totals])
    words = ("right: that modality is named, or use of both is shown", "undecided", "wrong")
    handles = [Rectangle((0, 0), 1, 1, color=colour) for colour in shown.values()]
    figure.legend(handles, words, loc="outside lower center", ncols=3)
    figure.suptitle("What the decision's rule says of each planted model, by measure", x=0.01, ha="left", fontsize=8)
    return figure


def planted_samples(regimes: Mapping[str, Sequence[tuple[np.ndarray, str, bool]]]) -> Figure:
    """The same scenes in every regime: heading -> (size, size, 3) pixels with their mark, caption, label of each."""
    figure = Figure(figsize=(BOTH_COLUMNS, 1.95 * len(regimes)), layout="constrained")
    parts = figure.subfigures(len(regimes), 1, squeeze=False)[:, 0]
    for part, (heading, samples) in zip(parts, regimes.items(), strict=True):
        part.suptitle(heading, fontsize=7.5, x=0.01, ha="left")
        for axes, (pixels, words, matches) in zip(part.subplots(1, len(samples)), samples, strict=True):
            axes.imshow(pixels, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.set_xlabel(("match\n" if matches else "no match\n") + textwrap.fill(words, 24), fontsize=6)
    return figure
