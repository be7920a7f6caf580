"""Run one model over pairs once, keeping statistics of every attention call that counts.

A dual encoder encodes each image once and each caption once; any other model runs each pair once. Finished batches are
kept in a folder of their own, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from attention_collapse.data.images import load_rgb
from attention_collapse.engine.parts import open_parts
from attention_collapse.errors import ProbeError
from attention_collapse.families import NO_ATTENTION
from attention_collapse.files import whole_file
from attention_collapse.models.interface import Batch, DualEncoder, Embedded, Model, PairScorer, Read, Truncating
from attention_collapse.probe import AttentionProbe, SiteStats
from attention_collapse.probe.rows import average_rows, needed_rows
from attention_collapse.progress import steps

if TYPE_CHECKING:
    from datasets import Dataset

Ids = tuple[int, int | None]  # image, caption
Seen = dict[str, dict[str, dict[str, np.ndarray]]]  # tower -> site -> statistic
SURROGATE = "surrogate"  # not attention: similarity of a caption's embedding to an image's projected patches
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


def _batches(model: Model, pairs: Dataset, size: int) -> Iterator[tuple[Sequence[Ids], Callable[[], Batch]]]:
    """(ids, function that prepares the batch), in the table's order."""
    columns = (pairs[key] for key in ("image_id", "image", "caption_ids", "captions"))
    listed = [
        (image, Path(file["path"]), list(zip(ids, texts, strict=True)))
        for image, file, ids, texts in zip(*columns, strict=True)
    ]
    texts = [((image, caption), path, words) for image, path, captions in listed for caption, words in captions]
    if isinstance(model, DualEncoder):
        for some in _slices(listed, size):
            yield [(image, None) for image, _, _ in some], partial(_images, model, [path for _, path, _ in some])
        for part in _slices(texts, size):
            yield [ids for ids, _, _ in part], partial(model.texts, [words for _, _, words in part])
    else:
        for part in _slices(texts, size):
            paths, captions = [path for _, path, _ in part], [words for _, _, words in part]
            yield [ids for ids, _, _ in part], partial(_pairs, model, paths, captions)


def _slices(items: list[Item], size: int) -> Iterator[list[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _images(model: DualEncoder, paths: Sequence[Path]) -> Batch:
    return model.images([load_rgb(path)[0] for path in paths])


def _pairs(model: PairScorer, paths: Sequence[Path], captions: Sequence[str]) -> Batch:
    pictures = {path: load_rgb(path)[0] for path in dict.fromkeys(paths)}
    return model.pairs([pictures[path] for path in paths], captions)


def surrogate(ids: Sequence[Ids], patches: Mapping[int, Tensor], embeddings: Tensor, logit_scale: float) -> pa.Table:
    """Entropy of softmax over an image's patches of logit_scale · cos(caption, patch): a row a caption, in nats."""
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


def extract(model: Model, pairs: Dataset, *, batch_size: int, work: Path | None = None, identity: str = "") -> pa.Table:
    """Attention statistics of every image and caption.

    Parameters
    ----------
    pairs
        The table of `data.pairs.table`.
    work
        Folder for finished batches; batches found there are not run again if they were written for the same
        `identity` and `batch_size`.

    Returns
    -------
    pyarrow.Table
        One row an item, tower, layer and head: image_id, caption_id (null where the pass saw the image alone), tower
        ("vision", "text", "surrogate"; "none" for a model without attention), layer, head, n_tokens, truncated, and
        the statistics of `probe.rows.average_rows`.
    """
    if work is not None:
        open_parts(work, f"{identity} batch_size={batch_size}\n")
    batches = list(_batches(model, pairs, batch_size)) if model.family != NO_ATTENTION else []
    parts: list[pa.Table] = []
    patches: dict[int, Tensor] = {}
    for index, (ids, prepare) in enumerate(steps(batches, f"{model.name} attention", "batch")):
        file = work / f"{index:06d}.parquet" if work else None
        side = file.with_suffix(".safetensors") if file else None  # renamed into place before the table
        if file and file.is_file():
            parts.append(pq.read_table(file))
            if side and side.is_file():
                patches |= {image: kept for (image, _), kept in zip(ids, load_file(side)["patches"], strict=True)}
            continue
        batch = prepare()
        if not batch.reads:
            continue  # a convolutional tower: no attention to read
        forward: Callable[[Batch], Embedded | Tensor] = model.embed if isinstance(model, DualEncoder) else model.score
        seen, output = probe_batch(model, batch, forward)
        tables = [_rows(ids, read, batch.truncated, seen[read.tower]) for read in batch.reads]
        if isinstance(output, Embedded) and output.patches is not None:
            own = output.patches.float().cpu().contiguous()
            patches |= {image: kept for (image, _), kept in zip(ids, own, strict=True)}
            if side:
                with whole_file(side) as temporary:
                    save_file({"patches": own}, temporary)
        elif isinstance(output, Embedded) and isinstance(model, DualEncoder) and patches:
            tables.append(surrogate(ids, patches, output.embedding.float().cpu(), model.logit_scale))
        part = pa.concat_tables(tables, promote_options="default")
        if file:
            with whole_file(file) as temporary:
                pq.write_table(part, temporary)
        parts.append(part)
    if model.family == NO_ATTENTION:
        parts.append(_pairs_alone(model, pairs))
    whole = pa.concat_tables(parts, promote_options="default")
    last = pc.equal(whole["tower"], SURROGATE)  # so that the order of rows does not depend on the batch size
    return pa.concat_tables([whole.filter(pc.invert(last)), whole.filter(last)])


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
