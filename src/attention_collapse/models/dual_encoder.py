"""What the pipeline needs of a model with an image tower and a text tower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from PIL import Image
from torch import Tensor, nn


@dataclass(frozen=True)
class Batch:
    """Inputs of one tower, and what its tokens are.

    Attributes
    ----------
    inputs
        What the tower's encoder takes: (batch, 3, height, width) pixels or (batch, context) token ids.
    rows
        "all" and "readout" -> (batch, token) weights that add to 1 over the query rows to average over. Padding
        never counts; "readout" is the query whose output feeds the score.
    groups
        (batch or 1, token) group numbers of the keys.
    lengths
        (batch,) number of real tokens, special ones included.
    truncated
        One flag an item: the input was longer than the model's context and was cut.
    """

    inputs: Tensor
    rows: dict[str, Tensor]
    groups: Tensor
    lengths: Tensor
    truncated: tuple[bool, ...]


@dataclass(frozen=True)
class Tower:
    """One encoder: `sites` are its attention modules by name, shallow to deep."""

    name: str  # "vision" or "text"
    sites: tuple[str, ...]


class DualEncoder(Protocol):
    """A model with two towers and no attention between them."""

    name: str
    module: nn.Module
    towers: tuple[Tower, Tower]
    provenance: dict[str, Any]  # weights, their hash and revision, number of parameters, untrained or not
    logit_scale: float

    def image_batch(self, images: Sequence[Image.Image]) -> Batch:
        """Preprocess images as the model's own evaluation transform does."""

    def text_batch(self, texts: Sequence[str]) -> Batch:
        """Tokenise captions."""

    def encode(self, tower: str, batch: Batch) -> Tensor:
        """(batch, width) L2-normalised embeddings."""


@dataclass(frozen=True)
class Provenance:
    """Where a model's weights came from; written into every result."""

    weights: str
    sha256: str | None  # of the weights file
    definition_sha256: str | None  # of configuration and tokenizer, where they lie beside the weights
    revision: str | None
    parameters: int
    untrained: bool
    notes: tuple[str, ...] = field(default=())
