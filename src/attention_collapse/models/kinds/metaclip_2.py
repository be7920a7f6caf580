"""MetaCLIP 2."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from attention_collapse.models.dual_encoder import TEXT_LAYERS, VISION, TransformersDualEncoder
from attention_collapse.models.interface import Without, special_ids
from attention_collapse.models.mm_shap import CLIP

LABEL = "MetaCLIP 2"
LIBRARY = "transformers"
MODEL_TYPES = ("metaclip_2",)
CATALOGUE = {
    "metaclip-2-b-32": {"weights": "hub", "repo": "facebook/metaclip-2-worldwide-b32",
        "licence": "see its page", "millions": 588},
}  # fmt: skip


class MetaClip2(TransformersDualEncoder):
    """MetaCLIP 2: CLIP's towers with a tokenizer of many languages; the text is read out at its first end token."""

    class_name = "MetaClip2Model"
    vision, text = VISION, TEXT_LAYERS
    class_token = True
    readout = "end"
    padded_to = None
    pixels = picture = "pixel_values"

    @property
    def mm_shap(self) -> str | Without:
        """CLIP's script, which takes a caption's first token for its start; checkpoints with mT5's words have none."""
        first = self.tokenizer("a")["input_ids"][0]
        return CLIP if first in special_ids(self.tokenizer) else Without("its captions have no start token")

    @staticmethod
    def _end(ids: Tensor, config: Any) -> Tensor:
        """Position of the end token: its id is 2, which in CLIP's first configurations was no end token at all."""
        end: Tensor = (ids == config.eos_token_id).int().argmax(-1)
        return end


load = MetaClip2.load
