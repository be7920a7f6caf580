"""The figures of one model, and what all figures share. Scores stand beside nulls; equal data give equal bytes."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from attention_collapse.files import whole_file
from attention_collapse.measures.catalogue import MEASURES
from attention_collapse.measures.mcs import TEXT_COLLAPSE, VISION_COLLAPSE

STYLE = Path(__file__).with_name("style.mplstyle")
CAUSAL, SCORE, CALIBRATED, NULL, PRIOR = "#0072B2", "#000000", "#009E73", "#777777", "#B0508B"
HEAT = "cividis"  # perceptually uniform, and made for colour-blind readers
WIDTH, BOTH_COLUMNS = 3.25, 6.75  # inches: one column, two with the gap
DEPENDS = ("reliance_image", "reliance_text", "reliance_share", "choice_image", "choice_text")

Bands: TypeAlias = Mapping[str, Mapping[str, Any]]  # layer -> means of the scores over images, and their intervals


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


def layer_wise_attention(
    name: str, bands: Bands, rows: str, confidence: float, untrained: Sequence[Bands] = ()
) -> Figure:
    """MCS by layer beside its null, and below it the calibrated score, where uniform attention is one half.

    Both panels are as high as their values ask for: on an axis from 0 to 1 every curve would look flat.

    Parameters
    ----------
    bands
        Layer -> mean of each score over images, with its interval; at least one layer.
    untrained
        The same of each control: the architecture with random weights.
    """
    layers = [int(layer) for layer in bands]
    figure = Figure(figsize=(WIDTH, 3.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    _curve(above, bands, "mcs_null", NULL, label="uniform attention (null)", style="--")
    _curve(above, bands, "mcs", SCORE, label="this model")
    below.axhline(0.5, color=NULL, linestyle="--", linewidth=1)
    _curve(below, bands, "mcs_calibrated", SCORE)
    for index, control in enumerate(untrained):
        _curve(above, control, "mcs", PRIOR, label="" if index else "untrained, each seed", style="-")
        _curve(below, control, "mcs_calibrated", PRIOR, style="-")
    bottom, top = above.get_ylim()
    for value in (TEXT_COLLAPSE, VISION_COLLAPSE):
        if bottom < value < top:
            above.axhline(value, color="0.4", linewidth=0.8, linestyle=(0, (1, 2)), zorder=0, label="reported cut-off")
    above.set_ylabel("MCS")
    below.set(xlabel="layer", ylabel="calibrated MCS")
    below.set_xlim(min(layers) - 0.3, max(layers) + 0.3)
    layer_ticks(below, layers, most=12)
    above.set_title(f"{name} · rows: {rows}\nband: {100 * confidence:g} % CI over images", loc="left")
    figure.legend(*above.get_legend_handles_labels(), loc="outside lower center", ncols=2, columnspacing=1.0)
    return figure


def _curve(axes: Axes, bands: Bands, key: str, colour: str, *, label: str = "", style: str = "o-") -> None:
    """A score by layer with its interval; a gap where a layer does not have it."""
    layers = [int(layer) for layer in bands]
    mean, low, high = (
        np.array([number(band, key + end) for band in bands.values()]) for end in ("", "_ci_low", "_ci_high")
    )
    axes.plot(layers, mean, style, color=colour, label=label or "_", markersize=3.5)
    axes.fill_between(layers, low, high, color=colour, alpha=0.25, linewidth=0)
    axes.vlines(layers, low, high, color=colour, linewidth=0.8)  # a band of one layer has no width


def layer_ticks(axes: Axes, layers: Sequence[int], *, most: int) -> None:
    """Every layer, or every second, fifth … where there are more than `most`; the first always."""
    step = next(step for step in (1, 2, 5, 10, 20, 50) if len(layers) <= step * most)
    axes.set_xticks(list(layers)[::step])


def modality_contribution(
    name: str, images: pd.DataFrame, result: Mapping[str, Any], rows: str, confidence: float
) -> Figure:
    """Where the model looks, above, and what its score depends on, below, each as mean with its interval.

    Above: MCS of each image, its null, the untrained prior and the calibrated score; left out where the model has no
    MCS. Below: the measures that swap an input, where 0.5 is balance or chance; the title says why one is not defined.
    """
    looks: list[tuple[str, str, str]] = [("mcs", "MCS", SCORE), ("mcs_null", "null", NULL)]
    if "mcs_untrained" in result:
        looks.append(("mcs_untrained", "untrained", PRIOR))
    looks.append(("mcs_calibrated", "calibrated", CALIBRATED))
    depends = [(key, MEASURES[key].label, CAUSAL) for key in DEPENDS]
    panels = [depends] if np.isnan(number(result["mcs"])) else [looks, depends]
    figure = Figure(figsize=(WIDTH, 0.6 + sum(0.6 + 0.26 * len(panel) for panel in panels)), layout="constrained")
    found = figure.subplots(len(panels), 1, squeeze=False, height_ratios=[len(panel) + 1 for panel in panels])
    for axes, panel in zip(found[:, 0], panels, strict=True):
        _lines(axes, panel, result, images, rows)
    if len(panels) == 2:
        thresholds(found[0, 0], horizontal=False)
        found[0, 0].set(xlim=(0, 1), xlabel="vision's share of attention entropy")
        found[0, 0].set_xticks([0, 0.3, 0.5, 0.7, 1])
    found[-1, 0].axvline(0.5, color="0.8", linewidth=0.7, zorder=0)
    found[-1, 0].set(xlim=(0, max(1.0, found[-1, 0].get_xlim()[1])))
    found[-1, 0].set_xlabel("what the score depends on")
    dots = "" if len(panels) == 1 else "dots: images · "
    words = [f"{name} · rows: {rows}", f"{dots}diamonds: mean, {100 * confidence:g} % CI"]
    reasons = (str(result.get(key, {}).get("reason") or "") for key in DEPENDS if np.isnan(number(result.get(key))))
    words += [textwrap.fill(f"not defined: {why}", 62) for why in dict.fromkeys(reasons) if why]
    figure.suptitle("\n".join(words), x=0.01, ha="left", fontsize=8)
    return figure


def _lines(
    axes: Axes, panel: Sequence[tuple[str, str, str]], result: Mapping[str, Any], images: pd.DataFrame, rows: str
) -> None:
    """One line a measure, (key, label, colour), from the top down."""
    jitter = np.random.default_rng(0)
    for height, (key, _, colour) in enumerate(reversed(panel)):
        summary, mean = result.get(key, {}), number(result.get(key))
        if np.isnan(mean):
            axes.text(
                0.02, height, "not defined", color="0.4", va="center", fontsize=7, transform=axes.get_yaxis_transform()
            )
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
    axes.set_yticks(range(len(panel)), [label for _, label, _ in reversed(panel)])
    axes.set_ylim(-0.5, len(panel) - 0.5)


def attention_entropy(name: str, heads: pd.DataFrame, rows: str) -> Figure:
    """Heat map of how far each head's entropy lies below that of uniform attention, by layer and head, in nats.

    The scale begins at 0, uniform attention, and ends at the largest value, the same for both towers; a tower without
    attention is left out. Layers and heads are counted from 1.

    Parameters
    ----------
    heads
        Columns tower, layer (from 1), head (from 0), `entropy_<rows>` and `uniform_<rows>` in nats; at least one row.
    """
    below = heads.assign(below=heads[f"uniform_{rows}"] - heads[f"entropy_{rows}"])
    grids = {
        tower: part.pivot_table(index="head", columns="layer", values="below", dropna=False)
        for tower in ("vision", "text")
        if len(part := below[below["tower"] == tower])
    }
    most = max(len(grid) for grid in grids.values())
    scale = Normalize(0, max(float(below["below"].max()), 1e-6))
    figure = Figure(figsize=(WIDTH, 1.35 + 0.13 * min(max(most, 4), 16)), layout="constrained")
    panels = figure.subplots(1, len(grids), squeeze=False)[0]
    for axes, (tower, grid) in zip(panels, grids.items(), strict=True):
        axes.set_title(f"{tower} tower")
        _heads(axes, grid, scale)
    panels[0].set_ylabel("head")
    bar = figure.colorbar(ScalarMappable(scale, HEAT), ax=panels, location="bottom", aspect=40, pad=0.03)
    bar.set_ticks([tick for tick in bar.get_ticks() if tick <= float(below["below"].max())])
    bar.set_label("nats below uniform attention, ln n − H")
    figure.suptitle(f"{name} · rows: {rows}, mean over items", x=0.01, ha="left", fontsize=8)
    return figure


def _heads(axes: Axes, grid: pd.DataFrame, scale: Normalize) -> None:
    """One tower: a cell a head, with its value where there is room."""
    layers, numbers = [int(layer) for layer in grid.columns], [int(head) + 1 for head in grid.index]
    values = grid.to_numpy(float)
    x, y = (np.append(np.arange(len(those)) + 0.5, len(those) + 0.5) for those in (layers, numbers))
    axes.set_facecolor("0.85")  # a cell without a value
    axes.pcolormesh(x, y, np.ma.masked_invalid(values), cmap=HEAT, norm=scale, edgecolors="white", linewidth=0.3)
    if len(layers) <= 4 and len(numbers) <= 12:
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                ink = "white" if scale(value) < 0.5 else "black"
                axes.text(column + 1, row + 1, f"{value:.2f}", ha="center", va="center", fontsize=7, color=ink)
    axes.set(xlabel="layer", ylim=(len(numbers) + 0.5, 0.5))
    layer_ticks(axes, layers, most=6)
    step = 1 if len(numbers) <= 8 else 4 if len(numbers) <= 16 else 8
    axes.set_yticks(range(1, len(numbers) + 1, step), [str(head) for head in numbers[::step]])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
