"""Stage overlay: where the readout of a model looks in the pictures of its lowest, median and highest MCS.

Attention is not contribution: a bright patch was read from, which does not say that the score depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from attention_collapse.data.images import load_rgb
from attention_collapse.data.pairs import read_study
from attention_collapse.engine.overlay import Map, attention_maps, chosen_images
from attention_collapse.files import write_csv
from attention_collapse.identity.settle import settle_frame
from attention_collapse.models.interface import DualEncoder
from attention_collapse.report.figures import save, use_style
from attention_collapse.report.overlay import Overlay, attention_overlay
from attention_collapse.stages.run import run_stage
from attention_collapse.study.checkpoints import load_recorded
from attention_collapse.study.layout import Study
from attention_collapse.study.tables import images_of

COLUMNS = ["image_id", "caption_id", "row", "column", "times_uniform", "mass"]


def _table(maps: Sequence[Map], ids: Sequence[tuple[int, int]]) -> pd.DataFrame:
    """The maps as a table: one row per patch of each pair."""
    rows = [
        [*ids[index], y, x, float(value), item.mass]
        for index, item in enumerate(maps)
        for (y, x), value in np.ndenumerate(item.grid)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _as_standing(maps: Sequence[Map], table: pd.DataFrame) -> list[Map]:
    """The maps of the table that stands, so that equal tables give equal figures."""
    grids = table["times_uniform"].to_numpy(float).reshape(len(maps), *maps[0].grid.shape)
    masses = table["mass"].to_numpy(float).reshape(len(maps), -1)[:, 0]
    return [replace(item, grid=grid, mass=float(mass)) for item, grid, mass in zip(maps, grids, masses, strict=True)]


def main(study: Study, model: str) -> None:
    """Write `plots/<study>-overlay/<model>/attention_overlay.*` and the maps' numbers beside it."""
    torch.set_num_threads(study.params.extract_attention.threads)
    use_style()
    file = study.overlay(model) / "attention_overlay.csv"
    chosen = chosen_images(images_of(study, model), f"mcs_{study.params.compute_mcs.rows}")
    loaded = load_recorded(study, model)
    alone = isinstance(loaded, DualEncoder)
    maps: list[Map] | str = "no image has an MCS"
    if chosen:
        table = {row["image_id"]: row for row in read_study(study.pairs, study.manifest)}
        listed = [table[image] for _, image, _ in chosen]
        pictures, captions = (
            [load_rgb(Path(row["image"]["path"]))[0] for row in listed],
            [row["captions"][0] for row in listed],
        )
        batch = loaded.images(pictures) if isinstance(loaded, DualEncoder) else loaded.pairs(pictures, captions)
        maps = attention_maps(loaded, batch)
    shown: list[Overlay] | str
    if isinstance(maps, str):
        shown = maps
        write_csv(file, COLUMNS, [])
    else:
        ids = [(row["image_id"], row["caption_ids"][0]) for row in listed]
        maps = _as_standing(maps, settle_frame(file, _table(maps, ids)))
        titles = [
            f"{place} MCS, {value:.3f}: image {image}" + ("" if alone else f", “{caption}”")
            for (place, image, value), caption in zip(chosen, captions, strict=True)
        ]
        shown = [
            Overlay(title, np.asarray(picture), item.seen, item.grid, item.mass)
            for title, picture, item in zip(titles, pictures, maps, strict=True)
        ]
    save(attention_overlay(model, shown, "image" if alone else "text"), file.with_suffix(""))
    print(f"{model}: {shown if isinstance(shown, str) else f'{len(shown)} pairs'} -> {file.parent}")


if __name__ == "__main__":
    run_stage(main)
