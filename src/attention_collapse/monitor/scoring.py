"""The user's score of chosen images with chosen texts, and what can be wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attention_collapse.errors import AttentionCollapseError, ModelError
from attention_collapse.monitor.pairs import HeldOut, Index, Inputs, described, take
from attention_collapse.monitor.settings import Score


@dataclass(frozen=True)
class Scorer:
    """Scores pairs by the user's function, some at a time.

    Attributes
    ----------
    score
        As of `Monitor`.
    batch_size
        Pairs at a time; None: all at once, for each partner.
    highest
        The highest label there is.
    labelled
        Whether the held-out pairs have labels.
    """

    score: Score
    batch_size: int | None
    highest: int
    labelled: bool = field(kw_only=True)

    def __call__(self, pairs: HeldOut, image: Index, text: Index) -> NDArray[np.float64]:
        """(pair, partner[, candidate]) scores of the images and the texts at these positions."""
        images, texts = np.broadcast_arrays(image, text)
        n, most = images.size, self.batch_size or len(images)
        found = [
            self._batch(pairs, images.ravel()[start : start + most], texts.ravel()[start : start + most])
            for start in range(0, n, most)
        ]
        scores = np.concatenate(found)
        return scores.reshape(*images.shape, *scores.shape[1:])

    def _called(self, image: Inputs, text: Inputs) -> object:
        """What the user's function gives; its own exception is the cause of ours, except where memory ran out."""
        try:
            return self.score(image, text)
        except (AttentionCollapseError, torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:
            said = str(error).splitlines()
            raise ModelError(
                f"score(image, text) of held-out pairs failed: {type(error).__name__}: {said[0] if said else 'no text'}"
                f" (image: {described(image)}; text: {described(text)})",
                expected="a function that takes some of the held-out images and as many of the held-out texts",
                remedy="hold out what the forward pass takes, on its device, or convert it in `score`; for a model "
                "with more than two inputs, a mapping of tensors as image or text",
            ) from error

    def _batch(self, pairs: HeldOut, image: Index, text: Index) -> NDArray[np.float64]:
        n, scores = len(image), self._called(take(pairs.image, image.copy()), take(pairs.text, text.copy()))
        if not isinstance(scores, Tensor) or scores.ndim not in (1, 2) or len(scores) != n or scores.shape[1:] == (1,):
            shape = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise ModelError(
                f"score(image, text) of {n} pairs gave {shape}",
                expected=f"a tensor of shape ({n},), or ({n}, candidates) with two candidates or more",
                remedy="return one number per pair, such as logits.squeeze(-1), or logits[:, 1] - logits[:, 0]",
            )
        if scores.ndim == 2 and scores.shape[1] == n > self.highest + 1:
            raise ModelError(
                f"score(image, text) of {n} pairs gave ({n}, {n})",
                expected="scores of these pairs, not of every image with every text",
                remedy="return the diagonal; if these are logits of that many candidates, set another batch_size",
            )
        if scores.ndim == 2 and (not self.labelled or scores.shape[1] <= self.highest):
            raise ModelError(
                f"score(image, text) gave {scores.shape[1]} candidates, and the highest label is {self.highest}",
                expected="labels, all below the number of candidates",
                remedy="give each right candidate's number as target",
            )  # fmt: skip
        if scores.ndim == 1 and self.highest > 1:
            raise ModelError(
                f"score(image, text) gave one number per pair, and the highest label is {self.highest}",
                expected="labels 0 and 1, or one logit per candidate", remedy="return (pair, candidate) logits",
            )  # fmt: skip
        return np.asarray(scores.detach().cpu().double().numpy(), np.float64)


NOISE = 0.01  # of the scores' spread: what rounding never reaches


def require_same(one: NDArray[np.float64], again: NDArray[np.float64]) -> None:
    """ModelError where the same pairs get other scores a second time: chance would count as use of a modality."""
    known = np.isfinite(one) & np.isfinite(again)
    if not known.any():
        return
    moved = float(np.abs(one[known] - again[known]).max())
    if moved > NOISE * one[known].std() and moved > 0:
        raise ModelError(
            f"the same held-out pairs got scores that differ by up to {moved:.3g} when they were scored again",
            expected="a score without chance in evaluation mode",
            remedy="leave out what draws at random: dropout that does not heed `training`, noise, sampled features",
        )
