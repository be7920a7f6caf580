"""What a monitor is given, before any pass: the modules that a score runs, and settings that can be."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from attention_collapse.errors import ModelError, ParamsError
from attention_collapse.monitor.reading import Rule

Score: TypeAlias = Callable[[Any, Any], Tensor]


def modules_of(score: Score, model: nn.Module | Iterable[nn.Module] | None) -> tuple[nn.Module, ...]:
    """The modules that a score runs."""
    if model is not None:
        return (model,) if isinstance(model, nn.Module) else tuple(model)
    owner = score if isinstance(score, nn.Module) else getattr(score, "__self__", None)
    if not isinstance(owner, nn.Module):
        raise ModelError(
            f"score is {getattr(score, '__qualname__', type(score).__name__)}, whose model is not known",
            expected="the module that it runs, to be put into evaluation mode and back",
            remedy="pass model=…, a module or several; model=() if it runs none",
        )
    return (owner,)


def check_settings(rule: Rule, *, every: int | None, budget: float, counts: tuple[int, ...]) -> None:
    """ParamsError for a setting that cannot be; `counts` are to be 1 or more."""
    wrong = [
        text
        for bad, text in (
            (every is not None and every < 1, f"every={every}"),
            (not 0 < budget < 1, f"budget={budget}"),
            (min(counts) < 1, f"partners, patience, batch_size: {counts}"),
            (not 0 < rule.confidence < 1, f"confidence={rule.confidence}"),
            (not (0 < rule.margin < 1 and 0 < rule.hard_margin < 1), f"margins {rule.margin}, {rule.hard_margin}"),
        )
        if bad
    ]
    if wrong:
        raise ParamsError(
            "; ".join(wrong), expected="counts of 1 or more; budget, confidence and margins between 0 and 1",
            remedy="correct the arguments of Monitor",
        )  # fmt: skip
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if every is None and distributed and torch.distributed.get_world_size() > 1:
        raise ParamsError(
            "every=None in a run of several processes",
            expected="checks at the same steps in all of them: each goes by its own clock otherwise, and they may wait "
            "for each other for ever",
            remedy="set every, for instance to what recommended_every() says of a run in one process",
        )
