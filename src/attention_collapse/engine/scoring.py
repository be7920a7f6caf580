"""Scores of chosen images with chosen captions, each distinct pair scored once: what every ablation is made of.

A dual encoder encodes each item once; any other model runs each distinct pair once, its image encoder (where it
has one) each image once. Finished batches are kept, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from attention_collapse.data.images import load_rgb
from attention_collapse.engine.parts import open_parts
from attention_collapse.errors import DataError
from attention_collapse.files import read_json, sha256_bytes, whole_file, write_text
from attention_collapse.models.image_once import image_once
from attention_collapse.models.interface import Batch, DualEncoder, Model, PairScorer
from attention_collapse.models.recombined import recombined
from attention_collapse.progress import steps

if TYPE_CHECKING:
    from datasets import Dataset

Cells = dict[str, tuple[np.ndarray, np.ndarray]]  # name -> positions of images and of texts
Indices = list[tuple[int, int]]  # (image, text) by position; image n is the mean image
MEAN_SIDE = 224  # pixels: pictures of any size are averaged at this one


class _Pictures:
    """The images of a data set by position, read when they are needed, and after them their mean."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self._total, self._unread = np.zeros((MEAN_SIDE, MEAN_SIDE, 3)), set(range(len(paths)))

    def __len__(self) -> int:
        return len(self.paths) + 1

    def __getitem__(self, position: int) -> Image.Image:
        return self._read(position) if position < len(self.paths) else self._mean()

    def _read(self, position: int) -> Image.Image:
        image = load_rgb(self.paths[position])[0]
        if position in self._unread:  # the mean comes last, and so costs no second reading
            self._unread.remove(position)
            small = image.resize((MEAN_SIDE, MEAN_SIDE), Image.Resampling.BICUBIC)
            self._total += np.asarray(small, np.float64)  # whole numbers: any order gives the same sum
        return image

    def _mean(self) -> Image.Image:
        for position in sorted(self._unread):
            self._read(position)
        return Image.fromarray((self._total / len(self.paths)).round().astype(np.uint8))


def mean_picture(paths: list[Path]) -> Image.Image:
    """The mean of some files' pictures as it is scored, `MEAN_SIDE` pixels a side."""
    pictures = _Pictures(paths)
    return pictures[len(paths)]


def _grid(
    model: DualEncoder, pictures: _Pictures, texts: list[str], captions: int, *, batch_size: int, work: Path | None
) -> np.ndarray:
    """A dual encoder's score of every image with every text, (image, text), from one encoding per item.

    The first `captions` texts are in no batch with the rest, so that they score as they do without them.
    """

    def embedded(what: str, items: range, prepare: Callable[[range], Batch]) -> list[Tensor]:
        parts = []
        for start in steps(range(0, len(items), batch_size), f"{model.name} {what}", "batch"):
            file = work / f"{what}-{start:09d}.safetensors" if work else None
            if file and file.is_file():
                parts.append(load_file(file)["embedding"])
                continue
            with torch.inference_mode():
                batch = prepare(items[start : start + batch_size])
                parts.append(model.embed(batch).embedding.cpu().double().contiguous())
            if file:
                with whole_file(file) as temporary:
                    save_file({"embedding": parts[-1]}, temporary)
        return parts

    def prepared(some: range) -> Batch:
        return model.texts([texts[i] for i in some])

    a = torch.cat(embedded("images", range(len(pictures)), lambda some: model.images([pictures[i] for i in some])))
    b = torch.cat(
        [
            *embedded("texts", range(captions), prepared),
            *(embedded("foils", range(captions, len(texts)), prepared) if len(texts) > captions else ()),
        ]
    )
    grid: np.ndarray = (model.logit_scale * a @ b.T + model.logit_bias).numpy()
    return grid


def _one_by_one(
    model: PairScorer, pictures: _Pictures, texts: list[str], wanted: Indices, *, batch_size: int, work: Path | None
) -> dict[tuple[int, int], float]:
    """The score of each wanted (image, text), each distinct one computed once, image by image."""
    distinct = sorted(set(wanted))
    values: dict[tuple[int, int], float] = {}
    read: dict[int, Image.Image] = {}
    files = [work / f"{index:06d}.json" for index in range(-(-len(distinct) // batch_size))] if work else []
    everything = (pictures[position] for position in range(len(pictures)))
    prepared = None if files and all(file.is_file() for file in files) else recombined(model, everything, texts)
    starts = steps(range(0, len(distinct), batch_size), f"{model.name} coalitions", "batch")
    with image_once(model) as announce:
        for index, start in enumerate(starts):
            part = distinct[start : start + batch_size]
            file = files[index] if files else None
            if file and file.is_file():
                values |= dict(zip(part, read_json(file), strict=True))
                continue
            images = [image for image, _ in part]
            announce(images)
            if prepared:
                batch = prepared.batch(images, [text for _, text in part])
            else:
                read = {image: read[image] if image in read else pictures[image] for image in set(images)}
                batch = model.pairs([read[image] for image in images], [texts[text] for _, text in part])
            with torch.inference_mode():
                scores = model.score(batch).cpu().double().tolist()
            if file:
                write_text(file, json.dumps(scores))  # every digit: a resumed run equals an undisturbed one
            values |= dict(zip(part, scores, strict=True))
    return values


def first_foils(pairs: Dataset) -> list[list[str]]:
    """The hard foils of each pair's first caption."""
    if "foils" not in pairs.column_names:
        return [[] for _ in range(len(pairs))]
    return [[foil["caption"] for foil in (foils[0] if foils else [])] for foils in pairs["foils"]]


def score_cells(
    model: Model, pairs: Dataset, cells: Cells, *, batch_size: int,
    work: Path | None = None, identity: str = "",
) -> dict[str, np.ndarray]:  # fmt: skip
    """The model's score of chosen images with chosen first captions and their hard foils.

    Parameters
    ----------
    pairs
        The table of `data.pairs.table`, n images.
    cells
        name -> positions of images (n is the mean image) and of texts (the n first captions, then the foils of the
        first, of the second …), of shapes that broadcast.
    work, identity
        As of `contributions`; kept batches belong to these cells and this batch size.

    Returns
    -------
    dict
        name -> scores in the shape of its positions; of a dual encoder also "grid": every image, the mean last, with
        every text.

    Raises
    ------
    DataError
        If a score is NaN or infinite.
    """
    texts = [captions[0] for captions in pairs["captions"]] + [foil for some in first_foils(pairs) for foil in some]
    paths = [Path(file["path"]) for file in pairs["image"]]
    return score_texts(
        model, paths, texts, cells, captions=len(pairs), batch_size=batch_size, work=work, identity=identity
    )


def score_texts(
    model: Model, paths: list[Path], texts: list[str], cells: Cells, *, captions: int, batch_size: int,
    work: Path | None = None, identity: str = "",
) -> dict[str, np.ndarray]:  # fmt: skip
    """The model's score of chosen images of some files (after them their mean) with chosen texts: see `score_cells`.

    Parameters
    ----------
    captions
        The first so many texts are in no batch of a dual encoder with the rest.
    """
    places = {name: np.broadcast_arrays(*pair) for name, pair in cells.items()}
    pictures = _Pictures(paths)
    if isinstance(model, DualEncoder):
        if work is not None:
            open_parts(work, f"{identity} batch_size={batch_size}\n")
        grid = _grid(model, pictures, texts, captions, batch_size=batch_size, work=work)
        v = {name: grid[image, text] for name, (image, text) in places.items()} | {"grid": grid}
    else:
        listed = {
            name: list(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)) for name, (a, b) in places.items()
        }
        wanted: Indices = [cell for some in listed.values() for cell in some]
        if work is not None:
            cells_digest = sha256_bytes(repr(sorted(set(wanted))).encode())
            open_parts(work, f"{identity} cells={cells_digest} batch_size={batch_size}\n")
        found = _one_by_one(model, pictures, texts, wanted, batch_size=batch_size, work=work)
        v = {
            name: np.array([found[cell] for cell in some]).reshape(places[name][0].shape)
            for name, some in listed.items()
        }
    if broken := sum(int((~np.isfinite(values)).sum()) for values in v.values()):
        raise DataError(
            f"{model.name}: {broken} scores are NaN or infinite",
            expected="a finite score for every pair",
            remedy="check the checkpoint and its dtype (half precision overflows)",
        )
    return v
