"""The attention table of a study's model: scratch, made again wherever it is not that of this run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from attention_collapse.data.pairs import read_study
from attention_collapse.engine.attention import extract_into
from attention_collapse.engine.captions import examine_captions
from attention_collapse.engine.parts import same_run
from attention_collapse.engine.running import running
from attention_collapse.engine.takeable import refused_images, takeable
from attention_collapse.files import read_json, sha256_file
from attention_collapse.identity.settle import settle_json
from attention_collapse.study.checkpoints import PIN, REFUSED, known_pins, load_recorded
from attention_collapse.study.layout import Study, evidence_of


def identity_of(study: Study, model: str, about: Mapping[str, Any]) -> tuple[str, str]:
    """(evidence id, run) of the attention table of a model whose weights are those of `about`."""
    inputs = {"manifest": sha256_file(study.manifest)} | known_pins(about)
    spec = study.spec(model)
    evidence = evidence_of("extract_attention", spec.model_dump(exclude={"control_for"}), inputs, spec.kind)
    return evidence, same_run(evidence, study.params.extract_attention.device)


def attention_table(study: Study, model: str) -> tuple[Path, dict[str, Any]]:
    """The file of one model's attention table and what it says of itself; made anew if it is not that of this run.

    The table is scratch: large, and of other bytes on another processor. A fresh clone has none.
    """
    out, record = study.attention(model), study.checkpoint(model)
    if not (record.is_file() and _about(out).get("run") == identity_of(study, model, read_json(record))[1]):
        print(f"{model}: no attention table of this run in {out}; extracting")
        extract_study(study, model)
    return out, _about(out)


def _about(table: Path) -> dict[str, Any]:
    """What an attention table says of itself; nothing if it is not there or cannot be read."""
    try:
        metadata = pq.read_schema(table).metadata or {}
        return dict(json.loads(metadata[b"attention_collapse"]))
    except (OSError, pa.ArrowInvalid, KeyError, ValueError):
        return {}


def extract_study(study: Study, model: str) -> None:
    """Write the attention table of one model, and the record of its weights."""
    params, out = study.params.extract_attention, study.attention(model)
    torch.set_num_threads(params.threads)
    pairs = read_study(study.pairs, study.manifest)
    loaded = load_recorded(study, model)
    pairs, skipped = takeable(loaded, pairs)
    about = {key: value for key, value in loaded.provenance.items() if value is not None}
    identity, run = identity_of(study, model, about)
    work = out.with_name(f".{model}.parts")
    captions = examine_captions(loaded, pairs, max_unknown=study.spec(model).max_unknown)
    about |= {"evidence_id": identity, "run": run, "family": loaded.family, "missing": dict(loaded.missing)}
    about |= {"captions": captions}
    about |= {"layers": {tower: len(sites) for tower, sites in loaded.sites.items()}}
    if skipped:
        about[REFUSED] = refused_images(skipped)
    with running(study.params.engine, partial(load_recorded, study, model), params.threads) as runner:
        rows = extract_into(
            out, loaded, pairs, batch_size=params.batch_size, work=work, identity=run, run=runner,
            about={"attention_collapse": json.dumps(about, sort_keys=True)},
        )  # fmt: skip
    recorded = {key: about.get(key) for key in ("weights", *PIN, "parameters", "untrained", "image_processor", "notes")}
    recorded |= {REFUSED: about[REFUSED]} if skipped else {}
    settle_json(study.checkpoint(model), recorded, params.device)
    shutil.rmtree(work, ignore_errors=True)
    for item in skipped:
        print(f"{model}: skipped {item.kind} {item.id}: {item.reason}")
    print(f"{model}: {len(pairs)} images, {sum(map(len, pairs['captions']))} captions, {rows:,} rows -> {out}")
