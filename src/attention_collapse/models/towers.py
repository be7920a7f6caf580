"""Dual encoders of the transformers library: CLIP, SigLIP, SigLIP 2 (NaFlex) and ALIGN."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from attention_collapse.families import DUAL_ENCODER
from attention_collapse.models.interface import Batch, Output, Provenance, Read, even_weights, one_row, special_ids
from attention_collapse.models.pretrained import load_pretrained
from attention_collapse.models.sites import matching_sites
from attention_collapse.models.spec import ModelSpec
from attention_collapse.probe import IMAGE, OTHER, TEXT

POOLED = "patches are pooled by attention, not projected into the shared space"


@dataclass(frozen=True)
class Kind:
    """What differs between the dual encoders."""

    class_name: str
    vision: str | None  # attention modules of the vision tower, a regular expression
    text: str
    class_token: bool  # the vision tower reads out at a class token, and projects its patches
    readout: str  # text query that feeds the score: "end" token, "first" or "last" position
    padded_to: int | None = None  # the text tower was trained on, and sees, padding up to this length


ENCODER, TEXT_ENCODER = r"vision_model\.encoder\.layers\.\d+\.self_attn", r"text_model\.encoder\.layers\.\d+\.self_attn"
KIND = {
    "clip": Kind("CLIPModel", ENCODER, TEXT_ENCODER, class_token=True, readout="end"),
    "siglip": Kind("SiglipModel", ENCODER, TEXT_ENCODER, class_token=False, readout="last", padded_to=64),
    "siglip2": Kind("Siglip2Model", ENCODER, TEXT_ENCODER, class_token=False, readout="last", padded_to=64),
    "align": Kind(
        "AlignModel", None, r"text_model\.encoder\.layer\.\d+\.attention\.self", class_token=False, readout="first"
    ),
}


class TransformersTowers:
    """See `interface.TwoTowers`."""

    family = DUAL_ENCODER

    def __init__(self, name: str, kind: Kind, module: Any, processor: Any, provenance: Provenance) -> None:
        self.name, self.module, self.provenance = name, module, asdict(provenance)
        self._kind, self._processor = kind, processor
        self.sites = {"text": matching_sites(name, module, kind.text)}
        self.missing: dict[str, str] = {}
        if kind.vision:
            self.sites = {"vision": matching_sites(name, module, kind.vision), **self.sites}
        else:
            self.missing["vision"] = "the vision tower is convolutional and has no attention"
        if not kind.class_token:
            self.missing["surrogate"] = POOLED if kind.vision else self.missing["vision"]

    @property
    def logit_scale(self) -> float:
        """Factor on the cosine, from the checkpoint."""
        if hasattr(self.module, "temperature"):
            return 1.0 / float(self.module.temperature)
        return float(self.module.logit_scale.exp())

    @property
    def logit_bias(self) -> float:
        """Term beside the scaled cosine, from the checkpoint; 0 where there is none."""
        return float(getattr(self.module, "logit_bias", 0.0))

    def batch(self, kind: str, contents: Sequence[Any]) -> Batch:
        """Inputs of one tower: "image" or "text"."""
        return self._images(contents) if kind == "image" else self._texts(contents)

    def _images(self, images: Sequence[Any]) -> Batch:
        inputs = self._processor.image_processor(images=list(images), return_tensors="pt").to(self.module.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(self.module.dtype)
        none = (False,) * len(images)
        if not self._kind.vision:
            return Batch(dict(inputs), (), {}, none)
        if "pixel_attention_mask" in inputs:  # NaFlex: patches row by row, then padding
            real = inputs["pixel_attention_mask"].cpu() > 0
        else:
            config = self.module.config.vision_config
            patches = (config.image_size // config.patch_size) ** 2
            real = torch.ones(len(images), patches + self._kind.class_token, dtype=torch.bool)
        groups = torch.full((1, real.shape[1]), IMAGE)
        rows = {"all": even_weights(real), "readout": even_weights(real)}  # pooling: every query feeds the score
        if self._kind.class_token:
            groups[:, 0] = OTHER
            rows["readout"] = one_row(torch.zeros(len(images), dtype=torch.long), real.shape[1])
        read = Read("vision", self.sites["vision"], rows, real.sum(-1))
        return Batch(dict(inputs), (read,), dict.fromkeys(self.sites["vision"], groups), none)

    def _texts(self, texts: Sequence[str]) -> Batch:
        tokenizer, config = self._processor.tokenizer, self.module.config.text_config
        tokenizer.padding_side = "right"
        context = self._kind.padded_to or config.max_position_embeddings
        context = min(context, config.max_position_embeddings)
        encoded = tokenizer(
            list(texts), padding="max_length" if self._kind.padded_to else True, truncation=True, max_length=context,
            return_attention_mask=True, return_tensors="pt",
        )  # fmt: skip
        ids, real = encoded["input_ids"], encoded["attention_mask"] > 0
        if self._kind.readout == "end":
            end = self._end(ids, config)
            real = torch.arange(ids.shape[1]) <= end[:, None]  # padding repeats the end token in CLIP
        last = {"end": real.sum(-1) - 1, "first": torch.zeros(len(ids), dtype=torch.long)}
        readout = last.get(self._kind.readout, torch.full((len(ids),), ids.shape[1] - 1))
        special = torch.isin(ids, special_ids(tokenizer))
        groups = torch.where(real & ~special, TEXT, OTHER)
        inputs = {"input_ids": ids.to(self.module.device)}
        if not self._kind.padded_to:
            inputs["attention_mask"] = encoded["attention_mask"].to(self.module.device)
        lengths = tokenizer(list(texts), return_length=True, truncation=False, verbose=False)["length"]
        truncated = tuple(int(length) > context for length in lengths)
        rows = {"all": even_weights(real), "readout": one_row(readout, ids.shape[1])}
        read = Read("text", self.sites["text"], rows, real.sum(-1))
        return Batch(inputs, (read,), dict.fromkeys(self.sites["text"], groups), truncated)

    @staticmethod
    def _end(ids: Tensor, config: Any) -> Tensor:
        """Position of the end token, as the model finds it."""
        if config.eos_token_id == 2:  # the first CLIP configurations hold a wrong id; the end token is the largest
            return ids.argmax(-1)
        end: Tensor = (ids == config.eos_token_id).int().argmax(-1)
        return end

    def run(self, batch: Batch) -> Output:
        """Embeddings, and where they are projected the patches."""
        if "input_ids" in batch.inputs:
            return Output(embedding=F.normalize(self.module.get_text_features(**batch.inputs).pooler_output, dim=-1))
        if not self._kind.class_token:
            return Output(embedding=F.normalize(self.module.get_image_features(**batch.inputs).pooler_output, dim=-1))
        out = self.module.vision_model(**batch.inputs)
        tokens = self.module.vision_model.post_layernorm(out.last_hidden_state[:, 1:])
        embedding, patches = (self.module.visual_projection(part) for part in (out.pooler_output, tokens))
        return Output(embedding=F.normalize(embedding, dim=-1), patches=F.normalize(patches, dim=-1))


def load(name: str, spec: ModelSpec, device: str = "cpu") -> TransformersTowers:
    """Load a dual encoder of the transformers library."""
    kind = KIND[spec.kind]
    return TransformersTowers(name, kind, *load_pretrained(name, spec, device, kind.class_name))
