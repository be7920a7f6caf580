"""The user's score of chosen images with chosen texts, and what can be wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from attention_collapse.errors import ModelError
from attention_collapse.monitor.pairs import HeldOut, Index, take
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

    def _batch(self, pairs: HeldOut, image: Index, text: Index) -> NDArray[np.float64]:
        scores = self.score(take(pairs.image, image.copy()), take(pairs.text, text.copy()))
        n = len(image)
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
