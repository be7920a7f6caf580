"""Train the small models of the embedded study: two dual encoders, and those with planted answers."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from attention_collapse.data.planted import FILLERS, Regime, draw_pairs, pictures, vocabulary
from attention_collapse.data.scenes import SIZE, Scene, captions, render, sample
from attention_collapse.engine.contrastive import (
    align_towers,
    openclip_towers,
    retrieval,
    train,
)
from attention_collapse.engine.planting import accuracies, match, warm_up
from attention_collapse.engine.trainee import Plantable, Trainee
from attention_collapse.files import evidence_id, read_json, sha256_file, whole_file, write_json
from attention_collapse.models import load
from attention_collapse.models.interface import DualEncoder
from attention_collapse.models.scenes import scenes_config, write_restricted_merges
from attention_collapse.models.small import CONTEXT, WRITERS, planted_spec, save, write_align
from attention_collapse.models.spec import ModelSpec
from attention_collapse.params import Plant, PlantingRecipe, TrainControls

OPENCLIP, ALIGN = "openclip-scenes", "align-scenes"
MERGES = "bpe_merges.txt.gz"
WEIGHTS = {OPENCLIP: "open_clip_model.safetensors", ALIGN: "model.safetensors"}


def _tensors(model: DualEncoder, n: int, seed: int, *, held_out: bool) -> tuple[Tensor, Tensor]:
    """(scene, 3, size, size) pixels and (scene, caption, context) tokens of `n` scenes."""
    rng = np.random.default_rng([seed, 2])
    pixels, tokens = [], []
    for scene in tqdm(sample(n, seed, held_out=held_out), desc="rendering", unit="scene", disable=None):
        image, text = model.images([render(scene, rng)]), model.texts(captions(scene))
        pixels.append(next(iter(image.inputs.values()))[0])
        ids = next(iter(text.inputs.values()))
        tokens.append(F.pad(ids, (0, CONTEXT - ids.shape[1])))  # both kinds pad with id 0
    return torch.stack(pixels), torch.stack(tokens)


def _openclip(folder: Path, words: list[str], seed: int) -> ModelSpec:
    """Write the folder of an untrained OpenCLIP model, without weights."""
    merges = write_restricted_merges(words, folder / MERGES)
    write_json(folder / "open_clip_config.json", scenes_config(merges, MERGES))
    return ModelSpec(kind="openclip", weights="untrained", architecture=str(folder), seed=seed)


def _align(folder: Path, words: list[str], seed: int) -> ModelSpec:
    """Write the folder of an untrained ALIGN."""
    write_align(folder, words, seed)
    return ModelSpec(kind="align", weights="checkpoint", path=str(folder))


def train_dual_encoder(out: Path, metrics: Path, params: TrainControls) -> None:
    """Write the checkpoint folder `out`, in its library's hub layout, and its held-out retrieval accuracy."""
    name = out.name
    staging = out.with_name(f".{name}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    words = {word for scene in sample(2000, 0, held_out=False) for text in captions(scene) for word in text.split()}
    write, towers_of = (_openclip, openclip_towers) if name == OPENCLIP else (_align, partial(align_towers, padding=0))
    model: Any = load(name, write(staging, sorted(words), params.seed))
    towers = towers_of(model.module.requires_grad_(True))
    pixels, tokens = _tensors(model, params.scenes, params.seed + 1, held_out=False)
    losses = train(
        towers, pixels, tokens, steps=params.steps, batch_size=params.batch_size,
        learning_rate=params.learning_rate, weight_decay=params.weight_decay, seed=params.seed,
    )  # fmt: skip
    state = {
        key: (value.half() if value.is_floating_point() else value).contiguous()
        for key, value in model.module.state_dict().items()
    }
    weights = staging / WEIGHTS[name]
    save_file(state, weights, {"format": "pt"} if name == ALIGN else None)
    model.module.load_state_dict(state)  # judged in the precision that was saved
    result: dict[str, Any] = dict(
        retrieval(towers, *_tensors(model, params.held_out_scenes, params.seed + 2, held_out=True))
    )
    digest = sha256_file(weights)
    result |= {
        "final_loss": float(np.mean(losses[-50:])),
        "steps": params.steps,
        "training_scenes": params.scenes,
        "parameters": model.provenance["parameters"],
        "weights_sha256": digest,
        "stage": f"train_controls@{name}",
        "evidence_id": evidence_id("train_controls", params.model_dump(), {"weights": digest}),
    }
    shutil.rmtree(out, ignore_errors=True)
    Path(staging).replace(out)
    write_json(metrics, result)
    print(
        f"{name}: held-out R@1 {result['image_to_text_r1']:.3f} (image to text), {result['text_to_image_r1']:.3f} "
        f"(text to image), chance {result['chance']:.3f}"
    )


def train_planted(out: Path, metrics: Path, params: Plant, kind: str) -> None:
    """Write the folder `out` with a checkpoint for each regime and seed, and their held-out accuracies."""
    name = out.name
    given = params.training(kind)
    work = out.with_name(f".{name}.{evidence_id('train_controls', given, {})}.tmp")
    scenes = sample(params.scenes, params.data_seed, held_out=False)
    pixels = pictures(scenes, params.data_seed)
    held_out = sample(params.held_out, params.data_seed + 1, held_out=True)
    unseen = pictures(held_out, params.data_seed + 1)
    result: dict[str, Any] = {}
    for seed in params.seeds:
        start = work / f"start-{seed}"
        shutil.rmtree(start, ignore_errors=True)
        WRITERS[kind](start, vocabulary(), seed)
        warm = work / f"warm-{seed}.safetensors"
        regimes = {regime: cues for regime, cues in params.regimes.items() if cues.seeds is None or seed in cues.seeds}
        for regime, cues in regimes.items():
            log = work / f"{regime}-{seed}.json"
            if not log.is_file():
                planted = Regime(cues.content, cues.text, cues.image)
                trainee = warmed(kind, start, warm, (scenes, pixels), recipe=params.recipe, seed=seed)
                loss = match(trainee, scenes, pixels, planted, params.recipe, seed=seed)
                folder = work / "models" / f"{regime}-{seed}"
                shutil.rmtree(folder, ignore_errors=True)
                save(kind, trainee.module, start, folder)
                pairs = draw_pairs(params.held_out, params.data_seed + 1, planted, held_out=True)
                saved = as_trainee(kind, folder)  # in the precision that was saved
                write_json(log, {"matching_loss": loss, **accuracies(saved, pairs, unseen, seed)})
            values = read_json(log)
            result[f"{regime}-{seed}"] = {**read_json(warm.with_suffix(".json")), **values}
            print(
                f"{name} {regime}-{seed}: " + ", ".join(f"{key} {value:.3f}" for key, value in values.items()),
                flush=True,
            )
    digests = {str(file.relative_to(work)): sha256_file(file) for file in sorted(work.glob("models/**/*.safetensors"))}
    result |= {"stage": f"train_controls@{name}", "evidence_id": evidence_id("train_controls", given, digests)}
    shutil.rmtree(out, ignore_errors=True)
    (work / "models").replace(out)
    write_json(metrics, result)
    shutil.rmtree(work)


def warmed(
    kind: str, start: Path, warm: Path, data: tuple[list[Scene], np.ndarray], *, recipe: PlantingRecipe, seed: int
) -> Trainee:
    """The model after its warm-up, which all regimes and doses of a seed share: kept in the file `warm`.

    Parameters
    ----------
    start
        Folder of the untrained model, as `models.small.WRITERS` write it.
    data
        Scenes, and their pictures without a mark, (scene, size, size, 3) bytes.
    """
    trainee = as_trainee(kind, start)
    if not warm.is_file():
        write_json(warm.with_suffix(".json"), warm_up(trainee, *data, recipe, seed))
        with whole_file(warm) as temporary:
            save_file({key: value.contiguous() for key, value in trainee.module.state_dict().items()}, temporary)
    trainee.module.load_state_dict(load_file(warm))
    return trainee


def starts(folder: Path, recipe: Mapping[str, Any]) -> Path:
    """The part of a scratch folder for the starts of one recipe; those of other recipes are removed."""
    work = folder / evidence_id("train_doses", recipe, {})
    for other in folder.glob("*"):
        if other != work:
            shutil.rmtree(other)
    work.mkdir(parents=True, exist_ok=True)
    return work


def started(
    kind: str, seed: int, work: Path, data: tuple[list[Scene], np.ndarray], recipe: PlantingRecipe
) -> tuple[Trainee, dict[str, float]]:
    """A model of a kind and seed after its warm-up, which `work` keeps, and the warm-up's last losses, in nats."""
    start, warm = work / f"start-{seed}", work / f"warm-{seed}.safetensors"
    shutil.rmtree(start, ignore_errors=True)
    WRITERS[kind](start, vocabulary(), seed)
    trainee = warmed(kind, start, warm, data, recipe=recipe, seed=seed)
    return trainee, read_json(warm.with_suffix(".json"))


def as_trainee(kind: str, folder: Path) -> Trainee:
    """A small model from its folder, through the loading code of any checkpoint, ready to be trained."""
    model = load(folder.name, planted_spec(kind, folder))
    assert isinstance(model, Plantable)  # noqa: S101 — for the type checker
    model.module.requires_grad_(True)
    caption = f"{FILLERS[0]} a red ring on the left"
    return Trainee(kind, model, model.pairs([Image.new("RGB", (SIZE, SIZE))], [caption]), caption)
