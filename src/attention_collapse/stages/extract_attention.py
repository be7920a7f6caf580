"""Stage extract_attention: run one model over the pairs once, keeping statistics of every attention call.

Each image is encoded once and each caption once. Finished batches are kept beside the output, so an interrupted run
goes on where it stopped.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm import tqdm

from attention_collapse.data.images import load_rgb
from attention_collapse.data.pairs import read_study
from attention_collapse.errors import ProbeError
from attention_collapse.files import evidence_id, sha256_bytes, sha256_file, whole_file, write_text
from attention_collapse.models import load
from attention_collapse.models.dual_encoder import Batch, DualEncoder, Tower
from attention_collapse.probe import AttentionProbe, SiteStats
from attention_collapse.probe.rows import average_rows
from attention_collapse.stages.layout import Study, run_stage

if TYPE_CHECKING:
    from datasets import Dataset

Ids = tuple[int, int | None]  # image, caption


def probe_batch(model: DualEncoder, tower: Tower, batch: Batch) -> dict[str, dict[str, np.ndarray]]:
    """One forward pass of one tower: site -> statistic -> (batch, head) float64 (counts: (batch,))."""
    seen: dict[str, dict[str, np.ndarray]] = {}

    def keep(stats: SiteStats) -> None:
        if stats.site in tower.sites:
            seen[stats.site] = {key: value.cpu().numpy() for key, value in average_rows(stats, batch.rows).items()}

    with AttentionProbe(model.module, on_stats=keep, keys=lambda *_: batch.groups), torch.inference_mode():
        model.encode(tower.name, batch)
    if missing := [site for site in tower.sites if site not in seen]:
        raise ProbeError(
            f"{model.name}: nothing seen of {', '.join(missing[:4])}",
            expected=f"one attention call from each of the {len(tower.sites)} layers of the {tower.name} tower",
            remedy="check that the model's table of sites names its attention modules",
        )
    return seen


def _rows(ids: Sequence[Ids], tower: Tower, batch: Batch, seen: dict[str, Any]) -> pa.Table:
    """The table of one batch: a row for each item, layer and head, in that order."""
    stacked = {key: np.stack([seen[site][key] for site in tower.sites], axis=1) for key in seen[tower.sites[0]]}
    items, layers, heads = stacked["entropy_all"].shape  # (item, layer, head)

    def per_item(values: Sequence[Any]) -> list[Any]:
        return [value for value in values for _ in range(layers * heads)]

    columns: dict[str, Any] = {
        "image_id": pa.array(per_item([image for image, _ in ids]), pa.int64()),
        "caption_id": pa.array(per_item([caption for _, caption in ids]), pa.int64()),
        "tower": pa.array([tower.name] * (items * layers * heads)),
        "layer": np.tile(np.repeat(np.arange(layers), heads), items),
        "head": np.tile(np.arange(heads), items * layers),
        "n_tokens": pa.array(per_item(batch.lengths.tolist()), pa.int64()),
        "truncated": pa.array(per_item(batch.truncated), pa.bool_()),
    }
    for key, values in stacked.items():
        counts = np.repeat(values, heads).reshape(items, layers, heads) if values.ndim == 2 else values
        columns[key] = counts.reshape(-1)
    return pa.table(columns)


def _batches(
    model: DualEncoder, pairs: Dataset, size: int
) -> Iterator[tuple[Tower, Sequence[Ids], Callable[[], Batch]]]:
    """(tower, ids, function that prepares the batch), images first and then captions, in the table's order."""

    def pictures(paths: Sequence[str]) -> Batch:
        return model.image_batch([load_rgb(Path(path))[0] for path in paths])

    images: list[tuple[Ids, str]] = [
        ((image, None), file["path"]) for image, file in zip(pairs["image_id"], pairs["image"], strict=True)
    ]
    captions: list[tuple[Ids, str]] = [
        ((image, caption), words)
        for image, ids, texts in zip(pairs["image_id"], pairs["caption_ids"], pairs["captions"], strict=True)
        for caption, words in zip(ids, texts, strict=True)
    ]
    for tower, items, prepare in zip(model.towers, (images, captions), (pictures, model.text_batch), strict=True):
        for start in range(0, len(items), size):
            ids, contents = zip(*items[start : start + size], strict=True)
            yield tower, ids, partial(prepare, contents)


def extract(
    model: DualEncoder, pairs: Dataset, *, batch_size: int, work: Path | None = None, identity: str = ""
) -> pa.Table:
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
        One row an image or caption, tower, layer and head: image_id, caption_id (null for images), tower, layer,
        head, n_tokens, truncated, and the statistics of `probe.rows.average_rows`.
    """
    if work is not None:
        stamp = work / "identity.txt"
        expected = f"{identity} batch_size={batch_size}\n"
        if not stamp.is_file() or stamp.read_text("utf-8") != expected:
            shutil.rmtree(work, ignore_errors=True)
            write_text(stamp, expected)
    batches = list(_batches(model, pairs, batch_size))
    parts = []
    for index, (tower, ids, prepare) in enumerate(tqdm(batches, desc=f"{model.name}", unit="batch", disable=None)):
        file = work / f"{index:06d}.parquet" if work else None
        if file and file.is_file():
            parts.append(pq.read_table(file))
            continue
        batch = prepare()
        part = _rows(ids, tower, batch, probe_batch(model, tower, batch))
        if file:
            with whole_file(file) as temporary:
                pq.write_table(part, temporary)
        parts.append(part)
    return pa.concat_tables(parts)


def _code_digest() -> str:
    """Hash of this package's source."""
    package = Path(__file__).resolve().parents[1]
    return sha256_bytes("".join(sha256_file(path) for path in sorted(package.rglob("*.py"))).encode())


def main(study: Study, model: str) -> None:
    """Write the attention table of one model."""
    params, spec, out = study.params.extract_attention, study.spec(model), study.attention(model)
    torch.set_num_threads(params.threads)
    pairs = read_study(study.pairs, study.manifest)
    loaded = load(model, spec, params.device)
    about = {key: value for key, value in loaded.provenance.items() if value is not None}
    inputs = {"manifest": sha256_file(study.manifest)}
    inputs |= {key: about[key] for key in ("sha256", "definition_sha256", "revision") if key in about}
    identity = evidence_id("extract_attention", spec.model_dump(exclude={"control_for"}), inputs)
    work = out.with_name(f".{model}.parts")
    # Kept batches must come from the same code and device too: an interrupted run may be followed by an edit.
    setting = f"{identity} code={_code_digest()} torch={torch.__version__} device={params.device}"
    table = extract(loaded, pairs, batch_size=params.batch_size, work=work, identity=setting)
    about |= {"evidence_id": identity, "layers": {tower.name: len(tower.sites) for tower in loaded.towers}}
    with whole_file(out) as temporary:
        pq.write_table(
            table.replace_schema_metadata({"attention_collapse": json.dumps(about, sort_keys=True)}), temporary
        )
    shutil.rmtree(work)
    print(
        f"{model}: {len(pairs)} images, {sum(map(len, pairs['captions']))} captions, {table.num_rows:,} rows -> {out}"
    )


if __name__ == "__main__":
    run_stage(main, per_model=True)
