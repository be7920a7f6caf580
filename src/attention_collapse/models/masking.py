"""One image with captions as games: a model's score when some of a caption's tokens and the image's cells are absent.

- An absent token becomes the tokenizer's mask token; without one the unknown token; else padding; else id 0, as in the
  code of MM-SHAP for CLIP, whose unknown and padding tokens are its end token. Start and end tokens stay, and so does
  every token's position. An absent cell is 0 after the processor's normalisation.
- Where the processor cuts the image into tiles or flattened patches, an absent cell is painted in the image's mean
  colour before the processor; tokens as above.
- Where the tokens are not known (a user's own module, a scoring function), the players are the words between spaces. An
  absent word becomes "_", so that no caption is ever empty; cells are painted.

A score that is a likelihood stays that of the whole caption: absent tokens are replaced where the model reads them, not
where it predicts them. Otherwise the replacements' improbability would count as the text's part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import isqrt
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from attention_collapse.families import DUAL_ENCODER
from attention_collapse.models.interface import Batch, Model, Output, TwoTowers, special_ids
from attention_collapse.probe import TEXT

Mask = NDArray[np.bool_]  # (coalition, player): what is present
IDS, PIXELS = ("input_ids", "text", "ids"), ("pixel_values", "image", "pixels")  # inputs of this package's own kinds
REAL = ("caption", "words", "attention_mask")  # likewise: which tokens are the caption's, or at least no padding
BLANK = "_"


class Game:
    """The score of one image–caption pair as a function of what is present.

    Attributes
    ----------
    tokens
        Players of the text: the caption's tokens without start and end, or its words.
    masking
        How tokens and cells are taken away, in words.
    """

    def __init__(self, tokens: int, masking: str, scores: Callable[[Mask, Mask], Tensor]) -> None:
        self.tokens, self.masking, self._scores = tokens, masking, scores

    def __call__(self, coalitions: Mask) -> NDArray[np.float64]:
        """(coalition, tokens + side²) booleans, tokens first, then cells row by row -> (coalition,) scores."""
        values: NDArray[np.float64] = self._scores(coalitions[:, : self.tokens], coalitions[:, self.tokens :]).numpy()
        return values


def games(model: Model, image: Image.Image, captions: Sequence[str], batch_size: int) -> list[Game]:
    """The games of one image with each caption.

    A dual encoder encodes each distinct masked caption once, and each distinct masked image once for all the captions;
    any other model runs each coalition.
    """
    if model.family == DUAL_ENCODER:
        return _dual_games(cast("TwoTowers", model), image, captions, batch_size)
    found = []
    for caption in captions:
        item = _Masked(model, "pair", (image, caption))

        def scores(tokens: Mask, cells: Mask, item: _Masked = item) -> Tensor:
            parts = [cast("Tensor", item.run(t, c).score) for t, c in _chunks(tokens, cells, batch_size)]
            return torch.cat([part.double().cpu() for part in parts])

        found.append(Game(item.tokens, item.masking, scores))
    return found


def _dual_games(model: TwoTowers, image: Image.Image, captions: Sequence[str], batch_size: int) -> list[Game]:
    picture = _Masked(model, "image", image)
    seen: dict[bytes, Tensor] = {}  # which cells are present -> embedding of the image

    def encode(item: _Masked, masks: Mask) -> Tensor:
        parts = [cast("Tensor", item.run(part, part).embedding) for part, _ in _chunks(masks, masks, batch_size)]
        return torch.cat([part.double().cpu() for part in parts])  # (mask, width)

    def images(cells: Mask) -> Tensor:
        masks = {row.tobytes(): row for row in cells}
        new = [key for key in masks if key not in seen]
        if new:
            seen.update(zip(new, encode(picture, np.stack([masks[key] for key in new])), strict=True))
        return torch.stack([seen[row.tobytes()] for row in cells])

    found = []
    for caption in captions:
        item = _Masked(model, "text", caption)

        def scores(tokens: Mask, cells: Mask, item: _Masked = item) -> Tensor:
            distinct, index = np.unique(tokens, axis=0, return_inverse=True)
            texts = encode(item, distinct)[torch.from_numpy(index.ravel())]  # (coalition, width)
            return model.logit_scale * (images(cells) * texts).sum(-1) + model.logit_bias

        found.append(Game(item.tokens, f"{item.masking}; {picture.masking}", scores))
    return found


def _chunks(tokens: Mask, cells: Mask, size: int) -> Iterator[tuple[Mask, Mask]]:
    for start in range(0, len(tokens), size):
        yield tokens[start : start + size], cells[start : start + size]


class _Masked:
    """One item of a pass (kind "image", "text" or "pair"), run with parts of it absent."""

    def __init__(self, model: Model, kind: str, content: Any) -> None:
        self._model, self._kind, self._content = model, kind, content
        self._batch, tokenizer = model.batch(kind, [content]), _tokenizer(model)
        inputs = {} if tokenizer is None else self._batch.inputs  # a user's own names need not mean the same
        self._ids = None if kind == "image" else next((name for name in IDS if name in inputs), None)
        self._pixels = None if kind == "text" else next((name for name in PIXELS if name in inputs), None)
        if self._pixels is not None and inputs[self._pixels].ndim != 4:  # (batch, channel, height, width)
            self._pixels = None
        self.tokens, ways = 0, []
        if self._ids is not None:
            ids = inputs[self._ids][0].cpu()
            self._own = _caption_tokens(self._batch, ids) & ~torch.isin(ids, _control_ids(model, tokenizer))  # (token,)
            self.tokens, self._absent = int(self._own.sum()), _absent_token(tokenizer)
            ways.append(f"absent tokens are id {self._absent}")
        elif kind != "image":
            self.tokens = len(content[1].split())
            ways.append(f"absent words are {BLANK!r}")
        if kind != "text":
            ways.append(f"absent cells are {'0 after normalisation' if self._pixels else 'the mean colour'}")
        self.masking = "; ".join(ways)

    @torch.inference_mode()
    def run(self, tokens: Mask, cells: Mask) -> Output:
        """A pass of (coalition, token) and (coalition, cell) booleans; an image or caption alone ignores the other."""
        batch = self._cells_absent(tokens, cells)
        if self._ids is None:
            return self._model.run(batch)
        ids = batch.inputs[self._ids].clone()  # (coalition, token)
        ids[:, self._own] = ids[:, self._own].where(torch.from_numpy(tokens).to(ids.device), self._absent)
        if "caption" in batch.inputs or {"text", "words"} <= batch.inputs.keys():  # what a likelihood needs
            with _reading(self._model, ids):
                return self._model.run(batch)
        return self._model.run(replace(batch, inputs={**batch.inputs, self._ids: ids}))

    def _cells_absent(self, tokens: Mask, cells: Mask) -> Batch:
        """The batch with its cells absent, and with its words absent where token ids are not known."""
        if (self._kind != "text" and self._pixels is None) or (self._kind != "image" and self._ids is None):
            return self._model.batch(self._kind, [self._altered(*masks) for masks in zip(tokens, cells, strict=True)])
        inputs = {
            name: value.repeat_interleave(len(tokens), 0) if isinstance(value, Tensor) else value
            for name, value in self._batch.inputs.items()
        }
        if self._pixels is not None:
            pixels = inputs[self._pixels]  # (coalition, channel, height, width)
            shown = torch.from_numpy(_by_pixel(cells, *pixels.shape[2:])).to(pixels.device)
            inputs[self._pixels] = pixels.where(shown[:, None], 0)
        return replace(self._batch, inputs=inputs)

    def _altered(self, tokens: Mask, cells: Mask) -> Any:
        """The image, or the pair, before the processor: cells painted, and words blanked if they are the players."""
        if self._kind == "image":
            return _painted(self._content, cells)
        image, caption = self._content
        if self._ids is None:
            caption = " ".join(word if here else BLANK for word, here in zip(caption.split(), tokens, strict=True))
        return _painted(image, cells), caption


def _by_pixel(cells: Mask, height: int, width: int) -> Mask:
    """(..., side²) booleans of a square grid's cells -> (..., height, width) booleans of the pixels in them."""
    side = isqrt(cells.shape[-1])
    row, column = (np.arange(size) * side // size for size in (height, width))
    pixels: Mask = cells.reshape(*cells.shape[:-1], side, side)[..., row[:, None], column]
    return pixels


def _painted(image: Image.Image, cells: Mask) -> Image.Image:
    """The image with its absent cells in its mean colour; cells: (side²,)."""
    pixels = np.asarray(image.convert("RGB"))
    mean = pixels.mean((0, 1)).round().astype(np.uint8)
    return Image.fromarray(np.where(_by_pixel(cells, *pixels.shape[:2])[..., None], pixels, mean))


def _tokenizer(model: Model) -> Any:
    """The tokenizer of one of this package's kinds; None of a user's own model."""
    processor = getattr(model, "_processor", None)
    tokenizer = getattr(model, "_tokenizer", None) if processor is None else processor.tokenizer
    return getattr(tokenizer, "tokenizer", tokenizer)  # open_clip wraps a tokenizer of transformers


def _caption_tokens(batch: Batch, ids: Tensor) -> Tensor:
    """(token,) booleans: the caption among the ids of one item; control tokens may still be among it."""
    for name in REAL:
        if name in batch.inputs:
            real: Tensor = batch.inputs[name][0].cpu() > 0
            return real
    [read] = batch.reads
    return batch.groups[read.sites[0]][0, : len(ids)].cpu() == TEXT


def _control_ids(model: Model, tokenizer: Any) -> Tensor:
    """Ids that are never players: control tokens, and the image's placeholder."""
    config = getattr(model.module, "config", None)
    image = getattr(config, "image_token_index", getattr(config, "image_token_id", None))
    return torch.cat([special_ids(tokenizer), torch.tensor([] if image is None else [image], dtype=torch.long)])


def _absent_token(tokenizer: Any) -> int:
    """Id of what stands for an absent token: mask, unknown or padding token, unless it starts or ends texts; else 0."""
    mask, unknown, padding, *ends = (
        getattr(tokenizer, f"{role}_token_id", None) for role in ("mask", "unk", "pad", "bos", "eos", "cls", "sep")
    )
    return next((int(token) for token in (mask, unknown, padding) if token is not None and token not in ends), 0)


@contextmanager
def _reading(model: Model, ids: Tensor) -> Iterator[None]:
    """Within the context the model reads these ids, (batch, token), while what it is to predict stays its input's."""
    module: Any = model.module
    own = hasattr(module, "get_input_embeddings")
    embedding = module.get_input_embeddings() if own else module.text.token_embedding
    handle = embedding.register_forward_pre_hook(lambda _module, args: (ids[:, : args[0].shape[1]], *args[1:]))
    try:
        yield
    finally:
        handle.remove()
