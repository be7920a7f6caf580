"""Stage train_controls: train the embedded study's small OpenCLIP model on rendered scenes.

The checkpoint is committed data. The stage lists no code among its dependencies, so it is never run unasked;
`dvc repro -f train_controls` trains anew.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from attention_collapse.data.scenes import captions, render, sample
from attention_collapse.errors import ParamsError
from attention_collapse.files import evidence_id, sha256_file, write_json
from attention_collapse.models import load
from attention_collapse.models.contrastive import retrieval, scenes_config, train, write_restricted_merges
from attention_collapse.models.openclip_model import OpenClip
from attention_collapse.models.spec import ModelSpec
from attention_collapse.stages.layout import Study, run_stage

NAME = "openclip-scenes"
MERGES = "bpe_merges.txt.gz"


def _tensors(model: OpenClip, n: int, seed: int, *, held_out: bool) -> tuple[Tensor, Tensor]:
    """(scene, 3, size, size) pixels and (scene, caption, context) tokens of `n` scenes."""
    rng = np.random.default_rng([seed, 2])
    pixels, tokens = [], []
    for scene in tqdm(sample(n, seed, held_out=held_out), desc="rendering", unit="scene", disable=None):
        pixels.append(model.batch("image", [render(scene, rng)]).inputs["image"][0])
        tokens.append(model.batch("text", captions(scene)).inputs["text"])
    return torch.stack(pixels), torch.stack(tokens)


def main(study: Study) -> None:
    """Write the checkpoint folder (open_clip's hub layout) and its held-out retrieval accuracy."""
    params = study.params.train_controls
    if params is None:
        raise ParamsError(
            f"{study.params.params_file} has no section train_controls", expected="the section", remedy="add it"
        )
    torch.set_num_threads(study.params.extract_attention.threads)
    out = study.root / "data" / "controls" / NAME
    staging = out.with_name(f".{NAME}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    words = {word for scene in sample(2000, 0, held_out=False) for text in captions(scene) for word in text.split()}
    merges = write_restricted_merges(sorted(words), staging / MERGES)
    write_json(staging / "open_clip_config.json", scenes_config(merges, MERGES))
    fresh = ModelSpec(kind="openclip", weights="untrained", architecture=str(staging), seed=params.seed)
    model = load(NAME, fresh)
    assert isinstance(model, OpenClip)  # noqa: S101 — for the type checker
    module = model.module.requires_grad_(True)
    pixels, tokens = _tensors(model, params.scenes, params.seed + 1, held_out=False)
    losses = train(
        module, pixels, tokens, steps=params.steps, batch_size=params.batch_size,
        learning_rate=params.learning_rate, weight_decay=params.weight_decay, seed=params.seed,
    )  # fmt: skip
    result: dict[str, Any] = dict(
        retrieval(module, *_tensors(model, params.held_out_scenes, params.seed + 2, held_out=True))
    )
    weights = staging / "open_clip_model.safetensors"
    save_file({name: value.contiguous() for name, value in module.state_dict().items()}, weights)
    result |= {
        "final_loss": float(np.mean(losses[-50:])),
        "steps": params.steps,
        "training_scenes": params.scenes,
        "parameters": model.provenance["parameters"],
        "weights_sha256": sha256_file(weights),
        "stage": "train_controls",
        "evidence_id": evidence_id("train_controls", params.model_dump(), {}),
    }
    shutil.rmtree(out, ignore_errors=True)
    Path(staging).replace(out)
    write_json(study.root / "metrics" / "controls" / f"{NAME}.json", result)
    print(
        f"{NAME}: held-out R@1 {result['image_to_text_r1']:.3f} (image to text), {result['text_to_image_r1']:.3f} "
        f"(text to image), chance {result['chance']:.3f}"
    )


if __name__ == "__main__":
    run_stage(main)
