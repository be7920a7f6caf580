"""What a user's function gives for some pairs, as one number per pair, or an error that says what came instead."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Set
from numbers import Number
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attention_collapse.errors import ModelError

LISTED = 4  # entries that are named


def one_number_per_pair(found: Any, pairs: int, *, where: str) -> Tensor:
    """The scores as (pair,) float64 on the CPU, without a graph.

    Taken are lists, tuples, iterators, arrays, series and tensors of numbers of any kind, dtype and device, with or
    without a gradient; of shape (pair,), (pair, 1), or () where there is one pair.

    Parameters
    ----------
    where
        Whose scores they are, for the message.

    Raises
    ------
    ModelError
        Anything else, and a score that is NaN or infinite.

    Examples
    --------
    >>> one_number_per_pair([[1], [2.5]], 2, where="score").tolist()
    [1.0, 2.5]
    """

    def wrong(what: str, remedy: str = "return a list, an array or a tensor with the score of each pair") -> ModelError:
        return ModelError(
            f"{where} gave {what} for {pairs} pair{'s' * (pairs != 1)}", expected="one number per pair", remedy=remedy
        )

    if inspect.isawaitable(found):
        close = getattr(found, "close", None)
        if close is not None:
            close()
        raise wrong("a coroutine", "call it to its end within the function: asyncio.run(…)")
    if isinstance(found, Iterator):
        found = list(found)
    values = _array(found)
    if values is None:
        raise wrong(described(found))
    if any(isinstance(value, complex) for value in values.ravel().tolist()):
        raise wrong(f"{described(found)} of complex numbers", "return the part that is the score")
    if values.shape == (pairs, 1) or (pairs == 1 and values.ndim == 0):
        values = values.reshape(pairs)
    if values.shape != (pairs,):
        raise wrong(described(found))
    scores = torch.tensor([float(value) for value in values.tolist()], dtype=torch.float64)
    if broken := [index for index, value in enumerate(scores.tolist()) if not math.isfinite(value)]:
        named = ", ".join(f"{scores[index]:g} (number {index + 1})" for index in broken[:LISTED])
        more = f" and {len(broken) - LISTED} more" if len(broken) > LISTED else ""
        raise wrong(f"{named}{more}", "return a finite number for every pair; leave out what cannot be scored")
    return scores


def _array(found: Any) -> np.ndarray | None:
    """The numbers as an array of any shape, or None where it is no container of numbers of one shape."""
    if found is None or isinstance(found, str | bytes | Mapping | Set):
        return None
    try:
        if isinstance(found, Tensor):
            values = _numpy(found)
        elif isinstance(found, list | tuple):
            values = np.array([_numpy(item) if isinstance(item, Tensor) else item for item in found])
        elif isinstance(found, np.ma.MaskedArray):
            values = np.ma.filled(found.astype(np.float64), np.nan)  # what is masked is no number
        else:
            values = np.asarray(found)
    except Exception:  # ragged, sparse, quantised: NumPy and PyTorch raise anything
        return None
    if values.dtype == object and not all(isinstance(item, Number) for item in values.flat):
        return None
    return values if values.dtype.kind in "biufcO" else None


def _numpy(tensor: Tensor) -> np.ndarray:
    values = tensor.detach().cpu()
    found: np.ndarray = (values.float() if values.dtype == torch.bfloat16 else values).numpy()  # NumPy has no bfloat16
    return found


def described(found: Any) -> str:
    """A value in words: its type, and its shape, length or keys.

    Examples
    --------
    >>> described({"logits": 1}), described(torch.zeros(2, 3))
    ('a dict with logits', 'a tensor of shape (2, 3)')
    """
    kind = type(found).__name__
    if isinstance(found, Tensor | np.ndarray):
        return f"{'a tensor' if isinstance(found, Tensor) else 'an array'} of shape {tuple(found.shape)}"
    if isinstance(found, Mapping):
        keys = [str(key) for key in found]
        return f"a {kind} with {', '.join(keys[:LISTED]) or 'no keys'}{', …' if len(keys) > LISTED else ''}"
    if isinstance(found, list | tuple):
        parts = sorted({described(item) if isinstance(item, Tensor) else type(item).__name__ for item in found})
        named = f", holding {', '.join(parts[:LISTED])}" if parts else ""
        return f"a {kind} of {len(found)}{named}"
    if isinstance(found, int | float | complex):
        return f"the number {found!r}"
    return "None" if found is None else f"a {kind}"
