"""CoCa's captioning decoder, in the open_clip library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import open_clip
import torch
from PIL import Image
from torch import Tensor

from attention_collapse.errors import ModelError
from attention_collapse.families import CROSS_ATTENTION
from attention_collapse.models.interface import Batch, Read, Without, even_weights, one_row
from attention_collapse.models.mm_shap import LIKELIHOOD
from attention_collapse.models.openclip_model import OpenClipModel
from attention_collapse.models.sites import matching_sites
from attention_collapse.probe import IMAGE, OTHER, TEXT

LABEL = "CoCa"
LIBRARY = "open_clip"
MODEL_TYPES = ()  # a folder does not say whether its decoder is meant: kind openclip takes its two towers
CATALOGUE = {
    "openclip-coca-b-32-decoder": {"weights": "pretrained", "architecture": "coca_ViT-B-32", "tag": "laion2b_s13b_b90k",
        "licence": "MIT", "millions": 254},
}  # fmt: skip


class CoCaDecoder(OpenClipModel):
    """CoCa's captioning decoder: text queries cross-attend to the pooled image tokens. A `PairScorer`."""

    family = CROSS_ATTENTION
    caption = "words"
    is_likelihood = True
    image_encoder = "visual"
    image_inputs = Without("not established: pairs are prepared together")
    pixels = "image"
    picture = Without("the image's keys are pooled from its patches")
    mm_shap = LIKELIHOOD

    def __init__(self, name: str, module: Any, *parts: Any) -> None:
        super().__init__(name, module, *parts)
        if not isinstance(module, open_clip.CoCa):
            raise ModelError(f"{name}: {type(module).__name__}", expected="CoCa", remedy="use kind: openclip")
        self.sites = {
            "vision": matching_sites(name, module, r"text_decoder\.cross_attn\.\d+\.attn"),
            "text": matching_sites(name, module, r"text_decoder\.resblocks\.\d+\.attn"),
        }
        self.missing: dict[str, str] = {}
        pooled = "the image's keys in cross-attention are the pooled tokens, not patches"
        self.provenance["notes"] = (*self.provenance["notes"], pooled)

    @property
    def token_embedding(self) -> Any:
        """The module that reads the caption's ids."""
        return self.module.text.token_embedding

    def pairs(self, pictures: Sequence[Image.Image], captions: Sequence[str]) -> Batch:
        """Inputs of image–caption pairs; "words" marks, (batch, token), the caption's tokens."""
        ids, _, words, end = self._tokens(captions)
        inside = words[:, :-1]  # the decoder predicts the next token, so the last has no query
        rows = {"all": even_weights(inside), "readout": one_row((end - 2).clamp_min(0), inside.shape[1])}
        pool = getattr(self.module.visual, "attn_pool", None)
        keys = self._vision.tokens - 1 if self._vision else 0
        if pool is not None:
            keys = pool.query.shape[0] - (0 if self.module.visual.attn_pool_type else 1)
        reads = (
            Read("vision", self.sites["vision"], rows, torch.full((len(ids),), keys)),
            Read("text", self.sites["text"], rows, words.sum(-1)),
        )
        groups = dict.fromkeys(self.sites["vision"], torch.full((1, keys), IMAGE))
        groups |= dict.fromkeys(self.sites["text"], torch.where(inside, TEXT, OTHER))
        inputs = {"image": self._pixels(pictures), "text": ids.to(self._device), "words": words.to(self._device)}
        return Batch(inputs, reads, groups, self._truncated(captions, ids.shape[1]))

    def score(self, batch: Batch) -> Tensor:
        """(batch,) mean log-likelihood of the caption's words, in nats per token."""
        logits = self.module(batch.inputs["image"], batch.inputs["text"])["logits"]
        labels, words = batch.inputs["text"][:, 1:], batch.inputs["words"][:, 1:]
        values = logits.float().log_softmax(-1).gather(-1, labels[..., None])[..., 0]
        scores: Tensor = (values * words).sum(-1) / words.sum(-1)
        return scores


load = CoCaDecoder.load
