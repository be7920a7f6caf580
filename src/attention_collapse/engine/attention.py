"""Run one model over pairs once, keeping statistics of every attention call that counts.

A dual encoder encodes each image once and each caption once; any other model runs each pair once. Finished batches are
kept in a folder of their own, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from attention_collapse.data.images import load_rgb
from attention_collapse.engine.pieces import Pieces, Round, Runner, here
from attention_collapse.errors import ProbeError
from attention_collapse.families import NO_ATTENTION
from attention_collapse.files import whole_file
from attention_collapse.models.interface import Batch, DualEncoder, Embedded, Model, Read, Truncating
from attention_collapse.probe import AttentionProbe, SiteStats
from attention_collapse.probe.rows import average_rows, needed_rows

if TYPE_CHECKING:
    from datasets import Dataset

Ids = tuple[int, int | None]  # image, caption
Seen = dict[str, dict[str, dict[str, np.ndarray]]]  # tower -> site -> statistic
SURROGATE = "surrogate"  # not attention: similarity of a caption's embedding to an image's projected patches
ROWS_AT_ONCE = 50_000  # of a table
Given = TypeVar("Given")  # what a pass gives
Item = TypeVar("Item")


def probe_batch(model: Model, batch: Batch, forward: Callable[[Batch], Given]) -> tuple[Seen, Given]:
    """One forward pass: tower -> site -> statistic -> (batch, head) float64 (counts: (batch,)); and what it gives."""
    seen: Seen = {read.tower: {} for read in batch.reads}
    rows = {site: needed_rows(read.rows) for read in batch.reads for site in read.sites}
    nothing = torch.empty(0, dtype=torch.long)

    def chosen(site: str, _batch: int, queries: int) -> Tensor | None:
        wanted = rows.get(site, nothing)
        return None if len(wanted) == queries else wanted

    def keep(stats: SiteStats) -> None:
        for read in batch.reads:
            if stats.site in read.sites:
                if stats.site in seen[read.tower]:
                    raise ProbeError(
                        f"{model.name}: {stats.site} ran twice in one pass",
                        expected="one attention call per layer",
                        remedy="read sites that run once for each pass",
                    )
                means = average_rows(stats, read.rows, read.group)
                seen[read.tower][stats.site] = {key: value.cpu().numpy() for key, value in means.items()}

    probe = AttentionProbe(model.module, on_stats=keep, keys=lambda site, *_: batch.groups.get(site), rows=chosen)
    with probe, torch.inference_mode():
        output = forward(batch)
    for read in batch.reads:
        if missing := [site for site in read.sites if site not in seen[read.tower]]:
            raise ProbeError(
                f"{model.name}: nothing seen of {', '.join(missing[:4])}",
                expected=f"one attention call from each of the {len(read.sites)} layers read for {read.tower}",
                remedy="check that the model's table of sites names its attention modules",
            )
    return seen, output


def _table(columns: Mapping[str, Any]) -> pa.Table:
    types = {"image_id": pa.int64(), "caption_id": pa.int64(), "n_tokens": pa.int64(), "truncated": pa.bool_()}
    return pa.table({key: pa.array(values, types.get(key)) for key, values in columns.items()})


NOTHING = _table({"image_id": [], "caption_id": []}).append_column("tower", pa.array([], pa.string()))


def _rows(ids: Sequence[Ids], read: Read, truncated: Sequence[bool], seen: dict[str, Any]) -> pa.Table:
    """The table of one tower in one batch: a row for each item, layer and head, in that order."""
    stacked = {key: np.stack([seen[site][key] for site in read.sites], axis=1) for key in seen[read.sites[0]]}
    items, layers, heads = stacked["entropy_all"].shape  # (item, layer, head)

    def per_item(values: Sequence[Any]) -> list[Any]:
        return [value for value in values for _ in range(layers * heads)]

    columns: dict[str, Any] = {
        "image_id": per_item([image for image, _ in ids]),
        "caption_id": per_item([caption for _, caption in ids]),
        "tower": [read.tower] * (items * layers * heads),
        "layer": np.tile(np.repeat(np.arange(layers), heads), items),
        "head": np.tile(np.arange(heads), items * layers),
        "n_tokens": per_item(read.lengths.tolist()),
        "truncated": per_item(truncated),
    }
    for key, values in stacked.items():
        counts = np.repeat(values, heads).reshape(items, layers, heads) if values.ndim == 2 else values
        columns[key] = counts.reshape(-1)
    return _table(columns)


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


def surrogate(ids: Sequence[Ids], patches: Mapping[int, Tensor], embeddings: Tensor, logit_scale: float) -> pa.Table:
    """Entropy of softmax over an image's patches of logit_scale · cos(caption, patch): one row per caption, in nats."""
    entropies, sizes = [], []
    for (image, _), embedding in zip(ids, embeddings.double(), strict=True):
        p = (logit_scale * patches[image].double() @ embedding).softmax(-1)  # (patch,)
        entropies.append(float(torch.special.entr(p).sum()))
        sizes.append(len(p))
    columns: dict[str, Any] = {
        "image_id": [image for image, _ in ids],
        "caption_id": [caption for _, caption in ids],
        "tower": [SURROGATE] * len(ids),
        "layer": np.zeros(len(ids), np.int64),
        "head": np.zeros(len(ids), np.int64),
        "n_tokens": sizes,
        "truncated": [False] * len(ids),
    }
    entropy, size = np.array(entropies), np.array(sizes, np.float64)
    for rows in ("all", "readout"):
        columns |= {f"entropy_{rows}": entropy, f"uniform_{rows}": np.log(size), f"support_{rows}": size}
        columns |= {f"entropy_normalized_{rows}": entropy / np.log(size)}
        columns |= {f"undefined_{rows}": np.zeros(len(ids), np.int64)}
    return _table(columns)


@dataclass(frozen=True)
class _Part:
    """What one pass gave: its rows, and of images the patches (image, patch, width) that captions are held against."""

    table: pa.Table
    patches: Tensor | None = None


class _Parts(Pieces[_Part]):
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

    def write(self, file: Path, made: _Part) -> None:
        """The patches are renamed into place before the table, which says that the piece is there."""
        if made.patches is not None:
            with whole_file(file.with_suffix(".safetensors")) as temporary:
                save_file({"patches": made.patches}, temporary)
        with whole_file(file) as temporary:
            pq.write_table(made.table, temporary)

    def read(self, file: Path) -> _Part:
        """Both."""
        side = file.with_suffix(".safetensors")
        return _Part(pq.read_table(file), load_file(side)["patches"] if side.is_file() else None)

    def holds(self, piece: int) -> str:
        """Its images."""
        return f"images {', '.join(str(image) for image in dict.fromkeys(i for i, _ in self._batches[piece].ids))}"

    @contextmanager
    def making(self, model: Model) -> Iterator[Callable[[int], _Part]]:
        """Nothing is shared by passes."""
        yield lambda piece: self._make(model, self._batches[piece])

    def _make(self, model: Model, asked: _Batch) -> _Part:
        batch = asked.prepare(model)
        if not batch.reads:
            return _Part(NOTHING)  # a convolutional tower: no attention to read
        forward: Callable[[Batch], Embedded | Tensor] = model.embed if isinstance(model, DualEncoder) else model.score
        seen, output = probe_batch(model, batch, forward)
        tables = [_rows(asked.ids, read, batch.truncated, seen[read.tower]) for read in batch.reads]
        patches = None
        if isinstance(output, Embedded) and output.patches is not None:
            patches = output.patches.float().cpu().contiguous()
        elif (
            isinstance(output, Embedded)
            and isinstance(model, DualEncoder)
            and (held := self._held_against(model, asked))
        ):
            tables.append(surrogate(asked.ids, held, output.embedding.float().cpu(), model.logit_scale))
        return _Part(pa.concat_tables(tables, promote_options="default"), patches)

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


def _observed(
    model: Model, pairs: Dataset, *, batch_size: int, work: Path | None, identity: str, run: Runner
) -> tuple[pa.Schema, Iterator[pa.Table]]:
    """Every column, and the parts: first what was attention, so that no batch size shows in the order of the rows."""
    if model.family == NO_ATTENTION:
        alone = _pairs_alone(model, pairs)
        return alone.schema, iter([alone])
    parts = _Parts(model, pairs, batch_size=batch_size, folder=work, identity=identity)
    run(parts, model)
    schemas = [parts[piece].table.schema for some in parts.rounds for piece in some.pieces[:1]]

    def tables() -> Iterator[pa.Table]:
        for piece in range(len(parts)):
            table = parts[piece].table
            yield table.filter(pc.not_equal(table["tower"], SURROGATE))
        for piece in parts.rounds[-1].pieces:
            table = parts[piece].table
            yield table.filter(pc.equal(table["tower"], SURROGATE))

    return pa.unify_schemas(schemas), tables()


def extract(
    model: Model, pairs: Dataset, *, batch_size: int, work: Path | None = None, identity: str = "", run: Runner = here
) -> pa.Table:
    """Attention statistics of every image and caption.

    Parameters
    ----------
    pairs
        The table of `data.pairs.table`.
    work
        Folder for finished batches; batches found there are not run again if they were written for the same
        `identity` and `batch_size`.
    run
        Who makes the batches that are missing.

    Returns
    -------
    pyarrow.Table
        One row for each item, tower, layer and head: image_id, caption_id (null where the pass saw the image alone),
        tower ("vision", "text", "surrogate"; "none" for a model without attention), layer, head, n_tokens, truncated,
        and the statistics of `probe.rows.average_rows`.
    """
    schema, parts = _observed(model, pairs, batch_size=batch_size, work=work, identity=identity, run=run)
    return pa.concat_tables([schema.empty_table(), *parts], promote_options="default")


def extract_into(
    out: Path, model: Model, pairs: Dataset, *, batch_size: int, work: Path, identity: str = "", run: Runner = here,
    about: Mapping[str, str] | None = None,
) -> int:  # fmt: skip
    """The table of `extract` as a Parquet file, of which no more than one part is in memory; returns its rows.

    `about` is written into the file's metadata.
    """
    schema, parts = _observed(model, pairs, batch_size=batch_size, work=work, identity=identity, run=run)
    empty, rows = schema.empty_table(), 0
    with (
        whole_file(out) as temporary,
        pq.ParquetWriter(temporary, schema.with_metadata(dict(about or {}))) as writer,
    ):
        for some in _together(parts, ROWS_AT_ONCE // 2):
            writer.write_table(pa.concat_tables([empty, *some], promote_options="default"))
            rows += sum(part.num_rows for part in some)
    return rows


def _together(parts: Iterable[pa.Table], least: int) -> Iterator[list[pa.Table]]:
    """The parts, so many together that they have `least` rows: every group of rows has its own entry in the file."""
    held: list[pa.Table] = []
    for part in parts:
        held.append(part)
        if sum(one.num_rows for one in held) >= least:
            yield held
            held = []
    if held:
        yield held


def blocks(table: Path, most: int = ROWS_AT_ONCE) -> Iterator[pd.DataFrame]:
    """All rows of some images at a time, of a table of `extract_into`; images by their ids, about `most` rows."""
    file = pq.ParquetFile(table)
    column = file.schema_arrow.get_field_index("image_id")
    ends = [file.metadata.row_group(group).column(column).statistics for group in range(file.num_row_groups)]
    ids: set[int] = set()
    for batch in file.iter_batches(columns=["image_id"]):
        ids.update(batch.column(0).unique().to_pylist())
    ordered = sorted(ids)
    step = max(1, most * len(ordered) // max(1, file.metadata.num_rows))
    for start in range(0, len(ordered), step):
        some = ordered[start : start + step]
        groups = [group for group, end in enumerate(ends) if end.min <= some[-1] and end.max >= some[0]]
        chosen = pc.field("image_id").isin(some)
        parts = [file.read_row_group(group).filter(chosen) for group in groups]
        yield pa.concat_tables(parts).to_pandas()


def _pairs_alone(model: Model, pairs: Dataset) -> pa.Table:
    """The rows of a model without attention, so that what has no measure is still counted, and so are cut captions."""
    listed = [(i, c) for i, ids in zip(pairs["image_id"], pairs["caption_ids"], strict=True) for c in ids]
    captions = [caption for some in pairs["captions"] for caption in some]
    cut = model.truncated(captions) if isinstance(model, Truncating) else [False] * len(captions)
    return _table({
        "image_id": [image for image, _ in listed], "caption_id": [caption for _, caption in listed],
        "tower": ["none"] * len(listed), "layer": [0] * len(listed), "head": [0] * len(listed),
        "n_tokens": [0] * len(listed), "truncated": list(cut),
    })  # fmt: skip
