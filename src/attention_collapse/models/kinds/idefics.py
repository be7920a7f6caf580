"""IDEFICS."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attention_collapse.families import CROSS_ATTENTION
from attention_collapse.models.decoder import Decoder
from attention_collapse.models.interface import Read, Without
from attention_collapse.models.sites import matching_sites
from attention_collapse.probe import IMAGE, OTHER, TEXT

LABEL = "IDEFICS"
LIBRARY = "transformers"
MODEL_TYPES = ("idefics",)
CATALOGUE = {
    "idefics-9b": {"weights": "hub", "repo": "HuggingFaceM4/idefics-9b", "dtype": "bfloat16",
        "licence": "LLaMA non-commercial", "millions": 8929},
}  # fmt: skip


class Idefics(Decoder):
    """IDEFICS (Flamingo): gated cross-attention from the text to the image's resampled latents, every few layers."""

    class_name = "IdeficsForVisionText2Text"
    family = CROSS_ATTENTION
    layers = r"model\.layers\.\d+\.self_attn"
    image_encoder = "model.vision_model"
    image_inputs = ("pixel_values",)
    pixels = Without("the picture is one of a list of pictures")
    picture = Without("the image's keys may be latents that a resampler makes of its patches")
    text_states = Without("its own head says the next words")
    notes = ("the image's keys in cross-attention are the resampler's latents, where there is one, not patches",)

    def _find_sites(self) -> dict[str, tuple[str, ...]]:
        text = matching_sites(self.name, self.module, self.layers)
        cross = matching_sites(self.name, self.module, r"model\.gated_cross_attn_layers\.\d+\.cross_attn")
        interval = self.module.config.cross_layer_interval
        return {"vision": cross, "text": tuple(text[index * interval] for index in range(len(cross)))}

    def _encode(self, images: list[Any], texts: list[str]) -> tuple[Any, Tensor]:
        prompt, tokenizer = f"{self.instruction} Assistant:", self.tokenizer
        inputs = self._processor(
            text=[[image, f"{prompt} {text}"] for image, text in zip(images, texts, strict=True)], padding=True,
            return_tensors="pt",
        )  # fmt: skip
        before = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        lengths = [len(tokenizer(f"{prompt} {text}", add_special_tokens=False)["input_ids"]) - before for text in texts]
        ids, real = inputs["input_ids"], inputs["attention_mask"] > 0
        end = real.sum(-1, keepdim=True)
        # The processor closes the text with an end token: it is no part of the caption.
        end = end - (ids.gather(1, end - 1) == tokenizer.eos_token_id).long()
        position = torch.arange(ids.shape[1])
        return inputs, (position < end) & (position >= end - torch.tensor(lengths)[:, None])

    def _reads(self, inputs: Any, caption: Tensor) -> tuple[tuple[Read, ...], dict[str, Tensor]]:
        config, pictures = self.module.config, inputs["pixel_values"].shape[1]
        if config.use_resampler:
            one = torch.full((config.perceiver_config.resampler_n_latents,), IMAGE)
        else:
            patches = (config.vision_config.image_size // config.vision_config.patch_size) ** 2
            one = torch.cat([torch.tensor([OTHER]), torch.full((patches,), IMAGE)])
        keys = one.repeat(pictures)[None]
        rows = self._rows(caption)
        reads = (
            Read("vision", self.sites["vision"], rows, torch.full((len(caption),), len(one))),
            Read("text", self.sites["text"], rows, caption.sum(-1)),
        )
        labels = torch.where(caption, TEXT, OTHER)
        return reads, dict.fromkeys(self.sites["vision"], keys) | dict.fromkeys(self.sites["text"], labels)


load = Idefics.load
