"""Whether a model tells captions apart, and images, tried on a few of each before anything is measured.

A text tower that reads out where no end token is, a processor that drops the text, a function that forgets an argument:
each gives every caption the same embedding or score, and attention that looks like any other's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from attention_collapse.data.entries import normal
from attention_collapse.data.images import load_rgb
from attention_collapse.errors import ModelError
from attention_collapse.models.caption_tokens import caption_tokens
from attention_collapse.models.interface import Batch, DualEncoder, Model

if TYPE_CHECKING:
    from datasets import Dataset

TRIED = 4  # captions, and images
ROUNDING = 2e-6  # relative: rows of equal inputs may differ by as much within a batch
NOISE = 1e-3  # relative: what one and the same batch, given twice, may differ by; half precision has so much rounding


def require_told_apart(model: Model, pairs: Dataset) -> list[str]:
    """ModelError if different captions, or an encoder's different images, are one and the same to the model, or if the
    same ones are not.

    Up to `TRIED` captions and images, different ones as the model gets them, in two passes, and one of these again.
    Where the same score is an answer, it is no error: with every image (a language model's would be), and of a scoring
    function, which may know a few grades only, with every caption.

    Returns
    -------
    list of str
        "image", "text": what the score of a pair did not depend on.
    """
    texts, paths = _different_captions(model, pairs), _different_images(pairs)
    images = [load_rgb(path)[0] for path in paths]
    if isinstance(model, DualEncoder):
        for what, batch in (("captions", model.texts(texts)), ("images", model.images(images))):
            if _is_one_to_it(batch, _steady(model, lambda given: model.embed(given).embedding, "embeddings")):
                raise _not_told_apart(model, len(batch.truncated), what, "embedding (cosine 1.0)")
        return []
    without = {
        "image": _is_one_to_it(model.pairs(images, texts[:1] * len(images)), model.score),
        "text": _is_one_to_it(model.pairs(images[:1] * len(texts), texts), _steady(model, model.score, "scores")),
    }
    if without["text"] and model.module is not None:
        raise _not_told_apart(model, len(texts), "captions", "score with one image")
    return [modality for modality, ignored in without.items() if ignored]


def _different_captions(model: Model, pairs: Dataset) -> list[str]:
    """The first captions with tokens of their own, one an image as far as there are as many."""
    first = [captions[0] for captions in pairs["captions"]]
    rest = [caption for captions in pairs["captions"] for caption in captions[1:]]
    found: dict[Any, str] = {}
    for caption in (*first, *rest):
        tokens = caption_tokens(model, [caption])
        found.setdefault(normal(caption) if tokens is None else tokens[0].ids, caption)
        if len(found) == TRIED:
            break
    return list(found.values())


def _different_images(pairs: Dataset) -> list[Path]:
    """The first images with a file of their own."""
    digests = pairs["sha256"] if "sha256" in pairs.column_names else range(len(pairs))
    found: dict[Any, Path] = {}
    for digest, file in zip(digests, pairs["image"], strict=True):
        found.setdefault(digest, Path(file["path"]))
        if len(found) == TRIED:
            break
    return list(found.values())


def _not_told_apart(model: Model, number: int, what: str, given: str) -> ModelError:
    return ModelError(
        f"{model.name}: {number} different {what} have one and the same {given}",
        expected=f"different {what} that the model tells apart",
        remedy="check that the tokenizer, the processor and the configuration (of a text tower: eos_token_id) are "
        f"those that the weights were trained with, and that your own code passes the {what} on",
    )


def _steady(model: Model, forward: Callable[[Batch], Tensor], what: str) -> Callable[[Batch], Tensor]:
    """`forward`, done twice: ModelError if what it makes of one batch differs by more than rounding."""

    def twice(batch: Batch) -> Tensor:
        first, again = (forward(batch).double() for _ in range(2))
        spread, apart = float((first - first[:1]).abs().max()), float((first - again).abs().max())
        if apart > NOISE * float(first.abs().max()):
            raise ModelError(
                f"{model.name}: the {what} of the same {len(first)} inputs, asked for twice, differ by {apart:.3g}; "
                f"those of different inputs differ by {spread:.3g}",
                expected="the same numbers of the same input",
                remedy="take out what draws random numbers (noise, sampling at a temperature above 0) or keeps a "
                "count, and leave dropout in evaluation mode",
            )
        return first

    return twice


def _is_one_to_it(batch: Batch, forward: Callable[[Batch], Tensor]) -> bool:
    """Whether the items of a batch differ, and what the model makes of them does not."""
    if not _differ(batch):
        return False  # one, or several that were cut or cleaned to the same: nothing to tell apart
    with torch.inference_mode():
        return _all_same(forward(batch))


def _differ(batch: Batch) -> bool:
    """Whether the items of a batch differ in what the model gets; True where that is not known to be tensors."""
    inputs = list(batch.inputs.values()) if hasattr(batch.inputs, "values") else [batch.inputs]
    if not all(isinstance(value, Tensor) for value in inputs):
        return len(batch.truncated) > 1
    return any(len(value) > 1 and bool((value != value[:1]).any()) for value in inputs if value.ndim)


def _all_same(output: Tensor) -> bool:
    """Whether the rows of finite outputs differ by no more than rounding."""
    values = output.double()
    if len(values) < 2 or not bool(values.isfinite().all()):
        return False
    apart = float((values - values[:1]).abs().max())
    return apart <= ROUNDING * float(values.abs().max())
