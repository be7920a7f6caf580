"""A look at a model that leaves no trace: training goes on as if nobody had looked, bit for bit."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn


@contextmanager
def undisturbed(modules: Sequence[nn.Module], seed: int) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards flags, buffers and random numbers are as before.

    The flags are set module by module and not by `train()`, which some models override to merge weights. Gradients are
    off by `no_grad` and not by inference mode: what a model keeps for later, such as a table of positions that it makes
    at its first pass, could never be trained with if it were an inference tensor. Nor may autocast keep weights that it
    casts here, which would have no gradients (torch 2.15 keeps none anyway).

    Parameters
    ----------
    modules
        Whose flags and buffers, with those of all modules inside, are kept.
    seed
        Of the random numbers drawn meanwhile, so that a score that draws some is the same at every look.
    """
    inside = {id(module): module for root in modules for module in root.modules()}.values()
    flags = [(module, module.training) for module in inside]
    buffers = [
        (module, name, tensor, tensor.clone())
        for module in inside
        for name, tensor in module._buffers.items()
        if tensor is not None
    ]
    restore_random = _random_state()
    cached = torch.is_autocast_cache_enabled()
    try:
        for module in inside:
            module.training = False
        torch.set_autocast_cache_enabled(False)
        torch.manual_seed(seed)
        with torch.no_grad():
            yield
    finally:
        for module, training in flags:
            module.training = training
        _restore(buffers)
        torch.set_autocast_cache_enabled(cached)
        restore_random()


def _restore(buffers: Sequence[tuple[nn.Module, str, Tensor, Tensor]]) -> None:
    """Put back what a pass has changed, and touch nothing else."""
    with torch.no_grad():
        for module, name, tensor, before in buffers:
            module._buffers[name] = tensor
            if not torch.equal(tensor, before):
                tensor.copy_(before)


def _random_state() -> Callable[[], None]:
    """What puts the random numbers of Python, NumPy and torch back to where they are now."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None

    def restore() -> None:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)

    return restore
