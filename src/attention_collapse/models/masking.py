"""One image with captions as games: a model's score when some of a caption's tokens and the image's cells are absent.

There are two protocols. By `mm-shap` tokens, cells and scores are those of MM-SHAP's published code (`mm_shap`), where
it can be followed for a kind. By `native`, which knows every kind:

- An absent token becomes the tokenizer's mask token; without one the unknown token; else padding; else id 0, as in the
  code of MM-SHAP for CLIP, whose unknown and padding tokens are its end token. Start and end tokens stay, and so does
  every token's position. An absent cell is 0 after the processor's normalisation.
- Where the processor cuts the image into tiles or flattened patches, an absent cell is painted in the image's mean
  colour before the processor; tokens as above.
- Where the tokens are not known (a user's own module, a scoring function), the players are the words between spaces. An
  absent word becomes "_", so that no caption is ever empty; cells are painted.

A score that is a likelihood stays that of the whole caption: absent tokens are replaced where the model reads them, not
where it predicts them. Otherwise the replacements' improbability would count as the text's part. What a caption's last
token is read as feeds no prediction that is scored, so that token is no player: a caption of one token has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import isqrt
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from attention_collapse.measures.token_shapley import grid_side
from attention_collapse.models.interface import (
    Batch,
    DualEncoder,
    Embedded,
    Model,
    PairScorer,
    Without,
    special_ids,
)
from attention_collapse.models.mm_shap import (
    ABSENT,
    ENDS,
    match_probability,
    not_followed,
    published_pixels,
    published_players,
    published_side,
    script_of,
)
from attention_collapse.models.protocols import MM_SHAP, NATIVE
from attention_collapse.probe import TEXT

Mask = NDArray[np.bool_]  # (coalition, player): what is present
BLANK = "_"
Given = TypeVar("Given")  # what a pass gives


class Game:
    """The score of one image–caption pair as a function of what is present.

    Attributes
    ----------
    tokens
        Players of the text: the caption's tokens without start and end (and without its last where the score is their
        likelihood), or its words.
    slots
        The tokens that permutations are drawn over: those, and by `mm-shap` the ones that are put back.
    side
        Cells per side of the image's grid.
    masking
        How tokens and cells are taken away, in words.
    """

    def __init__(
        self, tokens: int, slots: int, side: int, masking: str, scores: Callable[[Mask, Mask], Tensor]
    ) -> None:
        self.tokens, self.slots, self.side, self.masking, self._scores = tokens, slots, side, masking, scores

    def __call__(self, coalitions: Mask) -> NDArray[np.float64]:
        """(coalition, tokens + side²) booleans, tokens first, then cells row by row -> (coalition,) scores."""
        values: NDArray[np.float64] = self._scores(coalitions[:, : self.tokens], coalitions[:, self.tokens :]).numpy()
        return values


def not_playable(model: Model, protocol: str) -> str:
    """Why a model has no game by a protocol; "" where it has."""
    return not_followed(model) if protocol == MM_SHAP else ""


def games(
    model: Model, image: Image.Image, captions: Sequence[str], batch_size: int, protocol: str = NATIVE
) -> list[Game]:
    """The games of one image with each caption.

    A dual encoder encodes each distinct masked caption once, and each distinct masked image once for all the captions;
    any other model runs each coalition.

    Raises
    ------
    ModelError
        If the protocol is `mm-shap` and the published code cannot be followed for the model.
    """
    script = script_of(model) if protocol == MM_SHAP else None
    if isinstance(model, DualEncoder):
        return _dual_games(model, image, captions, batch_size, script)
    found, score = [], match_probability(model) if script else model.score
    for caption in captions:
        item = _Masked(model, model.pairs, score, image, caption, script=script)

        def scores(tokens: Mask, cells: Mask, item: _Masked[Tensor] = item) -> Tensor:
            return torch.cat([item.run(t, c).cpu().double() for t, c in _chunks(tokens, cells, batch_size)])

        masking = f"{item.masking}; the score is P(match)" if script else item.masking
        found.append(Game(item.tokens, item.slots, item.side, masking, scores))
    return found


def _dual_games(
    model: DualEncoder, image: Image.Image, captions: Sequence[str], batch_size: int, script: str | None
) -> list[Game]:
    picture = _Masked(model, lambda images, _texts: model.images(images), model.embed, image, None, script=script)
    seen: dict[bytes, Tensor] = {}  # which cells are present -> embedding of the image

    def encode(item: _Masked[Embedded], masks: Mask) -> Tensor:
        parts = [item.run(part, part).embedding for part, _ in _chunks(masks, masks, batch_size)]
        return torch.cat([part.cpu().double() for part in parts])  # (mask, width)

    def images(cells: Mask) -> Tensor:
        masks = {row.tobytes(): row for row in cells}
        new = [key for key in masks if key not in seen]
        if new:
            seen.update(zip(new, encode(picture, np.stack([masks[key] for key in new])), strict=True))
        return torch.stack([seen[row.tobytes()] for row in cells])

    found = []
    for caption in captions:
        item = _Masked(model, lambda _images, texts: model.texts(texts), model.embed, None, caption, script=script)

        def scores(tokens: Mask, cells: Mask, item: _Masked[Embedded] = item) -> Tensor:
            distinct, index = np.unique(tokens, axis=0, return_inverse=True)
            texts = encode(item, distinct)[torch.from_numpy(index.ravel())]  # (coalition, width)
            return model.logit_scale * (images(cells) * texts).sum(-1) + model.logit_bias

        masking = f"{item.masking}; {picture.masking}"
        found.append(Game(item.tokens, item.slots, item.side, masking, scores))
    return found


def _chunks(tokens: Mask, cells: Mask, size: int) -> Iterator[tuple[Mask, Mask]]:
    for start in range(0, len(tokens), size):
        yield tokens[start : start + size], cells[start : start + size]


class _Masked(Generic[Given]):
    """An image, a caption, or a pair of them, run with parts of it absent.

    `prepare` makes a batch of as many images and captions, ignoring what is not there, and `forward` is the pass.
    `script` names the script of MM-SHAP that is followed; None: the protocol is `native`.
    """

    def __init__(
        self, model: Model, prepare: Callable[[list[Any], list[Any]], Batch], forward: Callable[[Batch], Given],
        image: Image.Image | None, caption: str | None, *, script: str | None,
    ) -> None:  # fmt: skip
        self._forward: Callable[[Batch], Given] = forward
        self._prepare, self._image, self._caption = prepare, image, caption
        self._batch = prepare([image], [caption])
        self._ids = model.ids if caption is not None and isinstance(model.ids, str) else None
        self._pixels = model.pixels if image is not None and isinstance(model.pixels, str) else None
        self._reader = model.token_embedding if isinstance(model, PairScorer) else None
        self._shown = published_pixels if script else _by_pixel
        self.tokens = self.slots = self.side = 0
        ways = [] if caption is None else [self._choose_players(model, caption, script)]
        if caption is not None:
            self.side = published_side(self.slots) if script else grid_side(self.tokens)
        if image is not None:
            ways.append(f"absent cells are {'0 after normalisation' if self._pixels else 'the mean colour'}")
            if script:
                ways.append("pixels beyond the last whole cell are never absent")
        self.masking = "; ".join(ways)

    def _choose_players(self, model: Model, caption: str, script: str | None) -> str:
        """Which tokens or words can be absent, and what stands for them; in words, how they are taken away."""
        if self._ids is None:
            self.tokens = self.slots = len(caption.split())
            return f"absent words are {BLANK!r}"
        ids = self._batch.inputs[self._ids][0].cpu()
        if script:
            text = _positions(model.caption, self._batch, ids) & ~torch.isin(ids, _placeholder(model))  # (token,)
            self._own, self._absent = published_players(script, text), ABSENT
            self.tokens, self.slots = int(self._own.sum()), int(text.sum())
            return f"absent tokens are id {ABSENT} and attended, {ENDS[script]}"
        control = torch.cat([special_ids(model.tokenizer), _placeholder(model)])  # never players
        self._own = _caption_tokens(model.caption, self._batch, ids) & ~torch.isin(ids, control)  # (token,)
        if self._reader is not None:
            self._own[self._own.nonzero()[-1:]] = False  # no scored prediction follows it
        self._absent = _absent_token(model.tokenizer)
        self.tokens = self.slots = int(self._own.sum())
        return f"absent tokens are id {self._absent}"

    @torch.inference_mode()
    def run(self, tokens: Mask, cells: Mask) -> Given:
        """A pass of (coalition, token) and (coalition, cell) booleans; an image or caption alone ignores the other."""
        batch = self._cells_absent(tokens, cells)
        if self._ids is None:
            return self._forward(batch)
        ids = batch.inputs[self._ids].clone()  # (coalition, token)
        ids[:, self._own] = ids[:, self._own].where(torch.from_numpy(tokens).to(ids.device), self._absent)
        if self._reader is not None:  # what a likelihood needs
            with _reading(self._reader, ids):
                return self._forward(batch)
        return self._forward(replace(batch, inputs={**batch.inputs, self._ids: ids}))

    def _cells_absent(self, tokens: Mask, cells: Mask) -> Batch:
        """The batch with its cells absent, and with its words absent where token ids are not known."""
        painted, blanked = (
            here is not None and name is None
            for here, name in ((self._image, self._pixels), (self._caption, self._ids))
        )
        if painted or blanked:
            images = [self._image and _painted(self._image, mask) for mask in cells]
            texts = [_blanked(self._caption, mask) if blanked and self._caption else self._caption for mask in tokens]
            return self._prepare(images, texts)
        inputs = {
            name: value.repeat_interleave(len(tokens), 0) if isinstance(value, Tensor) else value
            for name, value in self._batch.inputs.items()
        }
        if self._pixels is not None:
            pixels = inputs[self._pixels]  # (coalition, channel, height, width)
            shown = torch.from_numpy(self._shown(cells, *pixels.shape[2:])).to(pixels.device)
            inputs[self._pixels] = pixels.where(shown[:, None], 0)
        return replace(self._batch, inputs=inputs)


def _blanked(caption: str, words: Mask) -> str:
    return " ".join(word if here else BLANK for word, here in zip(caption.split(), words, strict=True))


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


def _caption_tokens(mark: str | Without, batch: Batch, ids: Tensor) -> Tensor:
    """(token,) booleans: the caption among the ids of one item; control tokens may still be among it."""
    if isinstance(mark, str):
        real: Tensor = batch.inputs[mark][0].cpu() > 0
        return real
    [read] = batch.reads
    return batch.groups[read.sites[0]][0, : len(ids)].cpu() == TEXT


def _positions(mark: str | Without, batch: Batch, ids: Tensor) -> Tensor:
    """(token,) booleans: the caption with its start and end tokens among the ids of one item; they come first."""
    if isinstance(mark, str):
        real: Tensor = batch.inputs[mark][0].cpu() > 0
        return real
    [read] = batch.reads
    return torch.arange(len(ids)) < int(read.lengths[0])


def _placeholder(model: Model) -> Tensor:
    """(1,) the id that stands for the image among the text's, or (0,)."""
    config = getattr(model.module, "config", None)
    image = getattr(config, "image_token_index", getattr(config, "image_token_id", None))
    return torch.tensor([] if image is None else [image], dtype=torch.long)


def _absent_token(tokenizer: Any) -> int:
    """Id of what stands for an absent token: mask, unknown or padding token, unless it starts or ends texts; else 0."""
    mask, unknown, padding, *ends = (
        getattr(tokenizer, f"{role}_token_id", None) for role in ("mask", "unk", "pad", "bos", "eos", "cls", "sep")
    )
    return next((int(token) for token in (mask, unknown, padding) if token is not None and token not in ends), 0)


@contextmanager
def _reading(embedding: Any, ids: Tensor) -> Iterator[None]:
    """Within the context this module reads these ids, (batch, token); what is to be predicted stays the input's."""
    handle = embedding.register_forward_pre_hook(lambda _module, args: (ids[:, : args[0].shape[1]], *args[1:]))
    try:
        yield
    finally:
        handle.remove()
