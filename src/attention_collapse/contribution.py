"""Causal contributions of image and text to a model's score, for every kind of model, attention or not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from attention_collapse.data.images import load_rgb
from attention_collapse.errors import DataError
from attention_collapse.families import DUAL_ENCODER
from attention_collapse.measures.shapley import shapley_share, two_player
from attention_collapse.models.interface import Model, TwoTowers

if TYPE_CHECKING:
    from datasets import Dataset

Indices = list[tuple[int, int]]  # (image, text) by position


def _scores(model: Model, paths: list[Path], texts: list[str], wanted: Indices, batch_size: int) -> np.ndarray:
    """The model's score of each wanted (image, text), each distinct one computed once; towers encode once an item."""
    if model.family == DUAL_ENCODER:
        towers, parts = cast("TwoTowers", model), {}
        for kind, items in (("image", paths), ("text", texts)):
            embeddings = []
            for start in tqdm(range(0, len(items), batch_size), desc=f"{model.name} {kind}s", disable=None):
                some = items[start : start + batch_size]
                contents = [load_rgb(path)[0] for path in some] if kind == "image" else some  # type: ignore[arg-type]
                with torch.inference_mode():
                    embedding = model.run(model.batch(kind, contents)).embedding
                embeddings.append(cast("torch.Tensor", embedding).double().cpu())
            parts[kind] = torch.cat(embeddings)
        grid = towers.logit_scale * parts["image"] @ parts["text"].T + towers.logit_bias  # (image, text)
        return np.array([float(grid[image, text]) for image, text in wanted])
    distinct = sorted(set(wanted))
    values: dict[tuple[int, int], float] = {}
    for start in tqdm(range(0, len(distinct), batch_size), desc=f"{model.name} coalitions", unit="batch", disable=None):
        part = distinct[start : start + batch_size]
        pictures = {image: load_rgb(paths[image])[0] for image in {image for image, _ in part}}
        with torch.inference_mode():
            score = model.run(model.batch("pair", [(pictures[image], texts[text]) for image, text in part])).score
        values |= dict(zip(part, cast("torch.Tensor", score).double().cpu().tolist(), strict=True))
    return np.array([values[key] for key in wanted])


def contributions(model: Model, pairs: Dataset, *, partners: int, seed: int, batch_size: int) -> pd.DataFrame:
    """Two-player Shapley values of each image with its first caption.

    The baseline of an absent image is another pair's image, that of an absent text another pair's caption, from two
    different pairs so that nothing ablated matches; values are averaged over `partners` such draws.

    Returns
    -------
    DataFrame
        One row an image: image_id, caption_id, score, shapley_image, shapley_text, interaction (in units of the
        score), shapley_share (0 to 1).

    Raises
    ------
    DataError
        With fewer than 3 images (nothing to draw from), or if a score is NaN.
    """
    n = len(pairs)
    if n < 3:
        raise DataError(
            f"{n} images to draw ablation partners from",
            expected="3 or more",
            remedy="add pairs, or ask for no partners",
        )
    rng = np.random.default_rng(seed)
    wanted: Indices = []
    for i in range(n):
        others = np.delete(np.arange(n), i)
        for _ in range(partners):
            image, text = (int(other) for other in rng.choice(others, 2, replace=False))
            wanted += [(i, i), (i, text), (image, i), (image, text)]
    texts = [captions[0] for captions in pairs["captions"]]
    paths = [Path(file["path"]) for file in pairs["image"]]
    values = _scores(model, paths, texts, wanted, batch_size).reshape(n, partners, 4)
    if not np.isfinite(values).all():
        raise DataError(
            f"{model.name}: {int((~np.isfinite(values)).sum())} scores are NaN or infinite",
            expected="a finite score for every pair",
            remedy="check the checkpoint and its dtype (half precision overflows)",
        )
    game = two_player(*np.moveaxis(values, -1, 0))  # (pair, partner)
    image, text = game.image.mean(1), game.text.mean(1)
    return pd.DataFrame(
        {
            "image_id": pairs["image_id"],
            "caption_id": [ids[0] for ids in pairs["caption_ids"]],
            "score": values[:, 0, 0],
            "shapley_image": image,
            "shapley_text": text,
            "interaction": game.interaction.mean(1),
            "shapley_share": shapley_share(image, text),
        }
    )
