"""Layers by heads: how even a head's attention is, and how much of it lies on the image, as means over pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attention_collapse.engine.attention_table import SURROGATE
from attention_collapse.measures.attention import ROWS
from attention_collapse.probe import GROUPS

TOWERS = ("vision", "text")


@dataclass(frozen=True)
class HeadMeans:
    """One tower's grids by choice of rows ("all", "readout"), each (layer, head), NaN where undefined.

    Attributes
    ----------
    entropy
        Entropy ÷ ln n, 0 (one key) to 1 (even).
    mass
        Share of the attention that the image's keys get, 0 to 1; None where the queries see no image.
    mass_null
        What even attention would give: the image's share of the keys.
    """

    tower: str
    entropy: dict[str, NDArray[np.float64]]
    mass: dict[str, NDArray[np.float64]] | None
    mass_null: dict[str, float]


def head_means(table: pd.DataFrame) -> list[HeadMeans]:
    """Of the table of `engine.attention.extract`; a tower that it has nothing of is left out."""
    found = []
    for tower in TOWERS:
        mine = table[(table["tower"] == tower) & (table["tower"] != SURROGATE)]
        if mine.empty:
            continue
        means = mine.groupby(["layer", "head"]).mean(numeric_only=True)
        heads = means.index.get_level_values("head").nunique()

        def grid(name: str, means: pd.DataFrame = means, heads: int = heads) -> NDArray[np.float64]:
            return means[name].to_numpy(np.float64).reshape(-1, heads)

        sees = "mass_image_all" in means and means["support_image_all"].max() > 0
        null = {
            rows: float(
                (mine[f"support_image_{rows}"] / sum(mine[f"support_{group}_{rows}"] for group in GROUPS)).mean()
            )
            if sees
            else float("nan")
            for rows in ROWS
        }
        found.append(HeadMeans(
            tower, {rows: grid(f"entropy_normalized_{rows}") for rows in ROWS},
            {rows: grid(f"mass_image_{rows}") for rows in ROWS} if sees else None, null,
        ))  # fmt: skip
    return found
