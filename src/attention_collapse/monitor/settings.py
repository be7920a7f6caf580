"""What a monitor is given, before any pass: the modules that a score runs, and settings that can be."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

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
    """ParamsError for a setting that cannot be; `counts` by name are to be 1 or more, a seed 0 or more."""
    if not isinstance(rule, Rule):
        raise ParamsError(f"rule={rule!r}", expected="a Rule", remedy="pass rule=Rule(margin=…)")
    whole = {**counts, "n_resamples": rule.n_resamples} | ({} if every is None else {"every": every})
    shares = {
        "budget": budget, "confidence": rule.confidence, "margin": rule.margin, "hard_margin": rule.hard_margin,
    }  # fmt: skip
    wrong = [f"{name}={value!r}" for name, value in whole.items() if not _is_whole(value, name != "seed")]
    wrong += [f"{name}={value!r}" for name, value in shares.items() if not (_is_number(value) and 0 < value < 1)]
    wrong += [f"threshold={rule.threshold!r}"] * (not _is_number(rule.threshold))
    if wrong:
        raise ParamsError(
            "; ".join(wrong),
            expected="whole numbers of 1 or more (a seed: 0), a finite threshold, and budget, confidence and margins "
            "between 0 and 1",
            remedy="correct the arguments of Monitor",
        )
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if every is None and distributed and torch.distributed.get_world_size() > 1:
        raise ParamsError(
            "every=None in a run of several processes",
            expected="checks at the same steps in all of them: each goes by its own clock otherwise, and they may wait "
            "for each other for ever",
            remedy="set every, for instance to what recommended_every() says of a run in one process",
        )


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(float(value))
