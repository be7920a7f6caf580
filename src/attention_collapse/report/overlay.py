"""Attention drawn over pictures, beside what attention that looks at nothing in particular would look like."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure

from attention_collapse.report.figures import WIDTH

ROW = 1.74  # inches of one pair: up to three lines of words, and the pictures
COLOURS = mpl.colormaps["PuOr_r"]  # less than uniform: purple, more: orange; told apart by colour-blind readers too
VEIL = 0.8  # opacity of the largest departure from uniform attention; none where there is no departure


@dataclass(frozen=True)
class Overlay:
    """One pair.

    Attributes
    ----------
    title, caption
        What it is, and the text that was measured with it.
    picture
        (height, width, 3) as in the data set, 0 to 255.
    seen
        (height, width) what the model received, in any unit: its crop and shape, shown in grey.
    grid
        (side, side) attention to each patch over uniform attention within the image: 0 and more, mean 1.
    mass
        Share of the attention that the image's patches get, 0 to 1; the rest goes to other tokens.
    """

    title: str
    caption: str
    picture: np.ndarray
    seen: np.ndarray
    grid: np.ndarray
    mass: float


def attention_overlay(name: str, shown: Sequence[Overlay] | str, readout: str) -> Figure:
    """One row per pair: the picture, the readout's attention over it, and uniform attention on the same scale.

    Attention is not contribution: the map says what was read from, not what the score depends on. A string in place of
    the pairs says why there are none. `readout` says whose attention it is: "image" or "text".
    """
    pairs = [] if isinstance(shown, str) else shown
    height = 0.9 if not pairs else 0.4 + ROW * len(pairs) + 0.45  # inches; placed by hand, for the rows are alike
    figure = Figure(figsize=(WIDTH, height), layout=None)

    def place(x: float, top: float, width: float, tall: float) -> Axes:  # inches from the top left
        return figure.add_axes((x / WIDTH, 1 - (top + tall) / height, width / WIDTH, tall / height))

    def write(top: float, words: str) -> None:
        figure.text(0.05 / WIDTH, 1 - top / height, words, va="top", fontsize=7)

    write(0.04, f"{name}\n{readout}'s readout: attention in the last layer, mean of heads")
    if isinstance(shown, str):
        write(0.45, textwrap.fill(f"Not drawn: {shown}.", 54))
        return figure
    most = max(2.0, *(float(item.grid.max()) for item in pairs))
    scale = LogNorm(1 / most, most, clip=True)  # half of uniform attention is as far from it as twice
    for index, item in enumerate(pairs):
        top = 0.4 + ROW * index
        said = textwrap.wrap(f"“{item.caption}”", 58, max_lines=2, placeholder=" …")
        write(top, "\n".join([item.title, *said]))
        picture, *maps = (place(0.05 + 1.06 * column, top + 0.43, 1.02, 1.02) for column in range(3))
        picture.imshow(item.picture)
        low, high = np.percentile(item.seen, (1, 99))
        span = max(high - low, 1e-6) / 2  # below, the picture in its middle greys: its own light is no attention
        tall, wide = item.seen.shape
        for axes, grid in zip(maps, (item.grid, np.ones_like(item.grid)), strict=True):
            axes.imshow(item.seen, cmap="gray", vmin=low - span, vmax=high + span)
            axes.imshow(  # patches as they are: smoothing would claim a resolution that attention does not have
                np.maximum(grid, 1e-9), cmap=COLOURS, norm=scale, alpha=_veil(grid, scale), interpolation="nearest",
                extent=(-0.5, wide - 0.5, tall - 0.5, -0.5),
            )  # fmt: skip
        labels = ("picture", f"{item.mass:.0%} on patches", "uniform attention")
        for axes, label in zip((picture, *maps), labels, strict=True):
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            axes.set_xlabel(label, fontsize=7, labelpad=2)
    levels = np.geomspace(1 / most, most, 512)
    bar = figure.colorbar(
        ScalarMappable(scale, ListedColormap(_over_grey(levels, scale))),
        cax=place(0.2, height - 0.43, WIDTH - 0.4, 0.09), orientation="horizontal",
    )  # fmt: skip
    ticks = [0.5**power for power in range(int(np.log2(most)), 0, -1)]
    bar.set_ticks([*ticks, 1, *(1 / tick for tick in reversed(ticks))])
    bar.set_ticks([], minor=True)
    bar.ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}" if value >= 1 else f"1/{1 / value:g}")
    bar.set_label("attention to a patch ÷ uniform attention (1: no colour)", fontsize=7, labelpad=1)
    return figure


def _veil(grid: np.ndarray, scale: LogNorm) -> np.ndarray:
    """Opacity of each patch's colour: 0 at uniform attention, so that the picture shows where little is said."""
    departure = np.abs(np.asarray(scale(np.maximum(grid, 1e-9)), float) - 0.5) * 2
    return VEIL * departure


def _over_grey(levels: np.ndarray, scale: LogNorm) -> np.ndarray:
    """(level, 3) colours as they look over a middle grey, for the bar beside the maps."""
    veil = _veil(levels, scale)[:, None]
    colours: np.ndarray = veil * COLOURS(scale(levels))[:, :3] + (1 - veil) * 0.5
    return colours
