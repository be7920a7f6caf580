"""The metrics of one model from its scores: means over images, for both choices of rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from attention_collapse.engine.scores import Scores, by_image
from attention_collapse.measures.attention import ATTENTION_MEASURES, ROWS
from attention_collapse.measures.mcs import VISION_COLLAPSE, thirds
from attention_collapse.measures.record import undefined_measures, using

PLACES = ("lowest", "median", "highest")


def extremes(images: pd.DataFrame, score: str) -> pd.DataFrame:
    """The images of lowest, median (the lower of two) and highest score, ties by id: place, image_id, score.

    Images without the score are left out, and no image is chosen twice.
    """
    if score not in images:
        return pd.DataFrame({"place": [], "image_id": [], "score": []})
    ranked = images.dropna(subset=[score]).sort_values([score, "image_id"], ignore_index=True)
    places: dict[int, str] = {}
    for place, index in zip(PLACES, (0, (len(ranked) - 1) // 2, len(ranked) - 1), strict=True):
        if len(ranked):
            places.setdefault(index, place)
    chosen = ranked.loc[sorted(places), ["image_id", score]].rename(columns={score: "score"}).reset_index(drop=True)
    chosen.insert(0, "place", [places[index] for index in sorted(places)])
    return chosen


def _share_above(values: pd.Series[float]) -> float:
    """Share of the defined values above the reported threshold; NaN if none is defined."""
    defined = values.dropna()
    return float((defined > VISION_COLLAPSE).mean()) if len(defined) else math.nan


def summarise(scores: Scores, headline_rows: str, family: str, missing: Mapping[str, str]) -> dict[str, Any]:
    """The metrics of one model: means over images (captions averaged first), for both choices of rows.

    A measure that the model does not define is null, and `reasons` says why.
    """
    images, result = by_image(scores.pairs), {}
    for rows in ROWS:
        columns = [column for column in images.columns if column.endswith(f"_{rows}")]
        values: dict[str, Any] = {column.removesuffix(f"_{rows}"): float(images[column].mean()) for column in columns}
        share, null = scores.pairs[f"mcs_{rows}"], scores.pairs[f"mcs_null_{rows}"]
        values["share_of_pairs_above_0_7"] = _share_above(share)
        values["share_of_nulls_above_0_7"] = _share_above(null)
        undefined = share.isna() | scores.pairs[f"mcs_calibrated_{rows}"].isna()
        values["n_undefined_pairs"] = int(undefined.sum())
        result[rows] = (
            dict.fromkeys(name for name, found in ATTENTION_MEASURES.items() if found.level != "layer") | values
        )
    layer_means = scores.layers.groupby("layer").mean()
    shown = {  # name in the metrics -> column
        name if measure.level == "layer" else f"layer_{name}": f"{name}_{headline_rows}"
        for name, measure in using(ATTENTION_MEASURES, "layers").items()
        if f"{name}_{headline_rows}" in layer_means
    }
    layers = {
        name: {f"{int(layer):02d}": float(layer_means.loc[layer, column]) for layer in layer_means.index}
        for name, column in shown.items()
    }
    parts = {
        part: {name: float(layer_means.iloc[index][column].mean()) for name, column in shown.items()}
        for part, index in thirds(len(layer_means)).items()
        if index
    }
    return {
        "rows": headline_rows,
        "family": family,
        "reasons": undefined_measures(ATTENTION_MEASURES, family, missing),
        **result[headline_rows],
        "by_rows": result,
        **layers,
        "thirds": parts,
        "layer_alignment": " ".join(f"{vision + 1}:{text + 1}" for vision, text in scores.alignment),
        "n_images": len(images),
        "n_pairs": len(scores.pairs),
        "n_truncated_captions": int(scores.pairs["truncated"].sum()),
    }
