"""What decoders share that see the whole image, then its tiles row by row, each row closed by a learned token."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.image_processing_utils import select_best_resolution

from attention_collapse.models.decoder import Decoder


class AnyResolutionDecoder(Decoder, base=True):
    """A `Decoder` whose image is resized to the best of several resolutions and cut into tiles ("anyres").

    Its tokens are the patches of the whole image, then those of the tiles without their padding, row by row of the
    whole. The learned token that closes each row is other.
    """

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
