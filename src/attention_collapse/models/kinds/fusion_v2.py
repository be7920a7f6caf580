"""The in-house V2, three groups of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image

from attention_collapse.families import THREE_GROUP
from attention_collapse.models.fusion import FusionV2
from attention_collapse.models.inhouse import InHouse
from attention_collapse.models.interface import Batch, Read, even_weights
from attention_collapse.models.sites import matching_sites
from attention_collapse.probe import OTHER, TEXT

LABEL = "in-house V2"
LIBRARY = "in-house"
MODEL_TYPES = ("fusion-v2",)
CATALOGUE: dict[str, dict[str, object]] = {}


class InHouseV2(InHouse):
    """V2: cross-attention from the text to the image, then an encoder over image, text and metadata."""

    family = THREE_GROUP
    fusion = FusionV2
    missing: Mapping[str, str] = {}
    image_encoder = "image_encoder"
    image_inputs = ("pixels", "metadata")
    pixels = picture = "pixels"
    text_states = "fusion.encoder"

    def __init__(self, name: str, *parts: Any) -> None:
        super().__init__(name, *parts)
        self.sites = {
            "vision": ("fusion.cross_attention",),
            "text": matching_sites(name, self.module, r"fusion\.encoder\.layers\.\d+\.self_attn"),
        }

    def pairs(self, pictures: Sequence[Image.Image], captions: Sequence[str]) -> Batch:
        """Inputs of image–caption pairs, and the attention to read."""
        batch, special, prepared = self._inputs(pictures, captions)
        words = batch.inputs["words"].cpu()
        image = prepared.groups[prepared.reads[0].sites[0]]  # (1, image token)
        text = torch.where(words & ~special, TEXT, OTHER)
        joint = torch.cat([image.expand(len(text), -1), text, torch.full((len(text), 1), OTHER)], 1)
        before, after = torch.zeros(len(text), image.shape[1]).bool(), torch.zeros(len(text), 1).bool()
        cross = {"all": even_weights(words), "readout": even_weights(words)}  # the score averages all text tokens
        own = even_weights(torch.cat([before, words, after], 1))
        reads = (
            Read("vision", self.sites["vision"], cross, torch.full((len(text),), image.shape[1])),
            Read("text", self.sites["text"], {"all": own, "readout": own}, words.sum(-1), group=TEXT),
        )
        groups = dict.fromkeys(self.sites["vision"], image) | dict.fromkeys(self.sites["text"], joint)
        return replace(batch, reads=reads, groups=groups)


load = InHouseV2.load
