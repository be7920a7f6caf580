"""Usable information of labelled pairs: features of a model's two towers, and means of losses with intervals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from attention_collapse.data.images import load_rgb
from attention_collapse.errors import ModelError
from attention_collapse.measures import usable_information
from attention_collapse.measures.predictors import HeldOut
from attention_collapse.measures.record import records
from attention_collapse.models.interface import Batch, DualEncoder, Model
from attention_collapse.params import Stats
from attention_collapse.progress import steps
from attention_collapse.stats.one_sample import describe_columns

if TYPE_CHECKING:
    from datasets import Dataset


def require_towers(model: Model) -> DualEncoder:
    """The model, if it encodes each modality alone; ModelError otherwise."""
    if not isinstance(model, DualEncoder):
        raise ModelError(
            f"{model.name}: a model of the family {model.family!r} gives no embedding of each modality alone",
            expected="a dual encoder (OpenCLIP, CLIP, SigLIP, SigLIP 2, ALIGN), or features",
            remedy="give features of your own with --features FILE.npz (arrays image_id, image, text)",
        )
    return model


def embeddings(model: DualEncoder, pairs: Dataset, *, batch_size: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Normalised embeddings of each image, and of its first caption: (image, width) both."""

    def embedded(what: str, prepare: Callable[[range], Batch]) -> NDArray[Any]:
        parts = []
        for start in steps(range(0, n, batch_size), f"{model.name} {what}", "batch"):
            with torch.inference_mode():
                batch = prepare(range(start, min(start + batch_size, n)))
                parts.append(model.embed(batch).embedding.cpu().double().numpy())
        return np.concatenate(parts)

    n = len(pairs)
    paths = [Path(file["path"]) for file in pairs["image"]]
    captions = [captions[0] for captions in pairs["captions"]]
    images = embedded("images", lambda some: model.images([load_rgb(paths[i])[0] for i in some]))
    return images, embedded("texts", lambda some: model.texts([captions[i] for i in some]))


def summarise(found: HeldOut, params: Stats) -> dict[str, dict[str, Any]]:
    """measure of `measures.usable_information` -> its mean over images with its BCa interval.

    All have the same resamples. An interval is about images, given the predictors that the folds trained.
    """
    losses = {f"loss_{sees}": loss for sees, loss in found.losses.items()}
    columns: dict[str, ArrayLike] = {name: one.of(losses) for name, one in records(usable_information).items()}
    return describe_columns(columns, confidence=params.confidence, n_resamples=params.n_resamples, rng=params.seed)
