"""Methods that weigh the pairs of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from attention_collapse.arguments import number
from attention_collapse.errors import DataError, ParamsError
from attention_collapse.prevention.checks import check_answers, check_state
from attention_collapse.prevention.method import Inputs, Method, Score, finite, losses


def weighted(one: Tensor, weight: Tensor) -> Tensor:
    """Mean of (pair,) losses by (pair,) weights."""
    w = weight.to(one)
    return (one * w).sum() / w.sum()


class JustTrainTwice(Method):
    """Weigh up what a first, short run gets wrong.

    Parameters
    ----------
    first
        The score of the first run's model, which stays as it is.
    weight
        The weight of a pair that the first run gets wrong; 1 is plain training.

    Examples
    --------
    >>> JustTrainTwice(lambda image, text: torch.zeros(len(image)), weight=5.0).weight
    5.0
    """

    name = "just-train-twice"
    source = "Liu et al., ICML 2021 (arXiv:2107.09044)"
    needs = "a first run, short enough to have learned the cue and not the content"

    def __init__(self, first: Score, weight: float = 20.0) -> None:
        self.first, self.weight = first, number("weight", weight, least=1)

    @property
    def passes(self) -> float:
        """One more without gradients; the first run is not counted here."""
        return 1 + 1 / 3 if self.weight > 1 else 1.0

    def loss(self, score: Score, image: Inputs, text: Inputs, target: Tensor, group: Tensor | None = None) -> Tensor:
        """The weighted mean cross-entropy."""
        if self.weight == 1:
            return finite(losses(score(image, text), target).mean())
        with torch.no_grad():
            said = self.first(image, text)
        check_answers(said, target)
        if said.isnan().any():
            raise DataError(
                "scores of the first run that are NaN", expected="what the first run's model says of every pair",
                remedy="look for NaN in its weights",
            )  # fmt: skip
        wrong = (said > 0) != (target > 0.5) if said.ndim == 1 else said.argmax(1) != target
        weight = torch.where(wrong, self.weight, 1.0)
        return finite(weighted(losses(score(image, text), target), weight))


class GroupReweighting(Method):
    """**An oracle**: every group of pairs weighs as much as any other, whatever its share of the data.

    With groups of label and cue, the cue says nothing in the weighted data. It takes what nobody knows of real data.

    Parameters
    ----------
    strength
        0 is plain training, 1 weighs groups alike, in between their shares are that power.

    Examples
    --------
    >>> GroupReweighting(strength=0.5).strength
    0.5
    """

    name = "group-reweighting"
    source = "importance weighting by known groups; Sagawa et al., ICLR 2020 (arXiv:1911.08731) compare it"
    needs = "the group of every pair: an oracle"

    def __init__(self, strength: float = 1.0) -> None:
        self.strength, self.counts = number("strength", strength, least=0), torch.zeros(0)

    def loss(self, score: Score, image: Inputs, text: Inputs, target: Tensor, group: Tensor | None = None) -> Tensor:
        """The mean cross-entropy by the weights of the groups, whose shares are counted as the run goes on."""
        if not self.strength:
            return finite(losses(score(image, text), target).mean())
        if group is None:
            raise ParamsError(
                "no groups for group-reweighting", expected="group: (pair,) numbers, say 2 · label + cue",
                remedy="give them to `loss` (the Trainer drops a column that the model does not take, unless "
                "remove_unused_columns=False), or use a method that needs none",
            )  # fmt: skip
        one = losses(score(image, text), target)
        _check_groups(group, target)
        seen = torch.bincount(group.cpu(), minlength=len(self.counts)).float()
        self.counts = torch.nn.functional.pad(self.counts, (0, len(seen) - len(self.counts))) + seen
        share = self.counts / self.counts.sum()
        weight = (share[group.cpu()] * (self.counts > 0).sum()) ** -self.strength
        # Not divided by the batch's own weights: a batch without a rare group would weigh the common ones up.
        return finite((one * weight.to(target.device)).mean())

    def state_dict(self) -> dict[str, Any]:
        """How often each group was seen."""
        return {"method": self.name, "counts": self.counts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Count on from there."""
        check_state(state, self.name, ("counts",))
        self.counts = state["counts"]


def _check_groups(group: Any, target: Tensor) -> None:
    """DataError unless there is a whole number for each pair."""
    whole = isinstance(group, Tensor) and not group.is_floating_point() and group.dtype != torch.bool
    if not whole or group.shape != target.shape or group.min() < 0:
        shape = f"{group.dtype} of shape {tuple(group.shape)}" if isinstance(group, Tensor) else type(group).__name__
        raise DataError(
            f"groups that are {shape} for {len(target)} pairs", expected="a whole number from 0 for each pair",
            remedy="number the groups, say 2 · label + cue",
        )  # fmt: skip
