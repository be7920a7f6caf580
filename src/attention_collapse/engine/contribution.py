"""What a model's score depends on, image or text, for every kind of model, attention or not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from attention_collapse.engine.scoring import Cells, score_cells
from attention_collapse.identity.settle import with_slack
from attention_collapse.identity.tolerance import score_error
from attention_collapse.measures.matching import (
    accuracy,
    accuracy_without_image,
    accuracy_without_text,
    additive_projection,
    won,
)
from attention_collapse.measures.shapley import shapley_share, two_player
from attention_collapse.models.interface import Model
from attention_collapse.params import Stats
from attention_collapse.stats.one_sample import describe

if TYPE_CHECKING:
    from datasets import Dataset

BASELINES = {
    "": "another pair's image, another pair's caption",
    "_mean_image": "the data set's mean image, another pair's caption",
}
SHAPLEY = ("shapley_image", "shapley_text", "interaction", "shapley_share")
COLUMNS = (
    "score", *[f"{name}{suffix}" for suffix in BASELINES for name in SHAPLEY],
    "accuracy", "perceptual_score_image", "perceptual_score_text", "emap_gap",
)  # fmt: skip
LOST = ("perceptual_score_image", "perceptual_score_text", "emap_gap")  # of the accuracy
T_SHAP = ("t_shap", "t_shap_foil", "t_shap_floor")
FEWEST = 3  # images: a partner of the image and one of the text, from two other pairs


def draws(n: int, partners: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whose image and whose text stand for absent ones, (pair, partner) each, and whose text is the foil, (pair, 1).

    Never the pair's own, and never image and text of one pair. They repeat where partners outnumber the other pairs.
    """
    rng = np.random.default_rng(seed)
    others = [np.delete(np.arange(n), i) for i in range(n)]
    drawn = np.array([[rng.choice(others[i], 2, replace=False) for _ in range(partners)] for i in range(n)])
    foil = np.array([rng.choice(others[i]) for i in range(n)])[:, None]
    return drawn[..., 0], drawn[..., 1], foil


def coalitions(image: np.ndarray, text: np.ndarray) -> Cells:
    """The cells of each pair's four coalitions, for both baselines; `image` and `text` stand for absent ones."""
    n = len(image)
    own, mean = np.arange(n)[:, None], np.full((n, 1), n)
    return {
        "both": (own, own), "image": (own, text), "text": (image, own), "neither": (image, text),
        "text_mean_image": (mean, own), "neither_mean_image": (mean, text),
    }  # fmt: skip


def shapley_columns(v: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The score and the columns `SHAPLEY` for both baselines, (pair,) each, from the scores of `coalitions`."""
    result = {"score": v["both"][:, 0]}
    for suffix in BASELINES:
        game = two_player(v["both"], v["image"], v[f"text{suffix}"], v[f"neither{suffix}"])  # (pair, partner)
        phi = game.image.mean(1), game.text.mean(1)
        result |= {f"shapley_image{suffix}": phi[0], f"shapley_text{suffix}": phi[1]}
        result |= {f"interaction{suffix}": game.interaction.mean(1), f"shapley_share{suffix}": shapley_share(*phi)}
    return result


def contributions(
    model: Model, pairs: Dataset, *, partners: int, seed: int, batch_size: int, work: Path | None = None,
    identity: str = "",
) -> pd.DataFrame:  # fmt: skip
    """What the score of each image with its first caption, and the choice of that caption over a foil, depend on.

    The baseline of an absent image is another pair's image, or (columns ending in _mean_image) the data set's mean
    image; that of an absent text is another pair's caption. Partners of image and text come from two different pairs,
    so that nothing ablated matches. The foil is another pair's caption. All are drawn by `seed`; values are averaged
    over `partners` draws, and for dual encoders accuracies without a modality are exact expectations over all pairs.

    Parameters
    ----------
    pairs
        The table of `data.pairs.table`.
    work
        Folder for finished batches of a model that runs pair by pair; those found there are not run again if they were
        written for the same `identity`, `partners`, `seed` and `batch_size`.

    Returns
    -------
    DataFrame
        One row an image: image_id, caption_id, score; shapley_image, shapley_text, interaction (in units of the
        score), shapley_share (0 to 1), and the same with _mean_image; accuracy (1 if the caption scores above the
        foil, ½ for a tie, else 0), perceptual_score_image and perceptual_score_text (the accuracy lost when that
        modality is another pair's, −1 to 1; Gat et al. 2021), emap_gap (the accuracy lost by the additive projection
        of the grid of scores; Hessel & Lee 2020; NaN for models other than dual encoders, whose grid is N × N passes).
        With fewer than 3 images there is nothing to draw from: all NaN. Columns `<column>_slack`: see
        `settle.settle_frame`.

    Raises
    ------
    DataError
        If a score is NaN or infinite.
    """
    n = len(pairs)
    ids = {"image_id": pairs["image_id"], "caption_id": [captions[0] for captions in pairs["caption_ids"]]}
    if n < FEWEST:
        return pd.DataFrame(ids | {name: np.full(n, np.nan) for name in COLUMNS})
    image, text, foil = draws(n, partners, seed)
    own = np.arange(n)[:, None]
    cells = coalitions(image, text) | {"foil": (own, foil), "text_foil": (image, foil)}
    v = score_cells(
        model, pairs, cells, batch_size=batch_size, work=work, identity=f"{identity} partners={partners} seed={seed}"
    )
    grid = v["grid"][:n] if "grid" in v else None
    games = shapley_columns(v)
    right, *without = _right(v, grid, foil[:, 0])
    lost = {name: right - other for name, other in zip(LOST, without, strict=True)}
    result = pd.DataFrame(ids | games | {"accuracy": right} | lost)[[*ids, *COLUMNS]]
    error = score_error(np.concatenate([values.ravel() for values in v.values()]))
    more, less = (_right(v, grid, foil[:, 0], lead) for lead in (2 * error, -2 * error))  # of both scores
    unsure, *others = (np.nan_to_num(a - b) for a, b in zip(more, less, strict=True))
    slack = {"accuracy": unsure} | {name: unsure + other for name, other in zip(LOST, others, strict=True)}
    return with_slack(result, slack | share_slack(games, error))


def share_slack(games: Mapping[str, np.ndarray], error: float) -> dict[str, np.ndarray]:
    """How far errors of the score may move each share of `shapley_columns`: far, where both values are small."""
    slack = {}
    for suffix in BASELINES:
        size = np.abs(games[f"shapley_image{suffix}"]) + np.abs(games[f"shapley_text{suffix}"])
        slack[f"shapley_share{suffix}"] = error / np.maximum(size, error)
    return slack


def _right(
    v: dict[str, np.ndarray], grid: np.ndarray | None, foil: np.ndarray, lead: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Accuracy against the foil (pair,): with both, without the image, without the text, of the additive projection.

    Exactly from a grid, else over the partners drawn and without the projection; `lead` as of `measures.matching.won`.
    """
    if grid is not None:
        return (
            accuracy(grid, foil, lead), accuracy_without_image(grid, foil, lead),
            accuracy_without_text(grid, foil, lead), accuracy(additive_projection(grid), foil, lead),
        )  # fmt: skip
    right = won(v["both"], v["foil"], lead)[:, 0]
    without = won(v["text"], v["text_foil"], lead).mean(1), won(v["image"], v["foil"], lead).mean(1)
    return right, *without, np.full(len(right), np.nan)


def _described(values: pd.Series, stats: Stats) -> dict[str, Any]:
    rng = np.random.default_rng(stats.seed)
    return dict(describe(values, confidence=stats.confidence, n_resamples=stats.n_resamples, rng=rng))


def summarise(values: pd.DataFrame, stats: Stats) -> dict[str, Any]:
    """Mean and interval over images of each column of `contributions`."""
    result: dict[str, Any] = {name: _described(values[name], stats) for name in COLUMNS}
    if len(values) < FEWEST:
        reason = f"{len(values)} images: nothing to draw ablation partners from, {FEWEST} or more needed"
        return {name: summary | {"reason": reason} for name, summary in result.items()}
    if values["emap_gap"].isna().all():
        result["emap_gap"]["reason"] = "needs the score of every image with every text, N × N passes of this model"
    return result
