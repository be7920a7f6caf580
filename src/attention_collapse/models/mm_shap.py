"""The game of token-level T-SHAP as the published code of MM-SHAP plays it (Parcalabescu & Frank, ACL 2023).

That code (repository Heidelberg-NLP/MM-SHAP) is a script for each of its three models and a modified copy of shap. A
kind says whose script it is played by (`KindOfModel.mm_shap`), or why by none. Common to the three:

- Every id of the caption counts, start and end tokens too: n of them give a grid of p = ⌈√n⌉ cells per side.
- An absent token is id 0, whatever that is in the vocabulary, and the attention mask stays that of the whole caption.
  The start token is put back into every coalition, so that it takes part in the permutations and has no effect.
- An absent cell is 0 after normalisation. What is left over where p does not divide the image is never absent.
- The permutations are 10: the modified shap has that number in place of `max_evals`.

"clip": the end token is put back too; the score is logits_per_image. "lxmert": the end token is put back; softmax
P(match). "albef": the end token is a player like any word; softmax P(match).
"""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from attention_collapse.errors import DataError, ModelError
from attention_collapse.models.interface import Batch, Described, PairScorer, Without

ABSENT = 0  # the id that stands for every absent token
CLIP, ALBEF, LXMERT = "clip", "albef", "lxmert"
LIKELIHOOD = Without("its score is the likelihood of a caption, and not that of a matching head")
ENDS = {
    CLIP: "start and end tokens are put back",
    LXMERT: "start and end tokens are put back",
    ALBEF: "the start token is put back, the end token is a player",
}


@runtime_checkable
class MatchingHead(PairScorer, Protocol):
    """A `PairScorer` whose score is one of the two logits of an image–text matching head."""

    def match_logits(self, batch: Batch) -> Tensor:
        """(batch, 2) logits of "no match" and of "match"."""


def not_followed(model: Described) -> str:
    """Why the published code cannot be followed for a model; "" where it can."""
    return model.mm_shap.why if isinstance(model.mm_shap, Without) else ""


def script_of(model: Described) -> str:
    """Whose script a model is played by: "clip", "albef" or "lxmert".

    Raises
    ------
    ModelError
        If the published code cannot be followed for it.
    """
    if isinstance(model.mm_shap, str):
        return model.mm_shap
    raise ModelError(
        f"{model.name}: T-SHAP by the protocol mm-shap ({model.mm_shap.why})",
        expected="CLIP's kind of dual encoder, or a fusion encoder with a matching head of two classes",
        remedy="use the protocol native for this model",
    )


def published_side(ids: int) -> int:
    """Cells per side of the image's grid: ⌈√ids⌉, all ids of the caption counted."""
    return isqrt(ids - 1) + 1


def published_players(script: str, text: Tensor) -> Tensor:
    """(token,) booleans: which of the caption's positions can be absent; `text`: those that hold its ids."""
    own, positions = text.clone(), text.nonzero()[:, 0]
    own[positions[0]] = False
    if script != ALBEF:
        own[positions[-1]] = False
    return own


def published_pixels(cells: NDArray[np.bool_], height: int, width: int) -> NDArray[np.bool_]:
    """(..., side²) booleans of cells -> (..., height, width) booleans of pixels, by the published code's arithmetic.

    A cell is height // side by width // side pixels. In a square image (the scripts of CLIP and ALBEF) cells are laid
    out width // (their width) to a row, which exceeds `side` where a cell's width fits more often: the last rows of the
    image then hold none. In any other (LXMERT's) there are `side` to a row. Pixels of no cell are always there.

    Raises
    ------
    DataError
        If the image has fewer pixels than cells along a side.
    """
    side = isqrt(cells.shape[-1])
    tall, wide = height // side, width // side
    if not tall or not wide:
        raise DataError(
            f"{side} × {side} cells over {height} × {width} pixels",
            expected="a pixel or more for each cell",
            remedy="shorten the caption, or use the protocol native",
        )
    columns = width // wide if height == width else side
    row, column = np.arange(height)[:, None] // tall, np.arange(width) // wide
    number = np.where(column < columns, row * columns + column, side**2)  # (height, width)
    always = np.ones((*cells.shape[:-1], 1), bool)
    shown: NDArray[np.bool_] = np.concatenate([cells, always], -1)[..., np.minimum(number, side**2)]
    return shown


def match_probability(model: PairScorer) -> Callable[[Batch], Tensor]:
    """The pass of a batch to its (batch,) probabilities of "match", 0 to 1."""
    if not isinstance(model, MatchingHead):
        raise ModelError(
            f"{model.name}: no matching head of two classes, although its kind says {model.mm_shap!r}",
            expected="a method match_logits: (batch, 2) logits of no match and match",
            remedy="give the kind one, or say mm_shap = Without(reason)",
        )
    return lambda batch: model.match_logits(batch).softmax(-1)[:, 1]
