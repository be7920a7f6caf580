"""From the table of attention statistics of a dual encoder to scores per pair and per layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from attention_collapse.errors import DataError
from attention_collapse.measures.mcs import align_layers, imbalance, layer_imbalance, mcs, mcs_calibrated, mcs_null

ROWS = ("all", "readout")
STATISTICS = ("entropy", "uniform", "support", "entropy_normalized", "undefined")
TOWERS = ("vision", "text")


@dataclass(frozen=True)
class TwoTowerScores:
    """Scores of one model.

    Attributes
    ----------
    pairs
        One row a caption with its image: image_id, caption_id, n_image_tokens, n_text_tokens, truncated, and for
        each choice of rows r: entropy_vision_r, entropy_text_r, uniform_vision_r, uniform_text_r (nats),
        entropy_normalized_vision_r, entropy_normalized_text_r (0 to 1), support_vision_r, support_text_r (keys),
        undefined_vision_r, undefined_text_r (queries with one visible key), mcs_r, mcs_null_r, mcs_calibrated_r.
    layers
        One row an image and layer (captions averaged): image_id, layer (from 1), the same scores, and layer_imbalance_r
        of the averaged score.
    alignment
        (vision layer, text layer) of each row of `layers`, counted from 0.
    """

    pairs: pd.DataFrame
    layers: pd.DataFrame
    alignment: list[tuple[int, int]]


def _over_heads(table: pd.DataFrame, tower: str) -> pd.DataFrame:
    """Mean over heads: one row an item and layer, indexed (item, layer)."""
    item = "image_id" if tower == "vision" else "caption_id"
    part = table[table["tower"] == tower]
    columns = [f"{name}_{rows}" for rows in ROWS for name in STATISTICS]
    means: pd.DataFrame = part.groupby([item, "layer"], sort=True)[columns].mean()
    sizes = part.groupby([item, "layer"]).size()
    layers = part["layer"].nunique()
    if sizes.nunique() != 1 or (means.groupby(level=0).size() != layers).any():
        raise DataError(
            f"attention table: {tower} rows are incomplete",
            expected="every head of every layer for every item",
            remedy="run `dvc repro -f extract_attention` for this model",
        )
    return means


def _scores(vision: pd.DataFrame, text: pd.DataFrame) -> pd.DataFrame:
    """Scores of frames with equal rows: vision and text entropies, uniform values."""
    columns: dict[str, np.ndarray] = {}
    for rows in ROWS:
        values = {
            f"{name}_{tower}": frame[f"{name}_{rows}"].to_numpy(np.float64)
            for name in STATISTICS
            for tower, frame in (("vision", vision), ("text", text))
        }
        h_v, h_t, u_v, u_t = (
            values[key] for key in ("entropy_vision", "entropy_text", "uniform_vision", "uniform_text")
        )
        columns |= {f"{key}_{rows}": value for key, value in values.items()}
        columns |= {
            f"mcs_{rows}": mcs(h_v, h_t),
            f"mcs_null_{rows}": mcs_null(u_v, u_t),
            f"mcs_calibrated_{rows}": mcs_calibrated(h_v, h_t, u_v, u_t),
        }
    return pd.DataFrame(columns)


def score_pairs(table: pd.DataFrame) -> TwoTowerScores:
    """Scores of every image–caption pair from the table that `extract_attention` writes.

    Entropies are averaged over heads, then (already in the table) over query rows, then over layers, unweighted and
    in float64; the share is taken last. Layer scores are averaged over an image's captions.
    """
    heads = {tower: _over_heads(table, tower) for tower in TOWERS}
    items = {tower: frame.groupby(level=0).mean() for tower, frame in heads.items()}
    about = table.drop_duplicates(["tower", "image_id", "caption_id"])
    captions = about[about["tower"] == "text"].sort_values(["image_id", "caption_id"])
    images = about[about["tower"] == "vision"].set_index("image_id")
    image_ids, caption_ids = captions["image_id"].to_numpy(), captions["caption_id"].to_numpy()

    identity = pd.DataFrame(
        {
            "image_id": image_ids,
            "caption_id": caption_ids,
            "n_image_tokens": images.loc[image_ids, "n_tokens"].to_numpy(),
            "n_text_tokens": captions["n_tokens"].to_numpy(),
            "truncated": captions["truncated"].to_numpy(),
        }
    )
    scores = _scores(items["vision"].loc[image_ids], items["text"].loc[caption_ids])
    pairs = pd.concat([identity, scores], axis=1)

    depths = {tower: frame.index.get_level_values(1).nunique() for tower, frame in heads.items()}
    alignment = align_layers(depths["vision"], depths["text"])
    frames = []
    for layer, (vision_layer, text_layer) in enumerate(alignment, start=1):
        at = {
            "vision": heads["vision"].loc[(slice(None), vision_layer), :].droplevel(1).loc[image_ids],
            "text": heads["text"].loc[(slice(None), text_layer), :].droplevel(1).loc[caption_ids],
        }
        frame = _scores(at["vision"], at["text"])
        frame.insert(0, "layer", layer)
        frame.insert(0, "image_id", image_ids)
        mean = frame.groupby(["image_id", "layer"]).mean(skipna=False).reset_index()
        frames.append(mean.assign(**{f"layer_imbalance_{rows}": layer_imbalance(mean[f"mcs_{rows}"]) for rows in ROWS}))
    layers = pd.concat(frames, ignore_index=True).sort_values(["image_id", "layer"], ignore_index=True)
    return TwoTowerScores(pairs, layers, alignment)


def by_image(pairs: pd.DataFrame) -> pd.DataFrame:
    """Mean over each image's captions: the unit of analysis, one row an image, sorted by id.

    An image with an undefined caption is undefined itself, so that it is counted and not half used. `imbalance_r` is
    that of the averaged score.
    """
    numeric = pairs.drop(columns=["caption_id", "truncated"])
    means = numeric.groupby("image_id", sort=True).mean(skipna=False).reset_index()
    return means.assign(**{f"imbalance_{rows}": imbalance(means[f"mcs_{rows}"]) for rows in ROWS})


def by_head(table: pd.DataFrame) -> pd.DataFrame:
    """Mean over items of each head: tower, layer and head (layers from 1), entropy_r, uniform_r,
    entropy_normalized_r."""
    columns = [f"{name}_{rows}" for rows in ROWS for name in ("entropy", "uniform", "entropy_normalized")]
    means = table.groupby(["tower", "layer", "head"], sort=True)[columns].mean().reset_index()
    return means.assign(layer=means["layer"] + 1)
