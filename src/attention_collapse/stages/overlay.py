"""Stage overlay: where in the picture the readout of each model under test looks, for three pairs.

They are those of its lowest, median and highest MCS; controls are left out.

Attention is not contribution: a bright patch was read from, which does not say that the score depends on it.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from attention_collapse.data.images import load_rgb
from attention_collapse.data.pairs import read_study
from attention_collapse.families import DUAL_ENCODER
from attention_collapse.files import write_csv
from attention_collapse.models.interface import Batch, Model, Read, passes
from attention_collapse.models.pictures import patch_keys
from attention_collapse.probe import AttentionProbe, SiteStats
from attention_collapse.probe.rows import needed_rows
from attention_collapse.report.figures import save, use_style
from attention_collapse.report.overlay import Overlay, attention_overlay
from attention_collapse.settle import settle_frame
from attention_collapse.stages.checkpoints import load_recorded
from attention_collapse.stages.layout import Study, run_stage
from attention_collapse.stages.tables import images_of

PLACES = ("lowest", "median", "highest")
COLUMNS = ["image_id", "caption_id", "row", "column", "times_uniform", "mass"]


def chosen_images(images: pd.DataFrame, score: str) -> list[tuple[str, int, float]]:
    """(place, image_id, value) of the images of lowest, median (the lower of two) and highest score, ties by id.

    Images without the score are left out, and no image is chosen twice.
    """
    if score not in images:
        return []
    ranked = images.dropna(subset=[score]).sort_values([score, "image_id"], ignore_index=True)
    places: dict[int, str] = {}
    for place, index in zip(PLACES, (0, (len(ranked) - 1) // 2, len(ranked) - 1), strict=True):
        if len(ranked):
            places.setdefault(index, place)
    return [
        (place, int(ranked["image_id"][index]), float(ranked[score][index])) for index, place in sorted(places.items())
    ]


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
    module = cast("torch.nn.Module", model.module)
    with (
        AttentionProbe(
            module, on_stats=kept.append, weights=True, rows=lambda name, *_: wanted if name == site else nothing
        ),
        torch.inference_mode(),
    ):
        model.run(batch)
    [stats] = kept
    pattern = cast("Tensor", stats.weights).double().cpu().mean(1)  # (batch, row, key)
    chosen = weights[:, wanted].double()[..., None]  # (batch, row, 1)
    return torch.where(chosen > 0, pattern * chosen, 0.0).sum(1)


def overlays(
    model: Model, kind: str, pictures: Sequence[np.ndarray], batch: Batch, titles: Sequence[str]
) -> list[Overlay] | str:
    """What the figure shows of each item of a batch, or why there is nothing to show.

    Parameters
    ----------
    pictures
        The pictures themselves, (height, width, 3) each, 0 to 255.
    """
    read = next((read for read in batch.reads if read.tower == "vision"), None)
    if read is None:
        return model.missing.get("vision", "the model has no attention over the image")
    placed = patch_keys(kind, batch, read)
    if isinstance(placed, str):
        return placed
    pixels, keys = placed
    shares = readout_attention(model, batch, read).gather(1, keys)  # (batch, patch)
    mass, side = shares.sum(-1, keepdim=True), int(keys.shape[1] ** 0.5)
    relative = (shares / mass * keys.shape[1]).view(len(keys), side, side).numpy()  # 1: uniform over the patches
    seen = pixels.float().mean(1).cpu().numpy()  # (batch, height, width): the model's own crop, in grey
    return [
        Overlay(title, picture, grey, grid, float(share))
        for title, picture, grey, grid, share in zip(titles, pictures, seen, relative, mass[:, 0], strict=True)
    ]


def main(study: Study) -> None:
    """Write `plots/<study>-overlay/<model>/attention_overlay.*` and the maps' numbers beside it."""
    torch.set_num_threads(study.params.extract_attention.threads)
    use_style()
    drawn = [name for name, spec in study.params.models.items() if not spec.is_control]
    for folder in study.overlays.glob("*"):
        if folder.name not in drawn:
            shutil.rmtree(folder)
    for name in drawn:
        _draw(study, name)


def _cells(shown: Sequence[Overlay], ids: Sequence[tuple[int, int]]) -> pd.DataFrame:
    """The maps as a table, a row for each patch of each pair."""
    rows = [
        [*ids[index], y, x, float(value), item.mass]
        for index, item in enumerate(shown)
        for (y, x), value in np.ndenumerate(item.grid)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _as_standing(shown: Sequence[Overlay], table: pd.DataFrame) -> list[Overlay]:
    """The same pairs with the maps of the table that stands, so that equal tables give equal figures."""
    grids = table["times_uniform"].to_numpy(float).reshape(len(shown), *shown[0].grid.shape)
    masses = table["mass"].to_numpy(float).reshape(len(shown), -1)[:, 0]
    return [replace(item, grid=grid, mass=float(mass)) for item, grid, mass in zip(shown, grids, masses, strict=True)]


def _draw(study: Study, model: str) -> None:
    folder, rows = study.overlays / model, study.params.compute_mcs.rows
    chosen = chosen_images(images_of(study, model), f"mcs_{rows}")
    shown: list[Overlay] | str = "no image has an MCS"
    ids: list[tuple[int, int]] = []
    loaded = load_recorded(study, model)
    if chosen:
        table = {row["image_id"]: row for row in read_study(study.pairs, study.manifest)}
        listed = [table[image] for _, image, _ in chosen]
        pictures = [load_rgb(Path(row["image"]["path"]))[0] for row in listed]
        alone = loaded.family == DUAL_ENCODER
        contents = pictures if alone else list(zip(pictures, (row["captions"][0] for row in listed), strict=True))
        titles = [
            f"{place} MCS, {value:.3f}: image {image}" + ("" if alone else f", “{row['captions'][0]}”")
            for (place, image, value), row in zip(chosen, listed, strict=True)
        ]
        batch = loaded.batch(passes(loaded)[0], contents)
        shown = overlays(loaded, study.spec(model).kind, [np.asarray(picture) for picture in pictures], batch, titles)
        ids = [(row["image_id"], row["caption_ids"][0]) for row in listed]
    readout = "image" if loaded.family == DUAL_ENCODER else "text"
    file = folder / "attention_overlay.csv"
    if isinstance(shown, str):
        write_csv(file, COLUMNS, [])
    else:
        shown = _as_standing(shown, settle_frame(file, _cells(shown, ids)))
    save(attention_overlay(model, shown, readout), file.with_suffix(""))
    print(f"{model}: {shown if isinstance(shown, str) else f'{len(shown)} pairs'} -> {folder}")


if __name__ == "__main__":
    run_stage(main)
