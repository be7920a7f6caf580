"""Where in the picture the readout of a model looks.

Attention is not contribution: a bright patch was read from, which does not say that the score depends on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from attention_collapse.models.interface import Batch, DualEncoder, Model, Read
from attention_collapse.models.pictures import patch_keys
from attention_collapse.probe import AttentionProbe, SiteStats
from attention_collapse.probe.rows import needed_rows


def readout_attention(model: Model, batch: Batch, read: Read) -> Tensor:
    """Attention of the readout queries in the last layer read for vision, mean over heads, then over those queries.

    Returns
    -------
    Tensor
        (batch, key) shares in float64 that add to 1.
    """
    site, kept = read.sites[-1], list[SiteStats]()
    weights, nothing = read.rows["readout"], torch.empty(0, dtype=torch.long)
    wanted = needed_rows({"readout": weights})
    forward: Callable[[Batch], object] = model.embed if isinstance(model, DualEncoder) else model.score
    rows = lambda name, *_: wanted if name == site else nothing  # noqa: E731
    with AttentionProbe(model.module, on_stats=kept.append, weights=True, rows=rows), torch.inference_mode():
        forward(batch)
    [stats] = kept
    pattern = cast("Tensor", stats.weights).cpu().double().mean(1)  # (batch, row, key)
    chosen = weights[:, wanted].double()[..., None]  # (batch, row, 1)
    return torch.where(chosen > 0, pattern * chosen, 0.0).sum(1)


@dataclass(frozen=True)
class Map:
    """Attention of one pair's readout over the patches of its image.

    Attributes
    ----------
    seen
        (height, width) what the model received, in any unit: its crop and shape, as grey.
    grid
        (side, side) attention to each patch over uniform attention within the image: 0 and more, mean 1.
    mass
        Share of the attention that the image's patches get, 0 to 1; the rest goes to other tokens.
    """

    seen: np.ndarray
    grid: np.ndarray
    mass: float


def attention_maps(model: Model, batch: Batch) -> list[Map] | str:
    """The map of each item of a batch, or why there is none."""
    read = next((read for read in batch.reads if read.tower == "vision"), None)
    if read is None:
        return model.missing.get("vision", "the model has no attention over the image")
    placed = patch_keys(model.picture, batch, read)
    if isinstance(placed, str):
        return placed
    pixels, keys = placed
    shares = readout_attention(model, batch, read).gather(1, keys)  # (batch, patch)
    mass, side = shares.sum(-1, keepdim=True), int(keys.shape[1] ** 0.5)
    relative = (shares / mass * keys.shape[1]).view(len(keys), side, side).numpy()  # 1: uniform over the patches
    seen = pixels.float().mean(1).cpu().numpy()  # (batch, height, width)
    return [Map(grey, grid, float(share)) for grey, grid, share in zip(seen, relative, mass[:, 0], strict=True)]
