"""Contrastive (CLIP) training of small dual encoders on tensors, and their retrieval accuracy.

A shortcut within one modality cannot be planted by this loss: it asks which item of the *other* modality belongs, so
with an encoder that ignores its input it stays at ln(batch) or above in both directions, whatever the other encoder
does.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip.tokenizer import default_bpe
from torch import Tensor, nn
from tqdm import tqdm

from attention_collapse.files import whole_file


def write_restricted_merges(words: Iterable[str], out: Path) -> int:
    """CLIP's BPE merges restricted to those that can apply inside `words`; returns their number.

    The words are tokenised exactly as by the full vocabulary, whose 49,408 embeddings would be far larger than the
    rest of a small model. Words outside fall apart into bytes.
    """
    with gzip.open(default_bpe(), "rt", encoding="utf-8") as stream:
        merges = stream.read().split("\n")[1 : 49152 - 256 - 2 + 1]  # as SimpleTokenizer reads them
    ended = [f"{word}</w>" for word in words]
    kept = [merge for merge in merges if merge and any(merge.replace(" ", "") in word for word in ended)]
    text = "\n".join(["#version: 0.2", *kept])
    # Stored, not deflated, and without a date: the same bytes on every machine.
    with (
        whole_file(out) as temporary,
        temporary.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=0, fileobj=raw, mtime=0) as stream,
    ):
        stream.write(text.encode("utf-8"))
    return len(kept)


def scenes_config(merges: int, merges_file: str) -> dict[str, Any]:
    """Architecture of the embedded study's OpenCLIP model: 64-pixel images in 8-pixel patches, two 4-layer towers."""
    return {
        "model_cfg": {
            "embed_dim": 64,
            "vision_cfg": {"image_size": 64, "patch_size": 8, "width": 64, "layers": 4, "head_width": 16},
            "text_cfg": {
                "context_length": 32,
                "vocab_size": 512 + merges + 2,
                "width": 64,
                "heads": 4,
                "layers": 4,
                "tokenizer_kwargs": {"bpe_path": merges_file},
            },
        },
        "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "interpolation": "bicubic"},
    }


@dataclass(frozen=True)
class Towers:
    """A dual encoder in training.

    Attributes
    ----------
    image, text
        (batch, 3, height, width) pixels and (batch, context) token ids -> (batch, width) embeddings of any length.
    scale
        The learned factor on the cosine, positive.
    bound
        Keeps the scale at 100 or less, as CLIP does; called after each step.
    """

    module: nn.Module
    image: Callable[[Tensor], Tensor]
    text: Callable[[Tensor], Tensor]
    scale: Callable[[], Tensor]
    bound: Callable[[], object]


def openclip_towers(module: Any) -> Towers:
    """Those of an open_clip CLIP."""
    return Towers(
        module, module.encode_image, module.encode_text, module.logit_scale.exp,
        partial(module.logit_scale.clamp_, 0.0, 4.6052),
    )  # fmt: skip


def align_towers(module: Any, padding: int) -> Towers:
    """Those of transformers' AlignModel; `padding` is the token id that is no word."""

    def text(ids: Tensor) -> Tensor:
        found: Tensor = module.get_text_features(ids, attention_mask=(ids != padding).long()).pooler_output
        return found

    return Towers(
        module, lambda pixels: module.get_image_features(pixels).pooler_output, text,
        lambda: 1 / module.temperature, partial(module.temperature.clamp_, 0.01, 1.0),
    )  # fmt: skip


def train(
    towers: Towers,
    pixels: Tensor,
    tokens: Tensor,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    seed: int,
) -> list[float]:
    """Train in place with AdamW and a cosine schedule; return the loss of each step (nats).

    Parameters
    ----------
    pixels
        (scene, 3, height, width), normalised.
    tokens
        (scene, caption, context): one caption of each scene is drawn at every step.
    """
    generator = torch.Generator().manual_seed(seed)
    model = towers.module
    gains = [p for p in model.parameters() if p.ndim < 2]
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    optimizer = torch.optim.AdamW(
        [{"params": gains, "weight_decay": 0.0}, {"params": matrices, "weight_decay": weight_decay}], lr=learning_rate
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.05)
    loss_of = open_clip.ClipLoss()
    losses = []
    model.train()
    bar = tqdm(range(steps), desc="training", unit="step", disable=None)
    for step in bar:
        chosen = torch.randperm(len(pixels), generator=generator)[:batch_size]
        caption = torch.randint(tokens.shape[1], (len(chosen),), generator=generator)
        image_features = F.normalize(towers.image(pixels[chosen]), dim=-1)
        text_features = F.normalize(towers.text(tokens[chosen, caption]), dim=-1)
        loss = loss_of(image_features, text_features, towers.scale())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            towers.bound()
        losses.append(loss.item())
        if (step + 1) % max(1, steps // 10) == 0:
            recent = losses[-100:]
            bar.write(f"step {step + 1}: loss {sum(recent) / len(recent):.3f}")
    model.eval()
    return losses


@torch.inference_mode()
def retrieval(towers: Towers, pixels: Tensor, tokens: Tensor) -> dict[str, float]:
    """Recall at 1 among all given scenes, in both directions, beside chance.

    Returns
    -------
    dict
        image_to_text_r1: share of images whose best caption is one of their own; text_to_image_r1: share of captions
        whose best image is their own; chance: 1 / scenes; candidates: scenes.
    """
    scenes, captions = tokens.shape[:2]
    images = F.normalize(towers.image(pixels), dim=-1)
    texts = F.normalize(towers.text(tokens.flatten(0, 1)), dim=-1)
    similarity = images @ texts.T  # (scene, scene · caption)
    owner = torch.arange(scenes).repeat_interleave(captions)
    return {
        "image_to_text_r1": float((owner[similarity.argmax(1)] == torch.arange(scenes)).double().mean()),
        "text_to_image_r1": float((similarity.argmax(0) == owner).double().mean()),
        "chance": 1.0 / scenes,
        "candidates": scenes,
    }
