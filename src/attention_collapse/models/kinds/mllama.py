"""Llama 3.2 Vision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from attention_collapse.errors import ModelError
from attention_collapse.families import CROSS_ATTENTION
from attention_collapse.models.decoder import Decoder
from attention_collapse.models.interface import Read, Without
from attention_collapse.models.sites import matching_sites, natural
from attention_collapse.probe import IMAGE, OTHER, TEXT

LABEL = "Llama 3.2 Vision"
LIBRARY = "transformers"
MODEL_TYPES = ("mllama",)
CATALOGUE = {
    "llama-3.2-11b-vision": {"weights": "hub", "repo": "meta-llama/Llama-3.2-11B-Vision-Instruct", "dtype": "bfloat16",
        "licence": "Llama 3.2", "millions": 10670},
}  # fmt: skip


class Mllama(Decoder):
    """Llama 3.2 Vision: layers of gated cross-attention to the image's tiles between a Llama's own layers.

    Each tile is a class token (other) and its patches. The text's own attention is that of the layer beside each
    cross-attention: the next one with self-attention, or the one before where none follows.
    """

    class_name = "MllamaForConditionalGeneration"
    family = CROSS_ATTENTION
    layers = r"model\.language_model\.layers\.\d+\.self_attn"
    image_encoder = "model.vision_model"
    image_inputs = Without("which tiles a token attends to is made of the image and the caption together")
    pixels = picture = Without("the picture is cut into tiles")

    def _find_sites(self) -> dict[str, tuple[str, ...]]:
        cross = matching_sites(self.name, self.module, r"model\.language_model\.layers\.\d+\.cross_attn")
        own = matching_sites(self.name, self.module, self.layers)
        return {"vision": cross, "text": tuple(_beside(site, own) for site in cross)}

    def _reads(self, inputs: Any, caption: Tensor) -> tuple[tuple[Read, ...], dict[str, Tensor]]:
        vision = self.module.config.vision_config
        self._require_tiles(inputs["pixel_values"].shape, vision)
        tile = torch.full(((vision.image_size // vision.patch_size) ** 2 + 1,), IMAGE)
        tile[0] = OTHER
        real = inputs["aspect_ratio_mask"].flatten(1) > 0  # (batch, tile); the others are padding
        keys = torch.where(real[..., None], tile, OTHER).flatten(1)  # (batch, key)
        rows = self._rows(caption)
        reads = (
            Read("vision", self.sites["vision"], rows, real.sum(-1) * len(tile)),
            Read("text", self.sites["text"], rows, caption.sum(-1)),
        )
        labels = torch.where(caption, TEXT, OTHER)
        return reads, dict.fromkeys(self.sites["vision"], keys) | dict.fromkeys(self.sites["text"], labels)

    def _require_tiles(self, shape: Sequence[int], vision: Any) -> None:
        """ModelError unless the processor cuts pictures as the image encoder was trained on; `shape`: of its pixels."""
        tiles, (height, width) = shape[2], shape[-2:]  # (batch, picture, tile, channel, height, width)
        if (tiles, height, width) != (vision.max_num_tiles, vision.image_size, vision.image_size):
            raise ModelError(
                f"{self.name}: {tiles} tiles of {height} × {width} pixels, by preprocessor_config.json",
                expected=f"{vision.max_num_tiles} tiles of {vision.image_size} × {vision.image_size} pixels, by "
                "vision_config of config.json (max_num_tiles, image_size)",
                remedy="take both files from the same repository and revision",
            )


def _beside(site: str, own: tuple[str, ...]) -> str:
    """The self-attention in the next layer that has one after a cross-attention's, or in the nearest before it."""
    in_order = natural([site.replace("cross_attn", "self_attn"), *own])
    place = in_order.index(site.replace("cross_attn", "self_attn"))
    return in_order[place + 1] if place + 1 < len(in_order) else in_order[place - 1]


load = Mllama.load
