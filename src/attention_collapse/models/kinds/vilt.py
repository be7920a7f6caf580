"""ViLT."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attention_collapse.models.fusion_encoder import SingleStreamEncoder
from attention_collapse.models.interface import Batch, Read, Without
from attention_collapse.probe import IMAGE, OTHER, TEXT

LABEL = "ViLT"
LIBRARY = "transformers"
MODEL_TYPES = ("vilt",)
CATALOGUE = {
    "vilt-coco": {"weights": "hub", "repo": "dandelin/vilt-b32-finetuned-coco",
        "licence": "Apache-2.0", "millions": 111},
}  # fmt: skip


class Vilt(SingleStreamEncoder):
    """ViLT's ranking head. Keys: text, then the image's class token and patches (in random order, padding masked)."""

    class_name = "ViltForImageAndTextRetrieval"
    vision = text = r"vilt\.encoder\.layer\.\d+\.attention\.attention"
    image_encoder = Without("patches and words share one stream")
    image_inputs = ("pixel_values", "pixel_mask")
    pixels = "pixel_values"
    picture = Without("the model shuffles its patches")
    text_states = "vilt.encoder"
    mm_shap = Without("its head ranks pairs by one logit: it has no class for no match")

    def _reads(self, inputs: Any, real: Tensor, words: Tensor) -> tuple[tuple[Read, ...], dict[str, Tensor]]:
        size = self.module.config.patch_size
        grid = inputs["pixel_mask"][:, ::size, ::size].flatten(1).sum(-1)  # patches of each image
        most = self.module.config.max_image_length
        patches = grid if most is None or most < 0 else grid.clamp(max=most)
        image = torch.full((len(real), 1 + int(patches.max())), IMAGE)
        image[:, 0] = OTHER
        labels = torch.cat([torch.where(words, TEXT, OTHER), image], 1)
        queries = torch.cat([words, torch.zeros_like(image, dtype=torch.bool)], 1)
        return self._joint(labels, queries, real, patches)

    def score(self, batch: Batch) -> Tensor:
        """(batch,) the ranking head's logit."""
        with torch.random.fork_rng(devices=[]):  # ViLT shuffles patches at every pass, in evaluation too
            torch.manual_seed(0)
            logit: Tensor = self.module(**batch.inputs).logits[:, 0]
            return logit

    def image_states(self, ids: Tensor, pixels: Tensor) -> Tensor:
        """(batch, key, width) what (batch, 3, height, width) pixels become beside a text, (batch, token) ids."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            states: Tensor = self.module.vilt(input_ids=ids, pixel_values=pixels).last_hidden_state
        return states[:, ids.shape[1] :]


load = Vilt.load
