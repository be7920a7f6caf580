"""Every measure of one model with a planted answer.

Attention, Shapley values and T-SHAP of all models come from the same pairs, those of the balanced regime, so that the
models differ and not the data. Accuracies, and what they lose, come from the pairs of a model's own regime, whose cues
and content agree with the labels as in its training.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from attention_collapse.data.coco import find_annotations
from attention_collapse.data.pairs import read_folder, table
from attention_collapse.data.planted import labels_of
from attention_collapse.errors import DataError
from attention_collapse.measures.matching import additive_without_own
from attention_collapse.measures.scores import by_image, score_pairs
from attention_collapse.models import load
from attention_collapse.models.interface import Model
from attention_collapse.models.small import planted_spec
from attention_collapse.params import Plant
from attention_collapse.stages.contribution import coalitions, draws, shapley_columns
from attention_collapse.stages.extract_attention import extract
from attention_collapse.stages.scoring import score_cells
from attention_collapse.stages.token_contribution import token_contributions

if TYPE_CHECKING:
    from datasets import Dataset

    from attention_collapse.stages.measure_planted import Task

ATTENTION = ("mcs", "mcs_calibrated", "cross_modal_entropy", "cross_modal_entropy_normalized", "mass_share",
             "mass_per_token_ratio")  # fmt: skip
SHAPLEY_VALUES = ("score", "shapley_image", "shapley_text", "interaction", "shapley_share", "shapley_share_mean_image")


def games(model: Model, pairs: Dataset, plant: Plant, *, partners: int, seed: int, batch_size: int) -> pd.DataFrame:
    """Shapley values of each pair's score.

    Returns
    -------
    DataFrame
        One row a pair: score; shapley_image, shapley_text, interaction (units of the score), shapley_share (0 to 1),
        shapley_share_mean_image (the mean image as baseline), image_t_shap (the image's share of the token-level
        Shapley values, NaN beyond the first `plant.t_shap_images`).
    """
    n = len(pairs)
    image, text, _ = draws(n, partners, seed)
    values = shapley_columns(score_cells(model, pairs, coalitions(image, text), batch_size=batch_size))
    tokens = token_contributions(
        model, pairs, images=min(plant.t_shap_images, n), seed=seed, batch_size=batch_size, foil=False
    )
    share = np.full(n, np.nan)
    share[: len(tokens)] = 1 - tokens["t_shap"].to_numpy()
    return pd.DataFrame({name: values[name] for name in SHAPLEY_VALUES} | {"image_t_shap": share})


def accuracies(
    model: Model, of: tuple[Dataset, np.ndarray], plant: Plant, *, partners: int, seed: int, batch_size: int
) -> pd.DataFrame:
    """Whether each pair's label is told, and what is lost without a modality.

    A pair is taken as matching where its score is above the median of all pairs' scores; half of them match.

    Parameters
    ----------
    of
        The pairs, and their labels, (pair,) booleans.

    Returns
    -------
    DataFrame
        One row a pair: accuracy (0 or 1), perceptual_score_image and perceptual_score_text (accuracy lost with another
        pair's image or text, over the partners), emap_gap (accuracy lost by the additive projection, fitted without the
        pair's own score, of the grid of the first `plant.emap_images`; NaN beyond them).
    """
    pairs, labels = of
    n = len(pairs)
    image, text, _ = draws(n, partners, seed)
    own, side = np.arange(n)[:, None], min(plant.emap_images, n)
    rows, columns = np.divmod(np.arange(side * side), side)
    cells = {"both": (own, own), "image": (own, text), "text": (image, own), "grid": (rows, columns)}
    v = score_cells(model, pairs, cells, batch_size=batch_size)
    threshold = float(np.median(v["both"]))

    def right(values: np.ndarray) -> np.ndarray:
        return np.asarray((values > threshold) == labels[:, None], np.float64)

    def above_median(values: np.ndarray) -> np.ndarray:
        return np.asarray((values > np.median(values)) == labels[:side], np.float64)

    accuracy, grid = right(v["both"])[:, 0], v["grid"].reshape(side, side)
    gap = np.full(n, np.nan)
    gap[:side] = above_median(np.diag(grid)) - above_median(additive_without_own(grid))
    return pd.DataFrame({
        "accuracy": accuracy, "perceptual_score_image": accuracy - right(v["text"]).mean(1),
        "perceptual_score_text": accuracy - right(v["image"]).mean(1), "emap_gap": gap,
    })  # fmt: skip


def labelled(folder: Path) -> tuple[Dataset, np.ndarray]:
    """The pairs of a folder that `write_planted` wrote, and their labels."""
    found, skipped = read_folder(folder)
    if skipped:
        raise DataError(
            f"{folder}: {len(skipped)} unusable items", expected="the pairs as rendered", remedy="remove the folder"
        )
    pairs, known = table(found, "planted"), labels_of(find_annotations(folder))
    return pairs, np.array([known[image] for image in pairs["image_id"]])


def measure(model: Model, common: Path, own: Path, plant: Plant, **options: int) -> pd.DataFrame:
    """Every measure of a model, a row a pair, sorted by image id; `own` are the pairs of its regime."""
    pairs, _ = labelled(common)
    scores = score_pairs(extract(model, pairs, batch_size=options["batch_size"]).to_pandas(), model.family)
    attention = by_image(scores.pairs)
    names = [f"{name}_{rows}" for name in ATTENTION for rows in ("all", "readout") if f"{name}_{rows}" in attention]
    told = accuracies(model, labelled(own), plant, **options)
    identity = pd.DataFrame({"image_id": pairs["image_id"]})
    return pd.concat([identity, attention[names], games(model, pairs, plant, **options), told], axis=1)


def measured(task: Task) -> tuple[pd.DataFrame, str]:
    """A model's table, and the digest of its weights."""
    torch.set_num_threads(task.plant.threads)  # the models are too small for more
    model = load(f"{task.kind} {task.checkpoint.name}", planted_spec(task.kind, task.checkpoint))
    values = measure(model, task.common, task.own, task.plant, **task.options)
    values.insert(0, "seed", task.seed)
    values.insert(0, "regime", task.regime)
    return values, str(model.provenance["sha256"])
