"""A debiasing branch that sees one modality alone, and is thrown away after training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from attention_collapse.arguments import number, one_of
from attention_collapse.errors import ParamsError
from attention_collapse.prevention.checks import check_answers, check_state
from attention_collapse.prevention.method import Inputs, Method, Score, finite, losses


class ProductOfExperts(Method):
    """Train the model together with a branch that answers from one modality alone: their log-odds are added.

    What the branch explains, the model need not. The branch learns its answer by a loss of its own, and does not get
    gradients from the sum; `score` alone is used afterwards, so nothing has to be removed.

    Parameters
    ----------
    branch
        Inputs of the modality -> (pair,) log-odds or (pair, class) logits, the shape of the model's.
    modality
        Which inputs the branch sees: those with the cue.
    strength
        Factor of the branch's answer in the sum; 0 is plain training.
    gate
        Inputs of the same modality -> (pair,) a number whose softplus multiplies the branch's answer: the learned mixin
        of Clark et al. It is trained with the model.
    entropy
        Weight of the entropy of the gated answer in the loss, which keeps a gate from closing (LMH).
    """

    name = "product-of-experts"
    source = "Clark et al., EMNLP 2019 (arXiv:1909.03683); a branch that is learned beside: Mahabadi et al., ACL 2020"
    needs = "the knowledge of which modality holds the cue, and a branch that reads it"

    def __init__(
        self, branch: nn.Module, modality: Literal["image", "text"] = "text", *, strength: float = 1.0,
        gate: nn.Module | None = None, entropy: float = 0.0,
    ) -> None:  # fmt: skip
        self.branch, self.modality = branch, one_of("modality", modality, ("image", "text"))
        self.strength, self.entropy = number("strength", strength, least=0), number("entropy", entropy, least=0)
        self.gate = gate

    def loss(self, score: Score, image: Inputs, text: Inputs, target: Tensor, group: Tensor | None = None) -> Tensor:
        """The cross-entropy of the sum, plus that of the branch alone."""
        logits = score(image, text)
        if not self.strength:
            return finite(losses(logits, target).mean())
        check_answers(logits, target)
        seen = image if self.modality == "image" else text
        alone = self.branch(seen)
        if alone.shape != logits.shape:
            raise ParamsError(
                f"a branch that gives the shape {tuple(alone.shape)}",
                expected=f"{tuple(logits.shape)}, the shape of the score",
                remedy="give the branch as many outputs as the model has",
            )  # fmt: skip
        bias = self.strength * alone.detach()
        if self.gate is not None:
            open_ = nn.functional.softplus(self.gate(seen))
            bias = bias * open_.view(-1, *[1] * (bias.ndim - 1))
        total = losses(logits + bias, target).mean() + losses(alone, target).mean()
        if self.entropy:
            total = total + self.entropy * _entropy(bias).mean()
        return finite(total)

    def parameters(self) -> Iterable[nn.Parameter]:
        """Those of the branch and of the gate."""
        yield from self.branch.parameters()
        if self.gate is not None:
            yield from self.gate.parameters()

    def state_dict(self) -> dict[str, Any]:
        """Weights of the branch and of the gate."""
        gate = {} if self.gate is None else {"gate": self.gate.state_dict()}
        return {"method": self.name, "branch": self.branch.state_dict(), **gate}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them up."""
        check_state(state, self.name, ("branch",) if self.gate is None else ("branch", "gate"))
        self.branch.load_state_dict(state["branch"])
        if self.gate is not None:
            self.gate.load_state_dict(state["gate"])


def _entropy(logits: Tensor) -> Tensor:
    """(pair,) entropy in nats of the answer that logits give."""
    if logits.ndim == 1:
        logits = torch.stack([logits, torch.zeros_like(logits)], 1)
    log_p = logits.log_softmax(1)
    return -(log_p.exp() * log_p).sum(1)
