"""PaliGemma."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from attention_collapse.models.decoder import INSTRUCTION, Decoder
from attention_collapse.models.interface import Without

LABEL = "PaliGemma"
LIBRARY = "transformers"
MODEL_TYPES = ("paligemma",)
CATALOGUE = {
    "paligemma-3b": {"weights": "hub", "repo": "google/paligemma-3b-pt-224", "dtype": "bfloat16",
        "licence": "Gemma", "millions": 2923},
}  # fmt: skip


class PaliGemma(Decoder):
    """PaliGemma: image and instruction see each other; the caption, given as suffix, is causal."""

    class_name = "PaliGemmaForConditionalGeneration"
    image_encoder = "model.vision_tower"
    image_inputs = Without("the prompt is written for images and captions together")
    pixels = picture = "pixel_values"
    asks = "answer en {question}"

    def _unread(self) -> set[int]:
        return {self._image_token()}

    def _encode(self, images: list[Any], texts: list[str]) -> tuple[Any, Tensor]:
        prompt = "<image>" + ("caption en" if self.instruction == INSTRUCTION else self.instruction)
        inputs = self._processor(
            images=images, text=[prompt] * len(texts), suffix=texts, padding=True, return_tensors="pt"
        )
        inputs.pop("labels", None)
        end = self.tokenizer.eos_token_id
        suffix = (inputs["token_type_ids"] == 1) & (inputs["attention_mask"] > 0)
        return inputs, suffix & (inputs["input_ids"] != end)


load = PaliGemma.load
