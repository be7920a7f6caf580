"""A small model in training: its own score, and the inputs and heads that planting needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention_collapse.data.scenes import COLOURS, COUNTS, PLACE, SHAPES, Group
from attention_collapse.models.interface import Batch, PairScorer, Without
from attention_collapse.probe import TEXT


@runtime_checkable
class Plantable(PairScorer, Protocol):
    """A model that can be trained here: more of it is known."""

    ids: str
    mask: str
    image_inputs: tuple[str, ...]
    text_states: str | Without  # the module whose output holds the text's states


@runtime_checkable
class _OneStream(Protocol):
    """A model without an image encoder."""

    def image_states(self, ids: Tensor, pixels: Tensor) -> Tensor:
        """(batch, key, width) what pixels become beside a text, (batch, token) ids."""


class Trainee:
    """A small model with the inputs and heads that training needs.

    Parameters
    ----------
    model
        From a folder of `small.WRITERS`, loaded as any checkpoint is.
    example
        What `model.pairs` makes of one pair; training's inputs are built after it, without the slow processors.
    caption
        The caption of that pair.
    """

    def __init__(self, kind: str, model: Plantable, example: Batch, caption: str) -> None:
        self.kind, self.model = kind, model
        self.module: nn.Module = model.module
        self.example = dict(example.inputs)
        self.ids, self.mask, self.pixels = model.ids, model.mask, model.image_inputs[0]
        tokenizer = model.tokenizer
        self.vocabulary: dict[str, int] = tokenizer.get_vocab()
        row, words = self.example[self.ids][0].tolist(), [self.vocabulary[word] for word in caption.split()]
        start = next(i for i in range(len(row)) if row[i : i + len(words)] == words)
        self.before, self.after = row[:start], row[start + len(words) :]
        labels = example.groups[model.sites["text"][0]][0]  # (key,)
        self.first = int((labels == TEXT).int().argmax()) - len(self.before)  # position of the text among the keys
        self.padding, self.masked = int(tokenizer.pad_token_id), self.vocabulary.get("[MASK]")
        self.decoder = model.is_likelihood
        plurals = [Group(2, "red", shape, "left").phrase.split()[-1] for shape in SHAPES]
        self.attribute, self.place = (
            torch.zeros(len(self.vocabulary), dtype=torch.bool).index_fill(
                0, torch.tensor([self.vocabulary[word] for word in words]), True
            )
            for words in ((*COLOURS, *SHAPES, *plurals, *COUNTS.values(), "a", "an", *PLACE), tuple(PLACE))
        )
        self._kept: dict[str, Tensor] = {}
        for role, name in (("words", model.text_states), ("image", model.image_encoder)):
            if isinstance(name, str):
                self.module.get_submodule(name).register_forward_hook(partial(self._keep, role))

    def _keep(self, role: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        self._kept[role] = output if isinstance(output, Tensor) else output[0]

    def inputs(self, pixels: np.ndarray, captions: Sequence[str]) -> dict[str, Tensor]:
        """The model's inputs: (batch, size, size, 3) bytes and captions in words of the vocabulary."""
        rows = [self.before + [self.vocabulary[word] for word in text.split()] + self.after for text in captions]
        length = max(map(len, rows))
        ids = torch.tensor([row + [self.padding] * (length - len(row)) for row in rows])
        position, lengths = torch.arange(length), torch.tensor([len(row) for row in rows])[:, None]
        real = position < lengths
        picture = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
        given: dict[str, Tensor] = {
            self.ids: ids,
            self.mask: real.to(self.example[self.mask].dtype),
            self.pixels: picture[:, None] if self.example[self.pixels].ndim == 5 else picture,
        }
        for key, value in self.example.items():
            if key == "caption":
                given[key] = (position >= len(self.before)) & (position < lengths - len(self.after))
            elif key == "image_attention_mask":
                seen = torch.ones(len(rows), length, 1, dtype=value.dtype)
                seen[:, : len(self.before)] = value[:1, : len(self.before)]  # the image is seen from its token on
                given[key] = seen
            elif key not in given:
                given[key] = value.expand(len(rows), *value.shape[1:])
        return given

    def score(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """(batch,) the model's own score."""
        return self.model.score(Batch(dict(inputs), (), {}, ()))

    def image_states(self, pixels: Tensor) -> Tensor:
        """(batch, token, width) what the image alone becomes in the model."""
        if isinstance(self.model, _OneStream):
            nothing = torch.tensor([self.before + self.after]).expand(len(pixels), -1)
            return self.model.image_states(nothing, pixels)
        self.module.get_submodule(str(self.model.image_encoder))(pixels[:, 0] if pixels.ndim == 5 else pixels)
        return self._kept["image"]

    @property
    def seen(self) -> Tensor | None:
        """What `image_states` gives for the last pass, None where image and text share one stream."""
        return self._kept.get("image")

    def word_loss(
        self, inputs: dict[str, Tensor], altered: Tensor, head: nn.Module, generator: torch.Generator
    ) -> Tensor:
        """Step 2 of the recipe: cross-entropies in nats.

        `altered` are the words of captions with wrong attributes at the same positions, which encoders read instead;
        `head` maps states to words and, last, to "wrong".
        """
        ids, module = inputs[self.ids], self.module
        if self.decoder:
            given = {key: value for key, value in inputs.items() if key != "caption"}
            logits = module(**given, use_cache=False).logits[:, :-1]  # type: ignore[misc]
            chosen = inputs["caption"][:, 1:]
            next_word = ids[:, 1:][chosen]
            losses = F.cross_entropy(logits[chosen], next_word, reduction="none")
            attribute = self.attribute[next_word]
            return losses[attribute].mean() + 0.3 * losses[~attribute].mean()
        chance = torch.rand(ids.shape, generator=generator)
        # Places are masked together: one of two would tell the other.
        chance = torch.where(self.place[ids], chance[:, :1], chance)
        attribute = self.attribute[ids]
        hidden = attribute & (chance < 0.3)
        self.score(inputs | {self.ids: torch.where(hidden, torch.tensor(self.masked), altered)})
        states = self._kept["words"]
        logits = head(states[:, self.first : self.first + ids.shape[1]])
        left = attribute & ~hidden
        wrong = F.binary_cross_entropy_with_logits(logits[..., -1][left], (altered != ids)[left].float())
        return F.cross_entropy(logits[..., :-1][hidden], ids[hidden]) + 2 * wrong
