"""FLAVA."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attention_collapse.models.fusion_encoder import SingleStreamEncoder
from attention_collapse.models.interface import Batch, Read, Without
from attention_collapse.models.mm_shap import LXMERT
from attention_collapse.probe import IMAGE, OTHER, TEXT

LABEL = "FLAVA"
LIBRARY = "transformers"
MODEL_TYPES = ("flava",)
CATALOGUE = {
    "flava-full": {"weights": "hub", "repo": "facebook/flava-full", "licence": "BSD-3-Clause", "millions": 358},
}  # fmt: skip


class Flava(SingleStreamEncoder):
    """FLAVA's multimodal encoder with its matching head. Keys: class token, image class token, patches, text."""

    class_name = "FlavaForPreTraining"
    vision = text = r"flava\.multimodal_model\.encoder\.layer\.\d+\.attention\.attention"
    image_encoder = "flava.image_model"
    image_inputs = Without("not established: pairs are prepared together")
    pixels = picture = "pixel_values"
    mm_shap = LXMERT

    def _reads(self, _inputs: Any, real: Tensor, words: Tensor) -> tuple[tuple[Read, ...], dict[str, Tensor]]:
        config = self.module.config.image_config
        patches = (config.image_size // config.patch_size) ** 2
        image = torch.full((len(real), 2 + patches), IMAGE)
        image[:, :2] = OTHER
        labels = torch.cat([image, torch.where(words, TEXT, OTHER)], 1)
        queries = torch.cat([torch.zeros_like(image, dtype=torch.bool), words], 1)
        return self._joint(labels, queries, real, torch.full((len(real),), patches))

    def score(self, batch: Batch) -> Tensor:
        """(batch,) logit of "match"."""
        return self.match_logits(batch)[:, 1]

    def match_logits(self, batch: Batch) -> Tensor:
        """(batch, 2) logits of "no match" and of "match"."""
        logits: Tensor = self.module.itm_head(self.module.flava(**batch.inputs).multimodal_embeddings)
        return logits


load = Flava.load
