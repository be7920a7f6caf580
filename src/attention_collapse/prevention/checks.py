"""What a method refuses: batches that do not fit together, labels and scores that are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from attention_collapse.errors import DataError

MANY = 8  # pairs from which a square of scores, with labels 0 and 1 alone, is taken for all images with all texts


def check_rows(image: Any, text: Any, target: Any) -> None:
    """DataError unless both modalities have a row for each label: what is swapped has to be a pair's own."""
    n = len(_labels(target))
    for name, inputs in (("image", image), ("text", text)):
        parts = inputs if isinstance(inputs, Mapping) else {"": inputs}
        tensors = {key: part for key, part in parts.items() if isinstance(part, Tensor)}
        wrong = [f"{key} {tuple(part.shape)}".strip() for key, part in tensors.items() if part.shape[:1] != (n,)]
        wrong += [
            f"{key} {type(part).__name__} of {n}".strip()
            for key, part in parts.items()
            if key not in tensors and hasattr(part, "__len__") and not isinstance(part, str) and len(part) == n > 1
        ]
        if wrong or not tensors:
            raise DataError(
                f"the {name} of a batch of {n} pairs is {'; '.join(wrong) or type(inputs).__name__}",
                expected="a tensor, or a mapping of tensors, each with one row per pair",
                remedy="give image and text apart, as tensors; what is the same for all pairs belongs into the score",
            )


def check_answers(logits: Any, target: Any) -> None:
    """DataError unless these are scores of the pairs, and labels that they can have.

    Parameters
    ----------
    logits
        What is to be (pair,) log-odds of the answer 1, or (pair, class) logits.
    target
        What is to be (pair,) probabilities of the answer 1, or whole numbers of classes.
    """
    n = len(_labels(target))
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if not isinstance(logits, Tensor) or not logits.is_floating_point() or shape not in ((n,), (n, *shape[1:2])):
        raise DataError(
            f"a score of {n} pairs that is {shape}", expected=f"a tensor ({n},) of log-odds, or ({n}, class) of logits",
            remedy="return one number per pair, such as logits.squeeze(-1), or one logit per class",
        )  # fmt: skip
    least, most = float(target.min()), float(target.max())
    if logits.ndim == 1 and not 0 <= least <= most <= 1:
        raise DataError(
            f"labels from {least:g} to {most:g}", expected="1 for a match and 0 for none, as the score is one number",
            remedy="give the labels so; for classes let the score give one logit per class",
        )  # fmt: skip
    if logits.ndim == 2:
        if target.is_floating_point() or least < 0 or most >= logits.shape[1]:
            kind = str(target.dtype).removeprefix("torch.")
            raise DataError(
                f"labels from {least:g} to {most:g} ({kind}), and {logits.shape[1]} logits per pair",
                expected="whole numbers of classes, from 0", remedy="leave out pairs without an answer",
            )  # fmt: skip
        if n == logits.shape[1] >= MANY and most <= 1:
            raise DataError(
                f"a score of shape ({n}, {n}), and labels that are 0 and 1 alone",
                expected="scores of these pairs, not of every image with every text",
                remedy="return the diagonal; if these are logits of that many classes, use another batch size",
            )


def matching(target: Tensor) -> Tensor:
    """(match,) positions of the matching pairs among (pair,) labels, which have to be 1 and 0."""
    if not ((target == 0) | (target == 1)).all():
        raise DataError(
            f"labels such as {target[:5].tolist()}", expected="1 for a match and 0 for none: only matches are swapped",
            remedy="give the labels so",
        )  # fmt: skip
    return torch.nonzero(target.cpu() == 1).flatten()


def check_state(state: Any, name: str, keys: Sequence[str]) -> None:
    """DataError unless a state is of the method of that name, and holds what it goes on from."""
    given = state.get("method", name) if isinstance(state, Mapping) else type(state).__name__
    absent = [key for key in keys if not isinstance(state, Mapping) or key not in state]
    if given != name or absent:
        lacks = f", without {', '.join(absent)}" if absent else ""
        raise DataError(
            f"a state of {given}{lacks}", expected=f"what {name}.state_dict gave",
            remedy="go on with the method that the run began with, or train from the start",
        )  # fmt: skip


def _labels(target: Any) -> Tensor:
    if not isinstance(target, Tensor) or target.ndim != 1 or target.is_complex():
        shape = tuple(target.shape) if isinstance(target, Tensor) else type(target).__name__
        raise DataError(
            f"labels that are {shape}", expected="a tensor with one label per pair, of shape (pair,)",
            remedy="give the labels as such a tensor, such as target.squeeze(-1)",
        )  # fmt: skip
    if not len(target):
        raise DataError("an empty batch", expected="one pair or more", remedy="leave out empty batches")
    return target
