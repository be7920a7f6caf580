"""The figures of one model, and what all figures share. Scores stand beside nulls; equal data give equal bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from attention_collapse.files import whole_file
from attention_collapse.measures.mcs import TEXT_COLLAPSE, VISION_COLLAPSE

STYLE = Path(__file__).with_name("style.mplstyle")
CAUSAL, SCORE, CALIBRATED, NULL, PRIOR = "#0072B2", "#000000", "#009E73", "#777777", "#B0508B"
HEAT = "cividis"  # perceptually uniform, and made for colour-blind readers
WIDTH, BOTH_COLUMNS = 3.25, 6.75  # inches: one column, two with the gap


def use_style() -> None:
    """The one style file, on top of Matplotlib's defaults (a user's own matplotlibrc does not leak in)."""
    mpl.rcdefaults()
    mpl.style.use(STYLE)


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write PNG (for the eye) and PDF (for the paper), without dates or program versions."""
    FigureCanvasAgg(figure)
    paths = []
    for suffix, metadata in (
        (".png", {"Software": None}),
        (".pdf", {"CreationDate": None, "Creator": None, "Producer": None}),
    ):
        path = stem.with_suffix(suffix)
        with whole_file(path) as temporary:
            figure.savefig(temporary, format=suffix[1:], metadata=metadata)
        paths.append(path)
    return paths


def number(summary: Mapping[str, Any] | None, key: str = "mean") -> float:
    """A value of the statistics; NaN where it is null or absent."""
    value = (summary or {}).get(key)
    return np.nan if value is None else float(value)


def error_bar(summary: Mapping[str, Any]) -> list[list[float]] | None:
    """Distances from the mean to its interval, as `errorbar` takes them; None without an interval."""
    mean, low, high = (number(summary, key) for key in ("mean", "ci_low", "ci_high"))
    return None if np.isnan(low) else [[mean - low], [high - mean]]


def thresholds(axes: Axes, *, horizontal: bool) -> None:
    """The reported thresholds, dotted, and balance, solid."""
    line = axes.axhline if horizontal else axes.axvline
    for value in (TEXT_COLLAPSE, VISION_COLLAPSE):
        line(value, color="0.6", linewidth=0.7, linestyle=(0, (1, 2)), zorder=0)
    line(0.5, color="0.8", linewidth=0.7, zorder=0)


def layer_wise_attention(name: str, bands: Mapping[str, Mapping[str, Any]], rows: str, confidence: float) -> Figure:
    """Layer MCS with its interval over images, its null, and the calibrated score. Without layers: why."""
    layers = [int(layer) for layer in bands]
    figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
    axes = figure.add_subplot()
    thresholds(axes, horizontal=True)
    for key, colour, label, style in (
        ("mcs", SCORE, "MCS", "o-"),
        ("mcs_null", NULL, "null (uniform attention)", "--"),
        ("mcs_calibrated", CALIBRATED, "calibrated (0.5 = null)", "s-"),
    ):
        mean, low, high = (
            np.array([number(band, key + end) for band in bands.values()]) for end in ("", "_ci_low", "_ci_high")
        )
        axes.plot(layers, mean, style, color=colour, label=label)
        axes.fill_between(layers, low, high, color=colour, alpha=0.25, linewidth=0)
        axes.vlines(layers, low, high, color=colour, linewidth=0.8)  # a band of one layer has no width
    for value, side in ((TEXT_COLLAPSE, "text"), (VISION_COLLAPSE, "vision")):
        axes.text(
            1.01, value, f"{value}\n{side}\ncollapse", transform=axes.get_yaxis_transform(), va="center", color="0.4",
            fontsize=7, linespacing=0.95,
        )  # fmt: skip
    axes.set(xlabel="layer", ylabel="vision's share of entropy", ylim=(0, 1))
    axes.set_xlim(min(layers, default=1) - 0.3, max(layers, default=1) + 0.3)
    layer_ticks(axes, layers, most=12)
    if not layers:
        axes.text(0.5, 0.5, "no layer has both entropies", transform=axes.transAxes, ha="center", va="bottom")
    axes.set_title(f"{name} · rows: {rows}\nband: {100 * confidence:g} % CI over images", loc="left")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, columnspacing=1.0)
    return figure


def layer_ticks(axes: Axes, layers: Sequence[int], *, most: int) -> None:
    """Every layer, or every second, fifth … where there are more than `most`; the first always."""
    step = next(step for step in (1, 2, 5, 10, 20, 50) if len(layers) <= step * most)
    axes.set_xticks(list(layers)[::step])


def modality_contribution(
    name: str, images: pd.DataFrame, result: Mapping[str, Any], rows: str, confidence: float
) -> Figure:
    """Each image's score and the mean with its interval; the null, the untrained prior and the calibrated score."""
    lines: list[tuple[str, str, str]] = [("mcs", "MCS", SCORE), ("mcs_null", "null", NULL)]
    if "mcs_untrained" in result:
        lines.append(("mcs_untrained", "untrained", PRIOR))
    lines.append(("mcs_calibrated", "calibrated", CALIBRATED))
    figure = Figure(figsize=(WIDTH, 0.85 + 0.36 * len(lines)), layout="constrained")
    axes = figure.add_subplot()
    thresholds(axes, horizontal=False)
    jitter = np.random.default_rng(0)
    for height, (key, _, colour) in enumerate(reversed(lines)):
        summary, mean = result[key], number(result[key])
        if np.isnan(mean):
            axes.text(0.02, height, "not defined", color="0.5", va="center", fontsize=7)
            continue
        if f"{key}_{rows}" in images:
            values = images[f"{key}_{rows}"].to_numpy(float)
            scatter = height + jitter.uniform(-0.28, 0.28, values.size)
            axes.scatter(values, scatter, s=4, color=colour, alpha=0.3, linewidths=0)
        axes.errorbar(
            mean, height, xerr=error_bar(summary), color=colour, marker="D", markersize=4, capsize=2,
            markeredgecolor="white", markeredgewidth=0.6, linewidth=1.2,
        )  # fmt: skip
        axes.text(1.02, height, f"{mean:.3f}", color=colour, va="center", transform=axes.get_yaxis_transform())
    axes.set_yticks(range(len(lines)), [label for _, label, _ in reversed(lines)])
    axes.set(xlim=(0, 1), ylim=(-0.5, len(lines) - 0.5), xlabel="vision's share of attention entropy")
    axes.set_xticks([0, 0.3, 0.5, 0.7, 1])
    axes.set_title(f"{name} · rows: {rows}\ndots: images · diamonds: mean, {100 * confidence:g} % CI", loc="left")
    return figure


def attention_entropy(name: str, heads: pd.DataFrame, rows: str) -> Figure:
    """Heat map of entropy over its maximum, ln n, by layer and head: vision and text side by side on one scale."""
    towers = {tower: heads[heads["tower"] == tower] for tower in ("vision", "text")}
    grids = {
        tower: part.pivot_table(index="head", columns="layer", values=f"entropy_normalized_{rows}", dropna=False)
        for tower, part in towers.items()
    }
    most = max((len(grid) for grid in grids.values()), default=0)
    figure = Figure(figsize=(WIDTH, 1.35 + 0.13 * min(max(most, 4), 16)), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, (tower, grid) in zip(panels, grids.items(), strict=True):
        axes.set_title(f"{tower} tower")
        if grid.empty:
            axes.text(0.5, 0.5, "no attention", transform=axes.transAxes, ha="center", va="center", color="0.4")
            axes.set(xticks=[], yticks=[])
            continue
        layers, numbers = [int(layer) for layer in grid.columns], grid.index.to_list()
        x, y = (np.append(np.arange(len(values)) + 0.5, len(values) + 0.5) for values in (layers, numbers))
        axes.set_facecolor("0.85")  # a cell without a value
        axes.pcolormesh(
            x,
            y,
            np.ma.masked_invalid(grid.to_numpy(float)),
            cmap=HEAT,
            vmin=0,
            vmax=1,
            edgecolors="white",
            linewidth=0.3,
        )
        if len(layers) <= 4 and len(numbers) <= 12:
            for (row, column), value in np.ndenumerate(grid.to_numpy(float)):
                if np.isfinite(value):
                    ink = "white" if value < 0.5 else "black"
                    axes.text(column + 1, row + 1, f"{value:.2f}", ha="center", va="center", fontsize=7, color=ink)
        axes.set(xlabel="layer", ylim=(len(numbers) + 0.5, 0.5))
        layer_ticks(axes, layers, most=6)
        step = 1 if len(numbers) <= 8 else 4 if len(numbers) <= 16 else 8
        axes.set_yticks(range(1, len(numbers) + 1, step), [str(head) for head in numbers[::step]])
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.tick_params(length=0)
    panels[0].set_ylabel("head")
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), HEAT), ax=panels, location="bottom", aspect=40, pad=0.03)
    bar.set_label("entropy ÷ ln n (1: uniform over the n keys)")
    figure.suptitle(f"{name} · rows: {rows}, mean over items", x=0.01, ha="left", fontsize=8)
    return figure
