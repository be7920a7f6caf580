"""What the pipeline needs of a model, whatever its kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor, nn

from attention_collapse.errors import ModelError
from attention_collapse.families import DUAL_ENCODER

Pair = tuple[Image.Image, str]


@dataclass(frozen=True)
class Read:
    """Which attention stands for one modality.

    Attributes
    ----------
    tower
        "vision" or "text": whose entropy it is.
    sites
        Attention modules by name, shallow to deep.
    rows
        "all" and "readout" -> (batch, query) weights that add to 1 over the queries to average over. Padding never
        counts; "readout" is the query whose output feeds the score (where all do, as in mean pooling: all).
    lengths
        (batch,) number of tokens of this modality, its special tokens included.
    group
        Take the entropy within this group of keys; None takes it over all keys.
    """

    tower: str
    sites: tuple[str, ...]
    rows: Mapping[str, Tensor]
    lengths: Tensor
    group: int | None = None


@dataclass(frozen=True)
class Batch:
    """Inputs of one forward pass, and what to read from it.

    Attributes
    ----------
    inputs
        What the model's own forward takes.
    reads
        What its attention stands for.
    groups
        site -> (batch or 1, key) group numbers.
    truncated
        One flag an item: a caption was longer than the model's context and was cut.
    """

    inputs: Any
    reads: tuple[Read, ...]
    groups: Mapping[str, Tensor]
    truncated: tuple[bool, ...]


@dataclass(frozen=True)
class Output:
    """What a pass came to.

    Attributes
    ----------
    score
        (batch,) the model's own matching score: ITM logit, or mean log-likelihood of the caption given the image.
    embedding
        (batch, width) L2-normalised, of a dual encoder.
    patches
        (batch, patch, width) L2-normalised patches in the shared space, where the model projects them there.
    """

    score: Tensor | None = None
    embedding: Tensor | None = None
    patches: Tensor | None = None


class Model(Protocol):
    """A vision-language model that says what its tokens are."""

    name: str
    family: str  # one of `families.FAMILIES`
    module: nn.Module | None  # None: a scoring function without weights
    provenance: dict[str, Any]  # weights, their hash and revision, number of parameters, untrained or not
    sites: Mapping[str, tuple[str, ...]]  # tower -> attention modules
    missing: Mapping[str, str]  # see `families.undefined_measures`

    def batch(self, kind: str, contents: Sequence[Any]) -> Batch:
        """Prepare a pass: kind "image" (images) or "text" (captions) of a dual encoder, "pair" of any other."""

    def run(self, batch: Batch) -> Output:
        """One forward pass."""


class TwoTowers(Model, Protocol):
    """A dual encoder: its score is logit_scale · cosine + logit_bias."""

    logit_scale: float
    logit_bias: float


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
    image_processor: str | None = None  # its class: fast and slow ones of one model differ in their pixels


def named_class(found: object) -> str:
    """A class as provenance names it: its library and its name."""
    return f"{type(found).__module__.split('.')[0]}.{type(found).__name__}"


def even_weights(chosen: Tensor) -> Tensor:
    """(batch, query) booleans -> float64 weights that add to 1 over each item's chosen queries."""
    return chosen.double() / chosen.sum(-1, keepdim=True).clamp_min(1)


def one_row(position: Tensor, queries: int) -> Tensor:
    """(batch,) query positions -> (batch, query) weights of 1 there."""
    return torch.nn.functional.one_hot(position, queries).double()


def special_ids(tokenizer: Any) -> Tensor:
    """Ids of a tokenizer's control tokens. An unknown word is a word, though its token is called special."""
    ids, unknown = set(tokenizer.all_special_ids), getattr(tokenizer, "unk_token_id", None)
    roles = {getattr(tokenizer, f"{role}_token_id", None) for role in ("bos", "eos", "pad", "cls", "sep", "mask")}
    return torch.tensor(sorted(ids - ({unknown} - roles)))


def require_device(name: str, device: str) -> None:
    """ModelError if PyTorch cannot use the device."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # also what is not implemented: a RuntimeError
        raise ModelError(
            f"{name}: device {device!r} cannot be used ({str(error).splitlines()[0]})",
            expected="cpu, or a device that PyTorch finds on this machine",
            remedy="use cpu, or install a driver",
        ) from None


def passes(model: Model) -> tuple[str, ...]:
    """The kinds of pass that cover every pair once."""
    return ("image", "text") if model.family == DUAL_ENCODER else ("pair",)
