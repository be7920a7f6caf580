"""LLaVA-NeXT."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.image_processing_utils import select_best_resolution

from attention_collapse.models.decoder import Decoder
from attention_collapse.models.interface import Without

LABEL = "LLaVA-NeXT"
LIBRARY = "transformers"
MODEL_TYPES = ("llava_next",)
CATALOGUE = {
    "llava-next-7b": {"weights": "hub", "repo": "llava-hf/llava-v1.6-vicuna-7b-hf", "dtype": "bfloat16",
        "licence": "LLaMA 2", "millions": 7063},
}  # fmt: skip


class LlavaNext(Decoder):
    """LLaVA-NeXT: the whole image, then its tiles row by row, each row closed by a learned token (other)."""

    class_name = "LlavaNextForConditionalGeneration"
    image_encoder = Without("its encoder takes one row per tile")
    image_inputs = Without("the number of image tokens follows the picture's size")
    pixels = picture = Without("the picture is cut into tiles")

    def _image_keys(self, inputs: Any) -> Tensor:
        image, config = super()._image_keys(inputs), self.module.config.vision_config
        side = config.image_size // config.patch_size
        tile = inputs["pixel_values"].shape[-1]
        for row, size in zip(image, inputs["image_sizes"].tolist(), strict=True):
            pinpoints = self.module.config.image_grid_pinpoints
            height, width = select_best_resolution(size, pinpoints)
            patches, rows = self._processor._get_unpadded_features(
                *size, side, side, height // tile, width // tile
            )  # patches of the tiles without padding, and their rows
            positions = row.nonzero()[:, 0]
            last_of_row = side * side + (patches // rows + 1) * torch.arange(1, rows + 1) - 1
            row[positions[last_of_row]] = False
        return image


load = LlavaNext.load
