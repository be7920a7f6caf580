"""BLIP-2."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attention_collapse.families import CROSS_ATTENTION
from attention_collapse.models.fusion_encoder import FusionEncoder, class_token_and_patches
from attention_collapse.models.interface import Batch, Read, Without, even_weights
from attention_collapse.models.mm_shap import ALBEF
from attention_collapse.models.spec import ModelSpec
from attention_collapse.probe import OTHER, TEXT

LABEL = "BLIP-2"
LIBRARY = "transformers"
MODEL_TYPES = ("blip-2",)
CATALOGUE = {
    "blip2-itm-vit-g": {"weights": "hub", "repo": "Salesforce/blip2-itm-vit-g", "licence": "MIT", "millions": 1170},
}  # fmt: skip


class Blip2(FusionEncoder):
    """BLIP-2's Q-Former with its matching head: learned queries cross-attend to the image, and share self-attention
    with the text.

    The cross-attention's queries are the learned ones. The text's entropy is that within the caption, since its
    self-attention also sees the learned queries; its readout are the learned queries, whose outputs the score averages.
    """

    class_name = "Blip2ForImageTextRetrieval"
    family = CROSS_ATTENTION
    vision = r"qformer\.encoder\.layer\.\d+\.crossattention\.attention"
    text = r"qformer\.encoder\.layer\.\d+\.attention\.attention"
    image_encoder = "vision_model"
    image_inputs = Without("not established: the processor joins learned queries to the caption")
    pixels = picture = "pixel_values"
    mm_shap = ALBEF
    text_config = "qformer_config"
    notes = (
        "vision's entropy is that of the learned queries' cross-attention: no text query attends to the image",
        "text's entropy is that within the caption: the text's self-attention also sees the learned queries",
    )

    def __init__(self, name: str, spec: ModelSpec, device: str) -> None:
        super().__init__(name, spec, device)
        crossed = {site.split(".")[3] for site in self.sites["vision"]}
        self.sites["text"] = tuple(site for site in self.sites["text"] if site.split(".")[3] in crossed)

    @property
    def _queries(self) -> int:
        return int(self.module.config.num_query_tokens)

    def _unread(self) -> set[int]:
        image = self.module.config.image_token_index
        return set() if image is None else {int(image)}  # the model slices the placeholders off

    def _context(self) -> int:
        return int(self.module.config.qformer_config.max_position_embeddings)

    def _inputs(self, images: list[Any], texts: list[str], context: int) -> Any:
        tokenizer = self.tokenizer  # the processor's own truncation differs between its versions
        short = [
            tokenizer.decode(ids[1:-1][: context - 2]) if len(ids) > context else text
            for text, ids in zip(texts, tokenizer(texts, verbose=False)["input_ids"], strict=True)
        ]
        return self._processor(images=images, text=short, padding=True, return_tensors="pt")

    def _text_tokens(self, inputs: Any) -> tuple[Tensor, Tensor]:
        ids, mask = inputs["input_ids"], inputs["attention_mask"] > 0
        if (image := self.module.config.image_token_index) is not None and bool((ids == image).any()):
            ids, mask = ids[:, self._queries :], mask[:, self._queries :]  # placeholders that the model slices off
        return ids, mask

    def _reads(self, _inputs: Any, real: Tensor, words: Tensor) -> tuple[tuple[Read, ...], dict[str, Tensor]]:
        config, learned = self.module.config.vision_config, torch.ones(len(real), self._queries, dtype=torch.bool)
        image = class_token_and_patches((config.image_size // config.patch_size) ** 2)
        cross = {"all": even_weights(learned), "readout": even_weights(learned)}
        none = torch.zeros_like(learned)
        joint = {
            "all": even_weights(torch.cat([none, words], 1)),
            "readout": even_weights(torch.cat([learned, torch.zeros_like(words)], 1)),
        }
        reads = (
            Read("vision", self.sites["vision"], cross, torch.full((len(real),), image.shape[1])),
            Read("text", self.sites["text"], joint, real.sum(-1), group=TEXT),
        )
        labels = torch.where(torch.cat([none, words], 1), TEXT, OTHER)
        return reads, self._groups(image, "vision") | self._groups(labels, "text")

    def score(self, batch: Batch) -> Tensor:
        """(batch,) logit of "match", averaged over the learned queries."""
        return self.match_logits(batch)[:, 1]

    def match_logits(self, batch: Batch) -> Tensor:
        """(batch, 2) logits of "no match" and of "match", averaged over the learned queries."""
        logits: Tensor = self.module(**batch.inputs, use_image_text_matching_head=True).logits_per_image
        return logits


load = Blip2.load
