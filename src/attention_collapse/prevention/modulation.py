"""Gradient modulation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from attention_collapse.arguments import number
from attention_collapse.errors import ParamsError
from attention_collapse.prevention.method import Drawing, Inputs, Score, finite, losses

Unimodal = Callable[[Any, Any], tuple[Tensor, Tensor]]  # (image, text) -> logits of the image alone, of the text alone


class GradientModulation(Drawing):
    """OGM-GE: slow down the modality that answers better alone, so that the other is not left behind.

    ρ is the ratio of the two modalities' mean probability of the right answer. The gradients of the leading modality's
    parameters, all of them, are multiplied by 1 − tanh(α (ρ − 1)), and get noise of their own spread back
    ("generalisation enhancement"). The other modality's gradients, and those of what both share, stay as they are.
    The published code scales the gradients of convolutions alone; the paper says parameters, and so does this.

    Parameters
    ----------
    unimodal
        Each modality's own logits, as a late fusion by sum or concatenation has them.
    image, text
        The parameters of each modality's encoder.
    alpha
        How strongly; 0 is plain training.
    noise
        Whether noise is added.
    """

    name = "gradient-modulation"
    source = "OGM-GE: Peng et al., CVPR 2022 (arXiv:2203.15332)"
    needs = "logits of each modality alone, and an encoder of its own for each"

    def __init__(
        self, unimodal: Unimodal, image: Iterable[nn.Parameter], text: Iterable[nn.Parameter], *, alpha: float = 0.3,
        noise: bool = True, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(seed)
        self.unimodal, self.alpha, self.noise = unimodal, number("alpha", alpha, least=0), noise
        self.own: Mapping[str, list[nn.Parameter]] = {"image": list(image), "text": list(text)}
        for modality, parameters in self.own.items():
            if not parameters:
                raise ParamsError(
                    f"no parameters of the {modality}", expected="an encoder of its own for each modality",
                    remedy="use another method where one encoder reads both",
                )  # fmt: skip
        if {id(p) for p in self.own["image"]} & {id(p) for p in self.own["text"]}:
            raise ParamsError(
                "parameters that belong to both modalities", expected="an encoder of its own for each modality",
                remedy="leave out what both share; it is never modulated",
            )  # fmt: skip
        self.factors = {"image": 1.0, "text": 1.0}

    @property
    def passes(self) -> float:
        """The unimodal logits, taken as one pass without gradients."""
        return 1 + 1 / 3 if self.alpha else 1.0

    def loss(self, score: Score, image: Inputs, text: Inputs, target: Tensor, group: Tensor | None = None) -> Tensor:
        """The mean cross-entropy; the factors of `after_backward` are worked out on the way."""
        if self.alpha:
            with torch.no_grad():
                seen, read = (
                    float(torch.exp(-finite(losses(one, target))).mean()) for one in self.unimodal(image, text)
                )
            self.factors = {"image": self._factor(seen, read), "text": self._factor(read, seen)}
        return finite(losses(score(image, text), target).mean())

    def _factor(self, own: float, other: float) -> float:
        """What a modality's gradients are multiplied by: below 1 if it answers better alone than the other."""
        if own <= other:
            return 1.0
        return 1 - math.tanh(self.alpha * (own / other - 1)) if other > 0 else 0.0

    def after_backward(self) -> None:
        """Scale the leading modality's gradients, and add noise."""
        for modality, parameters in self.own.items():
            factor = self.factors[modality]
            if factor == 1:
                continue
            for parameter in parameters:
                if parameter.grad is None:
                    continue
                spread = float(parameter.grad.std()) if parameter.grad.numel() > 1 else 0.0
                parameter.grad.mul_(factor)
                if self.noise:
                    drawn = torch.randn(parameter.grad.shape, generator=self.generator)
                    parameter.grad.add_(drawn.to(parameter.grad), alpha=spread)
