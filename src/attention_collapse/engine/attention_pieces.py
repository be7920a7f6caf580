"""The passes of one model over its pairs as pieces, each one batch.

A dual encoder encodes each image once and each caption once; any other model runs each pair once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.torch import load_file, save_file
from torch import Tensor

from attention_collapse.data.images import load_rgb
from attention_collapse.engine.attention_table import NOTHING, Ids, rows_of, surrogate
from attention_collapse.engine.pieces import Pieces, Round
from attention_collapse.engine.probed_batch import probe_batch
from attention_collapse.families import NO_ATTENTION
from attention_collapse.files import whole_file
from attention_collapse.models.interface import Batch, DualEncoder, Embedded, Model

if TYPE_CHECKING:
    from datasets import Dataset

Item = TypeVar("Item")


@dataclass(frozen=True)
class _Batch:
    """What one pass is made of; captions are None where it sees images alone, files where it sees captions alone."""

    ids: tuple[Ids, ...]
    files: tuple[Path, ...] | None
    captions: tuple[str, ...] | None

    def prepare(self, model: Model) -> Batch:
        """The inputs of the pass."""
        if isinstance(model, DualEncoder):
            if self.files is None:
                return model.texts(self.captions or ())
            return model.images([load_rgb(path)[0] for path in self.files])
        pictures = {path: load_rgb(path)[0] for path in dict.fromkeys(self.files or ())}
        return model.pairs([pictures[path] for path in self.files or ()], self.captions or ())


def _batches(pairs: Dataset, size: int, *, apart: bool) -> tuple[list[_Batch], list[_Batch]]:
    """The passes in the table's order: of images and of captions if they are encoded `apart`, else of pairs."""
    columns = (pairs[key] for key in ("image_id", "image", "caption_ids", "captions"))
    listed = [
        (image, Path(file["path"]), list(zip(ids, texts, strict=True)))
        for image, file, ids, texts in zip(*columns, strict=True)
    ]
    texts = [((image, caption), path, words) for image, path, captions in listed for caption, words in captions]
    of_images = [
        _Batch(tuple((image, None) for image, _, _ in some), tuple(path for _, path, _ in some), None)
        for some in (_slices(listed, size) if apart else ())
    ]
    of_texts = [
        _Batch(
            tuple(ids for ids, _, _ in some),
            None if apart else tuple(path for _, path, _ in some),
            tuple(words for _, _, words in some),
        )
        for some in _slices(texts, size)
    ]
    return of_images, of_texts


def _slices(items: list[Item], size: int) -> Iterator[list[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


@dataclass(frozen=True)
class Part:
    """What one pass gave: its rows, and of images the patches (image, patch, width) that captions are held against."""

    table: pa.Table
    patches: Tensor | None = None


class Batches(Pieces[Part]):
    """Every pass of one model over its pairs."""

    def __init__(self, model: Model, pairs: Dataset, *, batch_size: int, folder: Path | None, identity: str) -> None:
        apart = isinstance(model, DualEncoder)
        of_images, of_texts = ([], []) if model.family == NO_ATTENTION else _batches(pairs, batch_size, apart=apart)
        self._batches = of_images + of_texts
        self._piece_of = {image: piece for piece, batch in enumerate(of_images) for image, _ in batch.ids}
        self._held: tuple[int, Tensor | None] = (-1, None)  # a caption's image is mostly that of the one before
        texts = Round(f"{model.name} attention{', captions' if apart else ''}", range(len(of_images), len(self)))
        images = Round(f"{model.name} attention, images", range(len(of_images)))
        rounds = (images, texts) if apart else (texts,)
        super().__init__(rounds, "batch", folder, f"{identity} batch_size={batch_size}")

    def __len__(self) -> int:
        return len(self._batches)

    def name(self, piece: int) -> str:
        """One table a piece; the patches lie beside it."""
        return f"{piece:06d}.parquet"

    def write(self, file: Path, made: Part) -> None:
        """The patches are renamed into place before the table, which says that the piece is there."""
        if made.patches is not None:
            with whole_file(file.with_suffix(".safetensors")) as temporary:
                save_file({"patches": made.patches}, temporary)
        with whole_file(file) as temporary:
            pq.write_table(made.table, temporary)

    def read(self, file: Path) -> Part:
        """Both."""
        side = file.with_suffix(".safetensors")
        return Part(pq.read_table(file), load_file(side)["patches"] if side.is_file() else None)

    def holds(self, piece: int) -> str:
        """Its images."""
        return f"images {', '.join(str(image) for image in dict.fromkeys(i for i, _ in self._batches[piece].ids))}"

    @contextmanager
    def making(self, model: Model) -> Iterator[Callable[[int], Part]]:
        """Nothing is shared by passes."""
        yield lambda piece: self._make(model, self._batches[piece])

    def _make(self, model: Model, asked: _Batch) -> Part:
        batch = asked.prepare(model)
        if not batch.reads:
            return Part(NOTHING)  # a convolutional tower: no attention to read
        forward: Callable[[Batch], Embedded | Tensor] = model.embed if isinstance(model, DualEncoder) else model.score
        seen, output = probe_batch(model, batch, forward)
        tables = [rows_of(asked.ids, read, batch.truncated, seen[read.tower]) for read in batch.reads]
        patches = None
        if isinstance(output, Embedded) and output.patches is not None:
            patches = output.patches.float().cpu().contiguous()
        elif (
            isinstance(output, Embedded)
            and isinstance(model, DualEncoder)
            and (held := self._held_against(model, asked))
        ):
            tables.append(surrogate(asked.ids, held, output.embedding.float().cpu(), model.logit_scale))
        return Part(pa.concat_tables(tables, promote_options="default"), patches)

    def _held_against(self, model: Model, asked: _Batch) -> dict[int, Tensor]:
        """The patches that a pass of captions is held against, by image; none if the model gives none."""
        found: dict[int, Tensor] = {}
        for image, _ in asked.ids if asked.files is None else ():
            piece = self._piece_of[image]
            if self._held[0] != piece:
                made = self.made(piece, lambda wanted: self._make(model, self._batches[wanted]))
                self._held = (piece, made.patches)
            if (patches := self._held[1]) is not None:
                found[image] = patches[self._batches[piece].ids.index((image, None))]
        return found
