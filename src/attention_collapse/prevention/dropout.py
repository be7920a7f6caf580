"""Modality dropout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from attention_collapse.arguments import number
from attention_collapse.errors import ParamsError
from attention_collapse.prevention.checks import check_rows
from attention_collapse.prevention.method import Drawing, Inputs, Score, finite, losses

Absent = Callable[[Any], Any]  # inputs of a modality -> inputs of the same shapes that say nothing


class ModalityDropout(Drawing):
    """Take a modality away from a random part of the pairs, never both from one; nothing is rescaled.

    Parameters
    ----------
    image, text
        Share of the pairs that lose it, 0 to 1, together at most 1.
    no_image, no_text
        Make inputs that say nothing, of the same shapes: zeros where left out, which tokens must not be.

    Examples
    --------
    >>> ModalityDropout(image=0.5, text=0.25).image
    0.5
    """

    name = "modality-dropout"
    source = "ModDrop: Neverova et al., TPAMI 2016 (arXiv:1501.00102)"
    needs = "an input that says nothing, of each modality that is dropped"

    def __init__(
        self, image: float = 0.3, text: float = 0.3, *, no_image: Absent | None = None, no_text: Absent | None = None,
        seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(seed)
        self.image = number("image", image, least=0, most=1)
        self.text = number("text", text, least=0, most=1 - image)
        self.absent = {"image": no_image, "text": no_text}

    def dropped(self, n: int) -> tuple[Tensor, Tensor]:
        """(n,) booleans each: whose image, and whose text, is taken away."""
        drawn = torch.rand(n, generator=self.generator)
        return drawn < self.image, (drawn >= self.image) & (drawn < self.image + self.text)

    def loss(self, score: Score, image: Inputs, text: Inputs, target: Tensor, group: Tensor | None = None) -> Tensor:
        """The mean cross-entropy of the pairs, some of them without a modality."""
        check_rows(image, text, target)
        no_image, no_text = self.dropped(len(target))
        image, text = self._without("image", image, no_image), self._without("text", text, no_text)
        return finite(losses(score(image, text), target).mean())

    def _without(self, modality: str, inputs: Inputs, gone: Tensor) -> Any:
        if not gone.any():
            return inputs
        make = self.absent[modality]
        if make is not None:
            return _mixed(inputs, make(inputs), gone)
        tensors = [inputs] if isinstance(inputs, Tensor) else list(inputs.values())
        if any(isinstance(value, Tensor) and not value.is_floating_point() for value in tensors):
            raise ParamsError(
                f"{modality} inputs that are whole numbers, and no no_{modality}",
                expected=f"no_{modality}: a function that makes {modality} inputs that say nothing",
                remedy="give one, say with every word replaced by the mask token",
            )
        empty = (
            torch.zeros_like(inputs)
            if isinstance(inputs, Tensor)
            else {name: torch.zeros_like(v) if isinstance(v, Tensor) else v for name, v in inputs.items()}
        )
        return _mixed(inputs, empty, gone)


def _mixed(own: Any, absent: Any, gone: Tensor) -> Any:
    """Each row of `own`, or of `absent` where `gone` (n,)."""
    if isinstance(own, Tensor):
        return torch.where(gone.to(own.device).view(-1, *[1] * (own.ndim - 1)), absent, own)
    return {name: _mixed(v, absent[name], gone) if isinstance(v, Tensor) else v for name, v in own.items()}
