"""Scores of chosen images with chosen captions, each distinct pair scored once: what every ablation is made of.

A dual encoder encodes each item once; any other model runs each distinct pair once, its image encoder (where it
has one) each image once. Finished batches are kept, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

from attention_collapse.data.images import load_rgb
from attention_collapse.engine.pieces import Pieces, Round, Runner, here
from attention_collapse.errors import DataError
from attention_collapse.files import sha256_bytes, whole_file
from attention_collapse.identity.tolerance import score_error
from attention_collapse.models.image_once import image_once
from attention_collapse.models.interface import DualEncoder, Model, PairScorer
from attention_collapse.models.recombined import Recombined, recombined

if TYPE_CHECKING:
    from datasets import Dataset

Cells = dict[str, tuple[np.ndarray, np.ndarray]]  # name -> positions of images and of texts
MEAN_SIDE = 224  # pixels: pictures of any size are averaged at this one
TOGETHER = 256  # pictures that are added up in one piece
BLOCK = 2**20  # scores of a grid that are in memory at once


def _total(paths: Sequence[Path]) -> np.ndarray:
    """(MEAN_SIDE, MEAN_SIDE, 3) sum of some pictures: whole numbers, so that any order gives the same."""
    total = np.zeros((MEAN_SIDE, MEAN_SIDE, 3), np.int64)
    for path in paths:
        total += np.asarray(load_rgb(path)[0].resize((MEAN_SIDE, MEAN_SIDE), Image.Resampling.BICUBIC))
    return total


def _mean(total: np.ndarray, n: int) -> Image.Image:
    return Image.fromarray((total / n).round().astype(np.uint8))


def mean_picture(paths: Sequence[Path]) -> Image.Image:
    """The mean of some files' pictures as it is scored, `MEAN_SIDE` pixels on each side."""
    return _mean(_total(paths), len(paths))


class _OfPictures(Pieces[np.ndarray]):
    """Pieces that are arrays: first the sums of some pictures, of which the mean picture is made, then what is scored.

    Attributes
    ----------
    paths
        Files of the pictures; the position behind the last is that of their mean.
    """

    def __init__(
        self, name: str, paths: Sequence[Path], scored: Sequence[tuple[str, int]], *, mean: bool, folder: Path | None,
        identity: str,
    ) -> None:  # fmt: skip
        """`scored`: what a round is called, and its number of pieces; `mean`: whether the mean picture is needed."""
        self.paths = list(paths)
        self._sums = range(-(-len(self.paths) // TOGETHER) if mean else 0)
        rounds, start = [Round(f"{name} mean picture", self._sums)], len(self._sums)
        for what, count in scored:
            rounds.append(Round(f"{name} {what}", range(start, start + count)))
            start += count
        super().__init__(tuple(rounds), "batch", folder, identity)

    def name(self, piece: int) -> str:
        """One array each."""
        return f"{piece:09d}.safetensors"

    def write(self, file: Path, made: np.ndarray) -> None:
        """Every digit: a resumed run equals an undisturbed one."""
        with whole_file(file) as temporary:
            save_file({"values": made}, temporary)

    def read(self, file: Path) -> np.ndarray:
        """The array."""
        return load_file(file)["values"]

    def picture(self, position: int) -> Image.Image:
        """By position; the mean where it is behind the last."""
        return load_rgb(self.paths[position])[0] if position < len(self.paths) else self._mean_picture

    @cached_property
    def _mean_picture(self) -> Image.Image:
        total = np.zeros((MEAN_SIDE, MEAN_SIDE, 3), np.int64)
        for piece in self._sums:  # one at a time in memory
            total += self.made(piece, self._total)
        return _mean(total, len(self.paths))

    @contextmanager
    def making(self, model: Model) -> Iterator[Callable[[int], np.ndarray]]:
        """Of either sort of piece."""
        with self.scoring(model) as score:
            yield lambda piece: self._total(piece) if piece in self._sums else score(piece - len(self._sums))

    def _total(self, piece: int) -> np.ndarray:
        return _total(self.paths[piece * TOGETHER : (piece + 1) * TOGETHER])

    @abstractmethod
    @contextmanager
    def scoring(self, model: Model) -> Iterator[Callable[[int], np.ndarray]]:
        """What makes one piece of scores, counted from 0 without the sums."""


class _Encoded(_OfPictures):
    """Embeddings of a dual encoder, (item, width) float64: of the pictures with their mean, of the texts.

    The first `captions` texts are in no batch with the rest, so that they score as they do without them.
    """

    def __init__(
        self, name: str, paths: Sequence[Path], texts: Sequence[str], captions: int, *, batch_size: int,
        folder: Path | None, identity: str,
    ) -> None:  # fmt: skip
        self._texts = list(texts)
        sorts = {
            "images": range(len(paths) + 1), "texts": range(captions), "foils": range(captions, len(self._texts)),
        }  # fmt: skip
        self._batches = [
            (sort == "images", items[start : start + batch_size])
            for sort, items in sorts.items()
            for start in range(0, len(items), batch_size)
        ]
        rounds = [(sort, -(-len(items) // batch_size)) for sort, items in sorts.items() if len(items)]
        super().__init__(name, paths, rounds, mean=True, folder=folder, identity=f"{identity} batch_size={batch_size}")

    @contextmanager
    def scoring(self, model: Model) -> Iterator[Callable[[int], np.ndarray]]:
        """One pass of images or of texts."""
        encoder = cast("DualEncoder", model)

        def embedded(piece: int) -> np.ndarray:
            of_images, items = self._batches[piece]
            with torch.inference_mode():
                batch = encoder.images([self.picture(i) for i in items]) if of_images else encoder.texts(
                    [self._texts[i] for i in items]
                )  # fmt: skip
                found: np.ndarray = encoder.embed(batch).embedding.cpu().double().numpy()
            return np.ascontiguousarray(found)

        yield embedded

    def embeddings(self) -> tuple[np.ndarray, np.ndarray]:
        """Of all pictures, the mean last, and of all texts."""
        found: dict[bool, list[np.ndarray]] = {True: [], False: []}
        for piece, (of_images, _) in enumerate(self._batches, len(self._sums)):
            found[of_images].append(self[piece])
        return np.concatenate(found[True]), np.concatenate(found[False])


class _Coalitions(_OfPictures):
    """Scores of pairs, (pair,) float64, each distinct one once, image by image."""

    def __init__(
        self, name: str, paths: Sequence[Path], texts: Sequence[str], distinct: np.ndarray, *, batch_size: int,
        folder: Path | None, identity: str,
    ) -> None:  # fmt: skip
        """`distinct`: (pair, 2) sorted positions of images and texts."""
        self._texts, self._distinct, self._batch_size = list(texts), distinct, batch_size
        super().__init__(
            name, paths, [("coalitions", -(-len(distinct) // batch_size))], folder=folder,
            mean=bool((distinct[:, 0] == len(paths)).any()),
            identity=f"{identity} cells={sha256_bytes(distinct.tobytes())} batch_size={batch_size}",
        )  # fmt: skip

    @contextmanager
    def scoring(self, model: Model) -> Iterator[Callable[[int], np.ndarray]]:
        """One pass, of inputs that were prepared once where the model's can be, and there is memory for them."""
        scorer = cast("PairScorer", model)
        prepared: list[Recombined | None] = []  # when the first is needed
        read: dict[int, Image.Image] = {}
        with image_once(scorer) as announce:

            def scores(piece: int) -> np.ndarray:
                if not prepared:
                    everything = map(self.picture, range(len(self.paths) + bool(self._sums)))
                    prepared.append(recombined(scorer, everything, self._texts))
                part = self._distinct[piece * self._batch_size : (piece + 1) * self._batch_size].tolist()
                images, texts = [image for image, _ in part], [text for _, text in part]
                announce(images)
                if prepared[0] is not None:
                    batch = prepared[0].batch(images, texts)
                else:
                    held = {image: read.get(image) or self.picture(image) for image in set(images)}
                    read.clear()
                    read.update(held)
                    batch = scorer.pairs([held[image] for image in images], [self._texts[text] for text in texts])
                with torch.inference_mode():
                    found: np.ndarray = scorer.score(batch).cpu().double().numpy()
                return np.ascontiguousarray(found)

            yield scores


@dataclass(frozen=True)
class EncodedGrid:
    """A dual encoder's score of every image with every text, from one encoding of each; never in memory as a whole.

    Attributes
    ----------
    images, texts
        (image, width) and (text, width) float64; the last image is the mean of the others.
    logit_scale, logit_bias
        A score is logit_scale · image · text + logit_bias.
    """

    images: np.ndarray
    texts: np.ndarray
    logit_scale: float
    logit_bias: float

    def __len__(self) -> int:
        return len(self.images) - 1

    def row_blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """As of `measures.matching.Rows`: every image but the mean, with every text."""
        for start, block in self._blocks():
            if start < len(self):
                yield start, block[: len(self) - start]

    def _blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        step = max(1, BLOCK // len(self.texts))
        for start in range(0, len(self.images), step):
            yield start, self.logit_scale * self.images[start : start + step] @ self.texts.T + self.logit_bias

    def cells(self, places: Mapping[str, Sequence[np.ndarray]]) -> dict[str, np.ndarray]:
        """Name -> scores of some images with some texts, by positions of one shape."""
        found = {name: np.empty(image.shape) for name, (image, _) in places.items()}
        for start, block in self._blocks():
            for name, (image, text) in places.items():
                here_ = (image >= start) & (image < start + len(block))
                found[name][here_] = block[image[here_] - start, text[here_]]
        return found

    @property
    def largest(self) -> float:
        """The largest score without its sign; NaN where one is."""
        return float(np.max([np.abs(block).max() for _, block in self._blocks()]))

    @property
    def broken(self) -> int:
        """Scores that are NaN or infinite."""
        return sum(int((~np.isfinite(block)).sum()) for _, block in self._blocks())


@dataclass(frozen=True)
class Scored:
    """Scores of chosen pairs by name, and of a dual encoder those of all."""

    cells: dict[str, np.ndarray]
    grid: EncodedGrid | None = None

    @property
    def error(self) -> float:
        """How far the scores may lie from those of another processor: `identity.tolerance.score_error`."""
        known = [np.abs(values).max(initial=0.0) for values in self.cells.values()]
        return score_error([*known, *([self.grid.largest] if self.grid else [])])


def first_foils(pairs: Dataset) -> list[list[str]]:
    """The hard foils of each pair's first caption."""
    if "foils" not in pairs.column_names:
        return [[] for _ in range(len(pairs))]
    return [[foil["caption"] for foil in (foils[0] if foils else [])] for foils in pairs["foils"]]


def score_cells(
    model: Model, pairs: Dataset, cells: Cells, *, batch_size: int,
    work: Path | None = None, identity: str = "", run: Runner = here,
) -> Scored:  # fmt: skip
    """The model's score of chosen images with chosen first captions and their hard foils.

    Parameters
    ----------
    pairs
        The table of `data.pairs.table`, n images.
    cells
        name -> positions of images (n is the mean image) and of texts (the n first captions, then the foils of the
        first, of the second …), of shapes that broadcast.
    work, identity, run
        As of `contributions`; kept batches belong to these cells and this batch size.

    Returns
    -------
    Scored
        Scores by name, in the shape of its positions; of a dual encoder also those of every image with every text.

    Raises
    ------
    DataError
        If a score is NaN or infinite.
    """
    texts = [captions[0] for captions in pairs["captions"]] + [foil for some in first_foils(pairs) for foil in some]
    paths = [Path(file["path"]) for file in pairs["image"]]
    return score_texts(
        model, paths, texts, cells, captions=len(pairs), batch_size=batch_size, work=work, identity=identity, run=run
    )


def score_texts(
    model: Model, paths: list[Path], texts: list[str], cells: Cells, *, captions: int, batch_size: int,
    work: Path | None = None, identity: str = "", run: Runner = here,
) -> Scored:  # fmt: skip
    """The model's score of chosen images of some files (after them their mean) with chosen texts: see `score_cells`.

    Parameters
    ----------
    captions
        The first so many texts are in no batch of a dual encoder with the rest.
    """
    places = {name: np.broadcast_arrays(*pair) for name, pair in cells.items()}
    if isinstance(model, DualEncoder):
        encoded = _Encoded(
            model.name, paths, texts, captions, batch_size=batch_size, folder=work, identity=identity
        )  # fmt: skip
        run(encoded, model)
        grid = EncodedGrid(*encoded.embeddings(), model.logit_scale, model.logit_bias)
        found, broken = Scored(grid.cells(places), grid), grid.broken
    else:
        wanted = {name: image.astype(np.int64) * len(texts) + text for name, (image, text) in places.items()}
        distinct = np.unique(np.concatenate([some.ravel() for some in wanted.values()]))
        coalitions = _Coalitions(
            model.name, paths, texts, np.stack(np.divmod(distinct, len(texts)), 1), batch_size=batch_size, folder=work,
            identity=identity,
        )  # fmt: skip
        run(coalitions, model)
        scores = np.concatenate([coalitions[piece] for piece in coalitions.rounds[-1].pieces])
        found = Scored({name: scores[np.searchsorted(distinct, some)] for name, some in wanted.items()})
        broken = sum(int((~np.isfinite(values)).sum()) for values in found.cells.values())
    if broken:
        raise DataError(
            f"{model.name}: {broken} scores are NaN or infinite",
            expected="a finite score for every pair",
            remedy="check the checkpoint and its dtype (half precision overflows)",
        )
    return found
