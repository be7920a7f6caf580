"""What the dual encoders of the transformers library share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from attention_collapse.errors import ModelError
from attention_collapse.families import DUAL_ENCODER
from attention_collapse.models.interface import (
    Batch,
    Embedded,
    Read,
    Without,
    even_weights,
    one_row,
    special_ids,
    unit_length,
)
from attention_collapse.models.pretrained import TransformersModel
from attention_collapse.models.sites import matching_sites
from attention_collapse.models.spec import ModelSpec
from attention_collapse.models.vocabulary import end_token, require_end, require_start
from attention_collapse.probe import IMAGE, OTHER, TEXT

VISION, TEXT_LAYERS = (rf"{name}_model\.encoder\.layers\.\d+\.self_attn" for name in ("vision", "text"))
COPIED = {"pad": 1, "bos": 49406, "eos": 49407}  # from CLIP, in SigLIP's configurations: not its tokenizers' ids
PADDED = Without("its captions have no start token, and its text tower sees their padding")
POOLED = "patches are pooled by attention, not projected into the shared space"


class TransformersDualEncoder(TransformersModel, base=True):
    """A `DualEncoder`. A kind says what differs.

    Attributes
    ----------
    vision, text
        Attention modules of the two towers, regular expressions; None: the vision tower is convolutional.
    class_token
        Whether the vision tower reads out at a class token, and projects its patches.
    readout
        The text query that feeds the score: the "end" token, or the "first" or "last" position.
    padded_to
        The length that the text tower was trained on, and sees, padding up to; None: no padding is seen.
    """

    own = ("pixels", "picture")
    family = DUAL_ENCODER
    vision: ClassVar[str | None]
    text: ClassVar[str]
    class_token: ClassVar[bool]
    readout: ClassVar[str]
    padded_to: ClassVar[int | None]

    def __init__(self, name: str, spec: ModelSpec, device: str) -> None:
        super().__init__(name, spec, device)
        self.sites = {"text": matching_sites(name, self.module, self.text)}
        if self.vision:
            self.sites = {"vision": matching_sites(name, self.module, self.vision), **self.sites}
        else:
            self.missing["vision"] = "the vision tower is convolutional and has no attention"
        if not self.class_token:
            self.missing["surrogate"] = POOLED if self.vision else self.missing["vision"]
        if self.readout == "first":
            require_start(name, self.tokenizer)
        self.texts(["a"])  # an end token that is not found is an error now, not after the images

    def _stated(self, config: dict[str, Any]) -> dict[str, Any]:
        if (
            self.readout == "end"
        ):  # CLIP: padding repeats the end token or is another; an end token of 2 is a known slip
            slip = config.get("eos_token_id") == 2
            return {} if slip else {role: config.get(f"{role}_token_id") for role in ("bos", "eos")}
        stated = super()._stated(config)
        return {role: found for role, found in stated.items() if not (self.padded_to and found == COPIED.get(role))}

    @classmethod
    def without_vision(cls, replaced: Mapping[str, tuple[str, str]]) -> str | None:
        """Of a tower that is another's, the tokens are not known; of a text tower not even the text's inputs."""
        for site, (now, before) in replaced.items():
            if not site.startswith("vision_model"):
                raise ModelError(
                    f"{site} is {now}, where {cls.class_name} has {before}",
                    expected="the class's own text tower, whose tokens are known",
                    remedy="describe the model with kind: python (docs/adding.md, “A model in no table”)",
                )
            return f"the vision tower's tokens are not known: {site} is {now}, where {cls.class_name} has {before}"
        return None

    @property
    def caption(self) -> str | Without:
        """The input that marks the caption's tokens, where the text tower takes one."""
        return Without("the text tower sees its padding") if self.padded_to else "attention_mask"

    @property
    def logit_scale(self) -> float:
        """Factor on the cosine, from the checkpoint."""
        if hasattr(self.module, "temperature"):
            return 1.0 / float(self.module.temperature)
        return float(self.module.logit_scale.float().exp())

    @property
    def logit_bias(self) -> float:
        """Term beside the scaled cosine, from the checkpoint; 0 where there is none."""
        return float(getattr(self.module, "logit_bias", 0.0))

    def images(self, pictures: Sequence[Image.Image]) -> Batch:
        """Inputs of the vision tower, and its tokens: the class token, where there is one, then patches row by row."""
        inputs = self._processor.image_processor(images=list(pictures), return_tensors="pt").to(self.module.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(self.module.dtype)
        none = (False,) * len(pictures)
        if not self.vision:
            return Batch(dict(inputs), (), {}, none)
        if "pixel_attention_mask" in inputs:  # NaFlex: patches row by row, then padding
            real = inputs["pixel_attention_mask"].cpu() > 0
        else:
            config = self.module.config.vision_config
            patches = (config.image_size // config.patch_size) ** 2
            real = torch.ones(len(pictures), patches + self.class_token, dtype=torch.bool)
        groups = torch.full((1, real.shape[1]), IMAGE)
        rows = {"all": even_weights(real), "readout": even_weights(real)}  # pooling: every query feeds the score
        if self.class_token:
            groups[:, 0] = OTHER
            rows["readout"] = one_row(torch.zeros(len(pictures), dtype=torch.long), real.shape[1])
        read = Read("vision", self.sites["vision"], rows, real.sum(-1))
        return Batch(dict(inputs), (read,), dict.fromkeys(self.sites["vision"], groups), none)

    def texts(self, captions: Sequence[str]) -> Batch:
        """Inputs of the text tower, as long as the longest caption or as it was trained on."""
        tokenizer, config = self.tokenizer, self.module.config.text_config
        tokenizer.padding_side = "right"
        context = self.padded_to or config.max_position_embeddings
        context = min(context, config.max_position_embeddings)
        encoded = tokenizer(
            list(captions), padding="max_length" if self.padded_to else True, truncation=True, max_length=context,
            return_attention_mask=True, return_tensors="pt",
        )  # fmt: skip
        ids, real = encoded["input_ids"], encoded["attention_mask"] > 0
        if self.readout == "end":
            end = self._end(ids, config)
            require_end(self.name, ids, end, end_token(tokenizer), captions)
            real = torch.arange(ids.shape[1]) <= end[:, None]  # padding repeats the end token in CLIP
        last = {"end": real.sum(-1) - 1, "first": torch.zeros(len(ids), dtype=torch.long)}
        readout = last.get(self.readout, torch.full((len(ids),), ids.shape[1] - 1))
        special = torch.isin(ids, special_ids(tokenizer))
        groups = torch.where(real & ~special, TEXT, OTHER)
        inputs = {"input_ids": ids.to(self.module.device)}
        if not self.padded_to:
            inputs["attention_mask"] = encoded["attention_mask"].to(self.module.device)
        lengths = tokenizer(list(captions), return_length=True, truncation=False, verbose=False)["length"]
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

    def embed(self, batch: Batch) -> Embedded:
        """Embeddings, and where they are projected the patches."""
        if "input_ids" in batch.inputs:
            return Embedded(unit_length(self.module.get_text_features(**batch.inputs).pooler_output))
        if not self.class_token:
            return Embedded(unit_length(self.module.get_image_features(**batch.inputs).pooler_output))
        out = self.module.vision_model(**batch.inputs)
        tokens = self.module.vision_model.post_layernorm(out.last_hidden_state[:, 1:])
        embedding, patches = (self.module.visual_projection(part) for part in (out.pooler_output, tokens))
        return Embedded(unit_length(embedding), unit_length(patches))
