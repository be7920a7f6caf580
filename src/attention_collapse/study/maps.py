"""Attention over the pictures of a model's extreme images: measured while the model is loaded, drawn without it.

A folder per model holds `maps.csv` (a row per patch), `about.json`, and what the model saw of each picture as
`<image_id>.png`, in grey.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image

from attention_collapse.data.images import load_rgb
from attention_collapse.files import read_json, whole_file, write_csv, write_json
from attention_collapse.identity.settle import settle_frame
from attention_collapse.study.layout import Study

if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS = ["image_id", "caption_id", "row", "column", "times_uniform", "mass"]
LEVELS = 2  # of 255: as far as another processor's rounding may move a grey


@dataclass(frozen=True)
class Seen:
    """One pair of a model: the image and caption, and the map of its readout's attention.

    Attributes
    ----------
    seen
        (height, width) greys, 0 to 255: the model's own crop and shape.
    grid
        (side, side) attention to each patch over uniform attention within the image: 0 and more, mean 1.
    mass
        Share of the attention that the image's patches get, 0 to 1.
    """

    image_id: int
    caption_id: int
    seen: np.ndarray
    grid: np.ndarray
    mass: float


def grey(pixels: np.ndarray) -> np.ndarray:
    """(height, width) numbers in any unit as greys, 0 to 255, from the least to the greatest."""
    low, high = float(pixels.min()), float(pixels.max())
    return ((pixels - low) / max(high - low, 1e-6) * 255).round().astype(np.uint8)


def pictures_of(pairs: Dataset, images: Sequence[int]) -> list[tuple[int, int, Image.Image, str]]:
    """(image_id, caption_id, picture, caption) of chosen images, each with its first caption."""
    wanted = {image: place for place, image in enumerate(images)}
    rows = sorted((row for row in pairs if row["image_id"] in wanted), key=lambda row: wanted[row["image_id"]])
    return [
        (row["image_id"], row["caption_ids"][0], load_rgb(Path(row["image"]["path"]))[0], row["captions"][0])
        for row in rows
    ]


def write_maps(study: Study, model: str, readout: str, found: Sequence[Seen] | str) -> None:
    """Write a model's maps, or the reason why there are none; what agrees with the standing files leaves them."""
    folder = study.maps(model)
    reason = found if isinstance(found, str) else None
    pairs: Sequence[Seen] = [] if isinstance(found, str) else found
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.png"):
        if file.stem not in {str(pair.image_id) for pair in pairs}:
            file.unlink()
    for pair in pairs:
        _settle_picture(folder / f"{pair.image_id}.png", pair.seen)
    rows = [
        [pair.image_id, pair.caption_id, y, x, float(value), pair.mass]
        for pair in pairs
        for (y, x), value in np.ndenumerate(pair.grid)
    ]
    if rows:
        settle_frame(folder / "maps.csv", pd.DataFrame(rows, columns=COLUMNS))
    else:
        write_csv(folder / "maps.csv", COLUMNS, [])
    write_json(folder / "about.json", {"readout": readout, "reason": reason})


def _settle_picture(file: Path, greys: np.ndarray) -> None:
    if file.is_file():
        standing = np.asarray(Image.open(file), np.int16)
        if standing.shape == greys.shape and np.abs(standing - greys).max() <= LEVELS:
            return
    with whole_file(file) as temporary:  # stored, not deflated: the same bytes on every machine
        Image.fromarray(greys).save(temporary, format="PNG", compress_level=0)


def read_maps(study: Study, model: str) -> tuple[str, list[Seen] | str]:
    """Whose readout it is ("image" or "text"), and the model's maps or why there are none."""
    folder = study.maps(model)
    about = read_json(folder / "about.json")
    if about["reason"] is not None:
        return about["readout"], str(about["reason"])
    found = []
    for _, rows in pd.read_csv(folder / "maps.csv").groupby("image_id", sort=False):
        image, caption = (int(rows[key].iloc[0]) for key in ("image_id", "caption_id"))
        grid = rows.pivot(index="row", columns="column", values="times_uniform").to_numpy(float)
        seen = np.asarray(Image.open(folder / f"{image}.png"))
        found.append(Seen(image, caption, seen, grid, float(rows["mass"].iloc[0])))
    return about["readout"], found
