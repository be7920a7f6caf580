"""Figures of the test with planted answers: what was planted, and which measure sees it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from attention_collapse.measures.catalogue import label
from attention_collapse.registry import kind_label
from attention_collapse.report.figures import BOTH_COLUMNS

COLOURS = {  # of verdicts; Okabe and Ito's hues, told apart by lightness too
    "trusted": "#0072B2", "partial": "#A6D3EE", "blind": "#E6E6E6", "misleading": "#E69F00", "undefined": "#FFFFFF",
}  # fmt: skip
INK = {"trusted": "white"}
MEANING = {
    "trusted": "trusted: ≥ 0.9, interval above 0.5", "partial": "partial",
    "blind": "blind: interval holds 0.5", "misleading": "misleading: interval below 0.5",
}  # fmt: skip
CONTRASTS = ("image_ignored", "text_ignored")


def separation(result: Mapping[str, Any]) -> Figure:
    """Every measure against every kind: AUROC where the image, and where the text, is ignored; the cell's verdict."""
    kinds = list(result["kinds"])
    measures = list(dict.fromkeys(name for kind in kinds for name in result["kinds"][kind]["measures"]))
    figure = Figure(figsize=(BOTH_COLUMNS, 1.08 + 0.23 * len(measures)), layout="constrained")
    axes = figure.add_subplot()
    for y, measure in enumerate(measures):
        for x, kind in enumerate(kinds):
            found = result["kinds"][kind]["measures"].get(measure)
            if found is None:
                axes.text(x, y, "not defined", ha="center", va="center", fontsize=6, color="0.55")
                continue
            for left, name in zip((-0.49, 0.01), CONTRASTS, strict=True):
                part = found.get(name, {"verdict": "undefined", "auroc": None})
                value, verdict = part["auroc"], part["verdict"]
                axes.add_patch(Rectangle((x + left, y - 0.46), 0.48, 0.92, color=COLOURS[verdict], linewidth=0))
                shown = "–" if value is None or np.isnan(value) else f"{value:.2f}"
                axes.text(
                    x + left + 0.24, y, shown, ha="center", va="center", fontsize=7, color=INK.get(verdict, "black")
                )
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
    handles = [Rectangle((0, 0), 1, 1, color=COLOURS[name]) for name in MEANING]
    figure.legend(handles, list(MEANING.values()), loc="outside lower center", ncols=4, columnspacing=1.0, fontsize=6.5)
    figure.suptitle(
        "Does it see that the image, or the text, is ignored? AUROC against balanced models: 1 as it claims, 0.5 blind",
        fontsize=8, x=0.01, ha="left",
    )  # fmt: skip
    return figure


def decision_rule(result: Mapping[str, Any]) -> Figure:
    """The decision's rule on every planted model: how many it finds, leaves undecided and gets wrong, by measure."""
    totals = result["rule_over_all_kinds"]
    figure = Figure(figsize=(BOTH_COLUMNS, 1.05 + 0.26 * len(totals)), layout="constrained")
    most = max(found["ignoring_n_models"] for found in totals.values())
    fewer = max(found["balanced_n_models"] for found in totals.values())
    panels = figure.subplots(1, 2, sharey=True, width_ratios=(most, fewer))
    shown = {"right": "trusted", "undecided": "blind", "wrong": "misleading"}
    for axes, side, heading in zip(
        panels, ("ignoring", "balanced"), ("models that ignore a modality", "models that use both"), strict=True
    ):
        for y, found in enumerate(totals.values()):
            left = 0
            for outcome, colour in shown.items():
                count = found[f"{side}_{outcome}"]
                axes.barh(y, count, left=left, height=0.72, color=COLOURS[colour], linewidth=0)
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
    handles = [Rectangle((0, 0), 1, 1, color=COLOURS[colour]) for colour in shown.values()]
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
