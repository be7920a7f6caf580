"""The figures of one model. Every score is drawn with its null; the same data give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from attention_collapse.files import whole_file
from attention_collapse.measures.mcs import TEXT_COLLAPSE, VISION_COLLAPSE

STYLE = Path(__file__).with_name("style.mplstyle")
VISION, TEXT, SCORE, CALIBRATED, NULL, PRIOR = "#0072B2", "#D55E00", "#000000", "#009E73", "#777777", "#B0508B"
WIDTH = 3.25  # inches: one column


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


def _thresholds(axes: Axes, *, horizontal: bool) -> None:
    line = axes.axhline if horizontal else axes.axvline
    for value in (TEXT_COLLAPSE, VISION_COLLAPSE):
        line(value, color="0.6", linewidth=0.7, linestyle=(0, (1, 2)), zorder=0)


def layer_wise_attention(name: str, bands: Mapping[str, Mapping[str, float]], rows: str, confidence: float) -> Figure:
    """Layer MCS with its interval over images, its null, and the calibrated score."""
    layers = [int(layer) for layer in bands]

    def column(key: str) -> np.ndarray:
        return np.array([np.nan if (value := band[key]) is None else value for band in bands.values()])

    figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
    axes = figure.add_subplot()
    _thresholds(axes, horizontal=True)
    for key, colour, label, style in (
        ("mcs", SCORE, "MCS", "o-"),
        ("mcs_null", NULL, "null (uniform attention)", "--"),
        ("mcs_calibrated", CALIBRATED, "calibrated (0.5 = null)", "s-"),
    ):
        axes.plot(layers, column(key), style, color=colour, label=label)
        axes.fill_between(
            layers, column(f"{key}_ci_low"), column(f"{key}_ci_high"), color=colour, alpha=0.25, linewidth=0
        )
    for value in (TEXT_COLLAPSE, VISION_COLLAPSE):
        axes.text(1.02, value, f"{value}", transform=axes.get_yaxis_transform(), va="center", color="0.45", fontsize=7)
    axes.set(xlabel="layer", ylabel="vision's share of entropy", ylim=(0, 1), xticks=layers)
    axes.axhline(0.5, color="0.8", linewidth=0.7, zorder=0)
    axes.set_title(f"{name} · rows: {rows}\nband: {100 * confidence:g} % CI over images", loc="left")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, columnspacing=1.0)
    return figure


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
    _thresholds(axes, horizontal=False)
    axes.axvline(0.5, color="0.8", linewidth=0.7, zorder=0)
    jitter = np.random.default_rng(0)
    for height, (key, _, colour) in enumerate(reversed(lines)):
        summary = result[key]
        if f"{key}_{rows}" in images:
            values = images[f"{key}_{rows}"].to_numpy(float)
            scatter = height + jitter.uniform(-0.28, 0.28, values.size)
            axes.scatter(values, scatter, s=4, color=colour, alpha=0.3, linewidths=0)
        axes.errorbar(
            summary["mean"], height, xerr=_error(summary), color=colour, marker="D", markersize=4, capsize=2,
            markeredgecolor="white", markeredgewidth=0.6, linewidth=1.2,
        )  # fmt: skip
        axes.text(
            1.02, height, f"{summary['mean']:.3f}", color=colour, va="center", transform=axes.get_yaxis_transform()
        )
    axes.set_yticks(range(len(lines)), [label for _, label, _ in reversed(lines)])
    axes.set(xlim=(0, 1), ylim=(-0.5, len(lines) - 0.5), xlabel="vision's share of attention entropy")
    axes.set_xticks([0, 0.3, 0.5, 0.7, 1])
    axes.set_title(f"{name} · rows: {rows}\ndots: images · diamonds: mean, {100 * confidence:g} % CI", loc="left")
    return figure


def _error(summary: Mapping[str, Any]) -> list[list[float]] | None:
    if summary.get("ci_low") is None:
        return None
    return [[summary["mean"] - summary["ci_low"]], [summary["ci_high"] - summary["mean"]]]


def attention_entropy(name: str, heads: pd.DataFrame, rows: str) -> Figure:
    """Entropy of each head and layer, the layer's mean, and the uniform value, one panel a tower."""
    figure = Figure(figsize=(WIDTH, 2.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=False)
    for axes, tower, colour in zip(panels, ("vision", "text"), (VISION, TEXT), strict=True):
        part = heads[heads["tower"] == tower]
        mean = part.groupby("layer")[[f"entropy_{rows}", f"uniform_{rows}"]].mean()
        axes.plot(mean.index, mean[f"uniform_{rows}"], "--", color=NULL, label="uniform (null)")
        axes.plot(mean.index, mean[f"entropy_{rows}"], "-", color=colour, label="mean of heads")
        axes.scatter(
            part["layer"], part[f"entropy_{rows}"], s=5, color=colour, alpha=0.5, linewidths=0, label="one head"
        )
        top = float(max(part[f"uniform_{rows}"].max(), part[f"entropy_{rows}"].max()))
        axes.set(xlabel="layer", ylim=(0, top * 1.08), title=f"{tower} tower")
        layers = mean.index.to_list()
        axes.set_xticks(layers if len(layers) <= 6 else layers[::2])
    panels[0].set_ylabel("attention entropy (nats)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, columnspacing=1.0)
    figure.suptitle(f"{name} · rows: {rows}", fontsize=8)
    return figure
