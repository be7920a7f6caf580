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
from attention_collapse.data.planted_files import labels_of
from attention_collapse.engine.alike import same_pairs
from attention_collapse.engine.attention import extract
from attention_collapse.engine.contribution import coalitions, columns_of, draws
from attention_collapse.engine.scores import by_image, score_pairs
from attention_collapse.engine.scoring import score_cells
from attention_collapse.engine.token_contribution import token_contributions
from attention_collapse.errors import DataError
from attention_collapse.identity.settle import with_slack
from attention_collapse.measures.attention import ATTENTION_MEASURES, ROWS
from attention_collapse.measures.matching import additive_without_own
from attention_collapse.measures.token_shapley import image_t_shap
from attention_collapse.models import load
from attention_collapse.models.interface import Model
from attention_collapse.models.small import planted_spec
from attention_collapse.params import Plant

if TYPE_CHECKING:
    from datasets import Dataset


def games(model: Model, pairs: Dataset, plant: Plant, *, partners: int, seed: int, batch_size: int) -> pd.DataFrame:
    """Shapley values of each pair's score.

    Returns
    -------
    DataFrame
        One row per pair: every measure that the four coalitions give, and image_t_shap (NaN beyond the first
        `plant.t_shap_images`).
    """
    n = len(pairs)
    image, text, _ = draws(n, partners, seed, same_pairs(pairs))
    found = score_cells(model, pairs, coalitions(image, text), batch_size=batch_size)
    tokens = token_contributions(
        model, pairs, images=min(plant.t_shap_images, n), seed=seed, batch_size=batch_size, foil=False
    )
    share = np.full(n, np.nan)
    share[: len(tokens)] = image_t_shap(tokens["t_shap"].to_numpy())
    columns = columns_of(found.cells, {}, found.error, partners={"image": image, "text": text})
    return columns.assign(image_t_shap=share)


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
        One row per pair: accuracy (0 or 1), perceptual_score_image and perceptual_score_text (accuracy lost with
        another pair's image or text, over the partners), emap_gap (accuracy lost by the additive projection, fitted
        without the pair's own score, of the grid of the first `plant.emap_images`; NaN beyond them).
    """
    pairs, labels = of
    n = len(pairs)
    image, text, _ = draws(n, partners, seed, same_pairs(pairs))
    each, side = np.arange(n)[:, None], min(plant.emap_images, n)
    rows, columns = np.divmod(np.arange(side * side), side)
    cells = {"both": (each, each), "image": (each, text), "text": (image, each), "grid": (rows, columns)}
    scored = score_cells(model, pairs, cells, batch_size=batch_size)
    v, error = scored.cells, scored.error
    threshold, grid = float(np.median(v["both"])), v["grid"].reshape(side, side)

    def told(values: np.ndarray, known: np.ndarray, cut: float) -> tuple[np.ndarray, np.ndarray]:
        """Whether each label is told, and whether the score is too close to the cut to say."""
        return np.asarray((values > cut) == known, np.float64), np.asarray(np.abs(values - cut) <= 2 * error, float)

    right, unsure = (found[:, 0] for found in told(v["both"], labels[:, None], threshold))
    values, slack = {"accuracy": right}, {"accuracy": unsure}
    for lost, without in (("image", "text"), ("text", "image")):
        other, close = (found.mean(1) for found in told(v[without], labels[:, None], threshold))
        values[f"perceptual_score_{lost}"], slack[f"perceptual_score_{lost}"] = right - other, unsure + close
    values["emap_gap"], slack["emap_gap"] = np.full(n, np.nan), np.zeros(n)
    own, additive = np.diag(grid), additive_without_own(grid)
    whole, projected = (told(found, labels[:side], float(np.median(found))) for found in (own, additive))
    values["emap_gap"][:side], slack["emap_gap"][:side] = whole[0] - projected[0], whole[1] + projected[1]
    return with_slack(pd.DataFrame(values), slack)


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
    """Every measure of a model, one row per pair, sorted by image id; `own` are the pairs of its regime."""
    pairs, _ = labelled(common)
    scores = score_pairs(extract(model, pairs, batch_size=options["batch_size"]).to_pandas(), model.family)
    attention = by_image(scores.pairs)
    claiming = [name for name, measure in ATTENTION_MEASURES.items() if measure.claims]
    names = [f"{name}_{rows}" for name in claiming for rows in ROWS if f"{name}_{rows}" in attention]
    told = accuracies(model, labelled(own), plant, **options)
    identity = pd.DataFrame({"image_id": pairs["image_id"]})
    return pd.concat([identity, attention[names], games(model, pairs, plant, **options), told], axis=1)


def measured(
    kind: str, checkpoint: Path, pairs: tuple[Path, Path], plant: Plant, **options: int
) -> tuple[pd.DataFrame, str]:
    """The table of `measure` of a model in a checkpoint folder, and the digest of its weights; `pairs`: common, own."""
    torch.set_num_threads(plant.threads)  # the models are too small for more
    model = load(f"{kind} {checkpoint.name}", planted_spec(kind, checkpoint))
    common, own = pairs
    return measure(model, common, own, plant, **options), str(model.provenance["sha256"])
