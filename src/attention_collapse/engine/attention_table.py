"""The table of attention statistics, a row for each item, tower, layer and head; and blocks of it, some images each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from attention_collapse.models.interface import Model, Read, Truncating

if TYPE_CHECKING:
    from datasets import Dataset

Ids = tuple[int, int | None]  # image, caption
SURROGATE = "surrogate"  # not attention: similarity of a caption's embedding to an image's projected patches
ROWS_AT_ONCE = 50_000


def typed(columns: Mapping[str, Any]) -> pa.Table:
    """A table of these columns; ids, counts and flags in types that also hold what is absent."""
    types = {"image_id": pa.int64(), "caption_id": pa.int64(), "n_tokens": pa.int64(), "truncated": pa.bool_()}
    return pa.table({key: pa.array(values, types.get(key)) for key, values in columns.items()})


NOTHING = typed({"image_id": [], "caption_id": []}).append_column("tower", pa.array([], pa.string()))


def rows_of(ids: Sequence[Ids], read: Read, truncated: Sequence[bool], seen: dict[str, Any]) -> pa.Table:
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
    return typed(columns)


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
    return typed(columns)


def pairs_alone(model: Model, pairs: Dataset) -> pa.Table:
    """The rows of a model without attention, so that what has no measure is still counted, and so are cut captions."""
    listed = [(i, c) for i, ids in zip(pairs["image_id"], pairs["caption_ids"], strict=True) for c in ids]
    captions = [caption for some in pairs["captions"] for caption in some]
    cut = model.truncated(captions) if isinstance(model, Truncating) else [False] * len(captions)
    return typed({
        "image_id": [image for image, _ in listed], "caption_id": [caption for _, caption in listed],
        "tower": ["none"] * len(listed), "layer": [0] * len(listed), "head": [0] * len(listed),
        "n_tokens": [0] * len(listed), "truncated": list(cut),
    })  # fmt: skip


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
