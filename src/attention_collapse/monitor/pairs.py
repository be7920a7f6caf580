"""The held-out pairs of a monitor: their inputs, whose image or text stands in for whose, and a digest of them all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attention_collapse.errors import DataError

Inputs: TypeAlias = Tensor | Mapping[str, Tensor]
Index: TypeAlias = NDArray[np.int64]
HELD_OUT = "held_out"  # what the argument is called
MOST = 10**6  # the highest label that can be: more candidates are a mistake
FEWEST = 3  # a pair, one whose image stands in, and one whose text does
EXPECTED = "(image, text, target): tensors, or mappings of tensors, with one row per pair"


class HeldOut(NamedTuple):
    """Pairs that are never trained on.

    Attributes
    ----------
    image, text
        A tensor, or a mapping of tensors, whose first axis runs over pairs.
    target
        (pair,) the right answer: 1 for a match and 0 for none, or the number of the right candidate. None: every pair
        matches, and there is nothing else to say.

    Examples
    --------
    >>> HeldOut(torch.zeros(4, 2), torch.zeros(4, 3), torch.tensor([0, 1, 0, 1])).target.tolist()
    [0, 1, 0, 1]
    """

    image: Inputs
    text: Inputs
    target: Tensor | None = None


def parts(inputs: Inputs) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of each tensor, by name."""
    if isinstance(inputs, Tensor):
        yield "", inputs
    else:
        yield from sorted(inputs.items(), key=lambda item: str(item[0]))


def described(inputs: Inputs) -> str:
    """The shape, type and device of each tensor, for people."""
    return ", ".join(
        f"{name} {tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')} on {tensor.device}".strip()
        for name, tensor in parts(inputs)
    )


def take(inputs: Inputs, rows: Index) -> Inputs:
    """The inputs of some pairs: (row, ...) on the device where they lie."""
    if isinstance(inputs, Tensor):
        return inputs[torch.from_numpy(rows).to(inputs.device)]
    return {name: tensor[torch.from_numpy(rows).to(tensor.device)] for name, tensor in inputs.items()}


def _bytes(tensor: Tensor) -> NDArray[np.uint8]:
    """(pair, byte) what a tensor holds, of any dtype."""
    rows = tensor.detach().cpu().contiguous().reshape(len(tensor), -1)
    found: NDArray[np.uint8] = rows.view(torch.uint8).numpy()
    return found


def _same(inputs: Inputs) -> Index:
    """(pair,) numbers, equal where a modality is the same in two pairs."""
    rows = np.concatenate([_bytes(tensor) for _, tensor in parts(inputs)], axis=1)
    seen: dict[bytes, int] = {}
    return np.array([seen.setdefault(row.tobytes(), len(seen)) for row in rows], np.int64)


def _check_modality(inputs: object, what: str) -> int:
    """The number of pairs of a modality, if it is one."""
    found = list(inputs.values()) if isinstance(inputs, Mapping) else [inputs]
    tensors = [tensor for tensor in found if isinstance(tensor, Tensor) and tensor.ndim]
    if not tensors or len(tensors) < len(found):
        raise DataError(
            f"the {what} of the held-out pairs is {type(inputs).__name__}, and no tensor with one row per pair",
            expected=EXPECTED,
            remedy="give image and text apart; a model that takes both in one tensor has no modality to swap, unless "
            "`score` puts them together itself",
        )
    lengths = {len(tensor) for tensor in tensors}
    if len(lengths) > 1:
        raise DataError(
            f"the {what} of the held-out pairs has tensors of {sorted(lengths)} rows", expected=EXPECTED,
            remedy="give each tensor one row per pair",
        )  # fmt: skip
    return lengths.pop()


def check_against(held_out: HeldOut, hard: HeldOut | None) -> None:
    """DataError where a pair comes more than once: it would count as evidence as often as it does.

    The hard pairs may hold what is held out, with the same label.
    """
    seen: dict[bytes, tuple[str, int, float | None]] = {}
    for name, pairs in ((HELD_OUT, held_out), ("hard", hard)):
        if pairs is None:
            continue
        rows = np.concatenate([_bytes(x) for side in (pairs.image, pairs.text) for _, x in parts(side)], axis=1)
        labels = [None] * len(rows) if pairs.target is None else pairs.target.tolist()
        own = set[bytes]()
        for place, (row, label) in enumerate(zip(map(bytes, rows), labels, strict=True)):
            where, first, told = seen.setdefault(row, (name, place, label))
            if row in own or (where != name and told not in (None, label)):
                other = f", with the labels {told:g} and {label:g}" if None is not told != label else ""
                raise DataError(
                    f"pair {place} of {name} is pair {first} of {where} once more{other}",
                    expected="different pairs: one that is repeated makes intervals shorter than they are",
                    remedy="leave out what is repeated",
                )
            own.add(row)


def checked(given: object, *, name: str = HELD_OUT) -> HeldOut:
    """Held-out pairs that a monitor can work with.

    Raises
    ------
    DataError
        Not (image, text, target); fewer than three pairs; different numbers of rows; labels that are none.
    """
    if not isinstance(given, tuple) or len(given) not in (2, 3):
        raise DataError(f"{name} is {type(given).__name__}", expected=EXPECTED, remedy=f"pass {name}=(image, text, y)")
    pairs = HeldOut(*given)
    if pairs.target is not None and not isinstance(pairs.target, Tensor):
        raise DataError(
            f"{name}: labels that are {type(pairs.target).__name__}", expected=EXPECTED,
            remedy="make them a tensor, such as torch.as_tensor(labels)",
        )  # fmt: skip
    n, n_text = _check_modality(pairs.image, "image"), _check_modality(pairs.text, "text")
    if n != n_text or (pairs.target is not None and pairs.target.shape != (n,)):
        target = None if pairs.target is None else tuple(pairs.target.shape)
        raise DataError(
            f"{name}: {n} images, {n_text} texts and a target of shape {target}", expected=EXPECTED,
            remedy="give as many of each",
        )  # fmt: skip
    if n < FEWEST:
        raise DataError(
            f"{name} holds {n} pair{'s' if n != 1 else ''}: nothing to swap",
            expected=f"{FEWEST} different pairs at the least, some hundreds for an alarm that can ring",
            remedy="hold more pairs out of training",
        )
    if pairs.target is not None:
        _check_target(pairs.target, name)
    return pairs


def _check_target(target: Tensor, name: str) -> None:
    if target.is_complex():
        raise DataError(f"{name}: complex labels", expected="whole numbers from 0", remedy="give the labels so")
    values = target.detach().cpu().double().numpy()
    if not (
        np.isfinite(values).all()
        and (values >= 0).all()
        and (values <= MOST).all()
        and (values == np.round(values)).all()
    ):
        raise DataError(
            f"{name}: labels such as {values[:5].tolist()}",
            expected=f"whole numbers from 0 (to {MOST:,}): 1 for a match, 0 for none",
            remedy="give the labels as they are scored, without an index to ignore",
        )  # fmt: skip
    if len(set(values.tolist())) < 2:
        raise DataError(
            f"{name}: every label is {values[0]:g}",
            expected="two labels or more: a constant answer is always right otherwise",
            remedy="add pairs with another label"
            + (", or leave the target out if all pairs match" if name == HELD_OUT else ""),
        )


def draw_partners(pairs: HeldOut, partners: int, seed: int) -> tuple[Index, Index]:
    """Whose image, and whose text, stands in for a pair's own.

    Two pairs with the same image or the same text cannot stand in for each other. The two that stand in for one pair
    could stand in for each other too, so that "both swapped" is no pair of the data.

    Returns
    -------
    tuple
        Two arrays (pair, partner) of positions.

    Raises
    ------
    DataError
        A pair has no such others.
    """
    image, text = _same(pairs.image), _same(pairs.text)
    rng = np.random.default_rng(seed)

    def others(i: int) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = (image != image[i]) & (text != text[i])
        return found

    chosen: tuple[list[list[int]], list[list[int]]] = ([], [])
    for i in range(len(image)):
        mine = others(i)
        row: list[tuple[int, int]] = []
        for j in rng.permutation(np.flatnonzero(mine)):
            thirds = np.flatnonzero(mine & others(j))
            if len(thirds):
                row.append((int(j), int(rng.choice(thirds))))
            if len(row) == partners:
                break
        if len(row) < partners:
            raise DataError(
                f"pair {i} has {len(row)} pairs whose image and text can stand in for its own, of "
                f"{len(set(image.tolist()))} different images and {len(set(text.tolist()))} different texts",
                expected=f"{partners} of them; pairs that share an image or a text cannot stand in for each other",
                remedy="hold out more different pairs, or set partners lower; a model with one prompt for all images "
                "has no text to swap",
            )
        for side, column in zip(chosen, zip(*row, strict=True), strict=True):
            side.append(list(column))
    return np.array(chosen[0], np.int64), np.array(chosen[1], np.int64)


def digest(*sets: HeldOut | None) -> str:
    """16 hex digits of everything in some sets of held-out pairs."""
    found = hashlib.sha256()
    for pairs in sets:
        for field in (None, None, None) if pairs is None else pairs:
            found.update(b"|")
            for name, tensor in () if field is None else parts(field):
                found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                found.update(_bytes(tensor).tobytes())
    return found.hexdigest()[:16]
