"""A remedy at inference, for a model that cannot be trained again: its answers against those without the image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from attention_collapse.arguments import number
from attention_collapse.errors import DataError


@dataclass(frozen=True)
class ContrastiveDecoding:
    """What an answer owes to the image is counted again; what it gets without the image is subtracted.

    score' = (1 + α) · log p(answer | image, text) − α · log p(answer | other image, text), among the answers that are
    plausible with the image: those with p ≥ β · (the greatest p). The other image says nothing of this pair: blurred
    or noisy as in the paper, the mean picture, or another pair's. It costs one more forward pass for each other image.

    It rests on a score that holds a prior of the text beside what the image says. A model that ignores its image
    scores alike with any, so that nothing is gained; and of a model that uses it, another pair's image is evidence
    too, and what is taken off is more than a prior.

    Parameters
    ----------
    alpha
        Strength, 0 or more; 0 is the model's own score, bit for bit. 1 in the paper.
    beta
        Cut-off, 0 to 1: 0 keeps every answer, 1 the model's own choice alone. 0.1 is the default of the paper's code.

    Raises
    ------
    ParamsError
        `alpha` is negative or infinite, or `beta` not between 0 and 1.
    """

    alpha: float = 1.0
    beta: float = 0.1

    name: ClassVar[str] = "contrastive-decoding"
    source: ClassVar[str] = "visual contrastive decoding: Leng et al., CVPR 2024 (arXiv:2311.16922)"
    needs: ClassVar[str] = "log-probabilities of the answers, or the log-odds of a match"

    def __post_init__(self) -> None:
        number("alpha", self.alpha, least=0)
        number("beta", self.beta, least=0, most=1)

    def passes(self, others: int = 1) -> float:
        """Forward passes per pair with as many other images."""
        return 1.0 + others if self.alpha else 1.0

    def __call__(self, own: Tensor, *others: Tensor) -> Tensor:
        """Scores to choose by: the greatest of the answers, or a match where it is above 0.

        Parameters
        ----------
        own
            (…, answer) logits or log-probabilities with the pair's own image, or (pair,) log-odds of a match, whose
            answers are "match" and "no match".
        others
            The same with each other image; of several the mean is taken.

        Returns
        -------
        Tensor
            Of the shape of `own`, in its own unit. An answer that is cut off has −∞; of log-odds, −∞ stands for
            "no match" and +∞ for "match" where the other answer is cut off.

        Raises
        ------
        DataError
            No other score, shapes that differ, or a NaN.
        """
        every = (own, *others)
        if given := [type(x).__name__ for x in every if not isinstance(x, Tensor) or not x.is_floating_point()]:
            raise DataError(
                f"scores that are {', '.join(given)}", expected="tensors of floating-point log-probabilities",
                remedy="convert them, such as torch.as_tensor(scores, dtype=torch.float32)",
            )  # fmt: skip
        if not others or any(other.shape != own.shape for other in others):
            raise DataError(
                f"scores of shape {tuple(own.shape)}, and {[tuple(other.shape) for other in others]} without the image",
                expected="one shape, and one other score or more", remedy="score the same answers with another image",
            )  # fmt: skip
        if any(one.isnan().any() for one in (own, *others)):
            raise DataError("a score that is NaN", expected="log-probabilities", remedy="look for NaN in the inputs")
        if not self.alpha:
            return own
        without = torch.stack(others).mean(0)
        floor = math.log(self.beta) if self.beta else -math.inf  # log-probability below the greatest
        found = (1 + self.alpha) * own - self.alpha * without
        if own.ndim == 1:
            return found.masked_fill(own < floor, -math.inf).masked_fill(own > -floor, math.inf)
        implausible = (own < own.amax(-1, keepdim=True) + floor) | (own == -math.inf)
        return found.masked_fill(implausible, -math.inf)
