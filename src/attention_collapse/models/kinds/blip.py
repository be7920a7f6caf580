"""BLIP."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attention_collapse.families import CROSS_ATTENTION
from attention_collapse.models.fusion_encoder import FusionEncoder, class_token_and_patches
from attention_collapse.models.interface import Batch, Read, even_weights
from attention_collapse.models.mm_shap import ALBEF
from attention_collapse.probe import OTHER, TEXT

LABEL = "BLIP"
LIBRARY = "transformers"
MODEL_TYPES = ("blip",)
CATALOGUE = {
    "blip-itm-base": {"weights": "hub", "repo": "Salesforce/blip-itm-base-coco",
        "licence": "see its page", "millions": 224},
}  # fmt: skip


class Blip(FusionEncoder):
    """BLIP with its image–text matching head: text queries cross-attend to the image in every layer."""

    class_name = "BlipForImageTextRetrieval"
    family = CROSS_ATTENTION
    vision = r"text_encoder\.encoder\.layer\.\d+\.crossattention\.self"
    text = r"text_encoder\.encoder\.layer\.\d+\.attention\.self"
    image_encoder = "vision_model"
    image_inputs = ("pixel_values",)
    pixels = picture = "pixel_values"
    text_states = "text_encoder.encoder"
    mm_shap = ALBEF

    def _reads(self, _inputs: Any, real: Tensor, words: Tensor) -> tuple[tuple[Read, ...], dict[str, Tensor]]:
        config = self.module.config.vision_config
        image = class_token_and_patches((config.image_size // config.patch_size) ** 2)
        rows = {"all": even_weights(real), "readout": self._first(*real.shape)}
        tokens = torch.full((len(real),), image.shape[1])
        reads = (
            Read("vision", self.sites["vision"], rows, tokens),
            Read("text", self.sites["text"], rows, real.sum(-1)),
        )
        text = self._groups(torch.where(words, TEXT, OTHER), "text")
        return reads, self._groups(image, "vision") | text

    def score(self, batch: Batch) -> Tensor:
        """(batch,) logit of "match"."""
        return self.match_logits(batch)[:, 1]

    def match_logits(self, batch: Batch) -> Tensor:
        """(batch, 2) logits of "no match" and of "match"."""
        logits: Tensor = self.module(**batch.inputs).itm_score
        return logits


load = Blip.load
