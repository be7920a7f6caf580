"""What the fusion encoders of the transformers library share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from attention_collapse.families import SINGLE_STREAM
from attention_collapse.models.interface import Batch, Read, even_weights, one_row, special_ids
from attention_collapse.models.pretrained import TransformersModel
from attention_collapse.models.sites import matching_sites
from attention_collapse.models.spec import ModelSpec
from attention_collapse.models.vocabulary import require_start
from attention_collapse.probe import IMAGE, OTHER, TEXT


class FusionEncoder(TransformersModel, ABC, base=True):
    """A `PairScorer`. A kind says where its attention is, what its tokens are, and what its score is."""

    family: ClassVar[str]
    vision: ClassVar[str]  # attention modules read for vision, a regular expression
    text: ClassVar[str]
    caption: ClassVar[str] = "attention_mask"
    is_likelihood: ClassVar[bool] = False
    token_embedding: ClassVar[None] = None  # the score is no likelihood

    def __init__(self, name: str, spec: ModelSpec, device: str) -> None:
        super().__init__(name, spec, device)
        patterns = {"vision": self.vision, "text": self.text}
        self.sites = {tower: matching_sites(name, self.module, pattern) for tower, pattern in patterns.items()}
        require_start(name, self.tokenizer)

    def pairs(self, pictures: Sequence[Image.Image], captions: Sequence[str]) -> Batch:
        """Inputs of image–caption pairs."""
        tokenizer = self.tokenizer
        tokenizer.padding_side = "right"
        inputs = self._inputs(list(pictures), list(captions), self._context())
        lengths = tokenizer(list(captions), return_length=True, truncation=False, verbose=False)["length"]
        ids, mask = self._text_tokens(inputs)
        special = torch.isin(ids, special_ids(tokenizer))
        reads, groups = self._reads(inputs, mask, mask & ~special)
        inputs = inputs.to(self.module.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(self.module.dtype)
        return Batch(dict(inputs), reads, groups, tuple(int(length) > self._context() for length in lengths))

    def _context(self) -> int:
        """Longest caption in tokens."""
        config = self.module.config
        return int(getattr(config, "text_config", config).max_position_embeddings)

    def _inputs(self, images: list[Any], texts: list[str], context: int) -> Any:
        return self._processor(
            images=images, text=texts, padding=True, truncation=True, max_length=context, return_tensors="pt"
        )

    def _text_tokens(self, inputs: Any) -> tuple[Tensor, Tensor]:
        """(batch, token) ids of the caption with its special tokens, and which of them are real."""
        return inputs["input_ids"], inputs["attention_mask"] > 0

    def _groups(self, groups: Tensor, *towers: str) -> dict[str, Tensor]:
        return dict.fromkeys([site for tower in towers for site in self.sites[tower]], groups)

    def _first(self, batch: int, queries: int) -> Tensor:
        return one_row(torch.zeros(batch, dtype=torch.long), queries)

    @abstractmethod
    def _reads(self, inputs: Any, real: Tensor, words: Tensor) -> tuple[tuple[Read, ...], dict[str, Tensor]]:
        """What to read, and the key groups; `real` and `words`: (batch, token), with and without special tokens."""

    @abstractmethod
    def score(self, batch: Batch) -> Tensor:
        """(batch,) the matching score of each pair."""


class SingleStreamEncoder(FusionEncoder, base=True):
    """Both modalities in one sequence: text queries are read, the entropy being taken within each group."""

    family = SINGLE_STREAM

    def _joint(self, labels: Tensor, words: Tensor, real: Tensor, patches: Tensor) -> tuple[Any, dict[str, Tensor]]:
        rows = {"all": even_weights(words), "readout": self._first(*words.shape)}
        reads = (
            Read("vision", self.sites["vision"], rows, patches, group=IMAGE),
            Read("text", self.sites["text"], rows, real.sum(-1), group=TEXT),
        )
        return reads, self._groups(labels, "vision")


def class_token_and_patches(patches: int) -> Tensor:
    """(1, key) groups of an image encoder's tokens: the class token first, which is neither image nor text."""
    groups = torch.full((1, 1 + patches), IMAGE)
    groups[:, 0] = OTHER
    return groups
