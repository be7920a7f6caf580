"""Contrastive (CLIP) training of small dual encoders on tensors, and their retrieval accuracy.

A shortcut within one modality cannot be planted by this loss: it asks which item of the *other* modality belongs, so
with an encoder that ignores its input it stays at ln(batch) or above in both directions, whatever the other encoder
does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm


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
