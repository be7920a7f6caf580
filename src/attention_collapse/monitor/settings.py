"""What a monitor is given, before any pass: the modules that a score runs, and settings that can be."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from attention_collapse.arguments import number, whole
from attention_collapse.errors import ModelError, ParamsError
from attention_collapse.monitor.reading import Rule

Score: TypeAlias = Callable[[Any, Any], Tensor]


def modules_of(score: Score, model: nn.Module | Iterable[nn.Module] | None) -> tuple[nn.Module, ...]:
    """The modules that a score runs."""
    if model is not None:
        found = (model,) if isinstance(model, nn.Module) else tuple(model)
        if wrong := [type(one).__name__ for one in found if not isinstance(one, nn.Module)]:
            raise ModelError(
                f"model holds {', '.join(wrong)}", expected="a torch module, or several", remedy="pass the model itself"
            )
        return found
    owner = score if isinstance(score, nn.Module) else getattr(score, "__self__", None)
    if not isinstance(owner, nn.Module):
        raise ModelError(
            f"score is {getattr(score, '__qualname__', type(score).__name__)}, whose model is not known",
            expected="the module that it runs, to be put into evaluation mode and back",
            remedy="pass model=…, a module or several; model=() if it runs none",
        )
    return (owner,)


def check_settings(rule: object, *, every: int | None, budget: float, counts: Mapping[str, object]) -> None:
    """ParamsError for a setting that cannot be; `counts` by name are to be 1 or more."""
    if not isinstance(rule, Rule):
        raise ParamsError(f"rule={rule!r}", expected="a Rule", remedy="pass rule=Rule(margin=…)")
    for name, value in {**counts, "every": 1 if every is None else every, "n_resamples": rule.n_resamples}.items():
        whole(name, value, least=1)
    number("threshold", rule.threshold, least=-math.inf)
    shares = {"budget": budget} | {name: getattr(rule, name) for name in ("confidence", "margin", "hard_margin")}
    for name, value in shares.items():
        if not 0 < number(name, value, least=0, most=1) < 1:
            raise ParamsError(f"{name} is {value}", expected="a number between 0 and 1", remedy="correct the argument")
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if every is None and distributed and torch.distributed.get_world_size() > 1:
        raise ParamsError(
            "every=None in a run of several processes",
            expected="checks at the same steps in all of them: each goes by its own clock otherwise, and they may wait "
            "for each other for ever",
            remedy="set every, for instance to what recommended_every() says of a run in one process",
        )
