"""Attention drawn over pictures, beside what attention that looks at nothing in particular would look like."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from attention_collapse.report.figures import HEAT, WIDTH


@dataclass(frozen=True)
class Overlay:
    """One pair.

    Attributes
    ----------
    title
        What it is.
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
    picture: np.ndarray
    seen: np.ndarray
    grid: np.ndarray
    mass: float


def attention_overlay(name: str, shown: Sequence[Overlay] | str, who: str) -> Figure:
    """A row a pair: the picture, the readout's attention over it, and uniform attention on the same scale.

    Attention is not contribution: the map says what was read from, not what the score depends on. A string in place of
    the pairs says why there are none.
    """
    heading = f"{name}\nattention of the {who}, last layer, mean of heads"
    if isinstance(shown, str):
        figure = Figure(figsize=(WIDTH, 0.9), layout="constrained")
        figure.suptitle(heading, x=0.01, ha="left", fontsize=8)
        figure.text(0.01, 0.25, "\n".join(textwrap.wrap(f"Not drawn: {shown}.", 56)), fontsize=7.5, color="0.35")
        return figure
    scale = Normalize(0, max(2.0, max(float(item.grid.max()) for item in shown)))
    figure = Figure(figsize=(WIDTH, 0.95 + 1.3 * len(shown)), layout="constrained")
    figure.suptitle(heading, x=0.01, ha="left", fontsize=8)
    parts = figure.subfigures(len(shown), 1, squeeze=False)[:, 0]
    panels = []
    for part, item in zip(parts, shown, strict=True):
        part.suptitle(textwrap.shorten(item.title, 62, placeholder=" …"), x=0.01, ha="left", fontsize=7)
        picture, *maps = part.subplots(1, 3)
        picture.imshow(item.picture)
        picture.set_xlabel("picture", fontsize=7)
        low, high = np.percentile(item.seen, (1, 99))
        height, width = item.seen.shape
        uniform = np.ones_like(item.grid)
        for axes, grid, label in zip(
            maps, (item.grid, uniform), (f"{item.mass:.0%} on patches", "uniform"), strict=True
        ):
            axes.imshow(item.seen, cmap="gray", vmin=low, vmax=max(high, low + 1e-6))
            axes.imshow(  # patches as they are: smoothing would claim a resolution that attention does not have
                grid, cmap=HEAT, norm=scale, alpha=0.7, extent=(-0.5, width - 0.5, height - 0.5, -0.5),
                interpolation="nearest",
            )  # fmt: skip
            axes.set_xlabel(label, fontsize=7)
        panels += [picture, *maps]
    for axes in panels:
        axes.set(xticks=[], yticks=[])
    bar = figure.colorbar(ScalarMappable(scale, HEAT), ax=panels, location="bottom", aspect=40, pad=0.02)
    bar.set_label("attention to a patch ÷ uniform attention")
    return figure
