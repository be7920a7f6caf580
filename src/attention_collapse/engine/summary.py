"""The metrics of one model from its scores: means over images, for both choices of rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from attention_collapse.families import ATTENTION_MEASURES, undefined_measures
from attention_collapse.measures.mcs import VISION_COLLAPSE, thirds
from attention_collapse.measures.scores import ROWS, Scores, by_image

# column of the layers table -> name in the metrics
LAYER_MEASURES = {
    "mcs": "layer_mcs",
    "mcs_null": "layer_mcs_null",
    "mcs_calibrated": "layer_mcs_calibrated",
    "layer_imbalance": "layer_imbalance",
    "entropy_vision": "layer_entropy_vision",
    "entropy_text": "layer_entropy_text",
}


def _share_above(values: pd.Series[float]) -> float:
    """Share of the defined values above the published threshold; NaN if none is defined."""
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
        values = dict.fromkeys(ATTENTION_MEASURES) | values
        result[rows] = values
    layer_means = scores.layers.groupby("layer").mean()
    present = [name for name in LAYER_MEASURES if f"{name}_{headline_rows}" in layer_means]
    layers = {
        LAYER_MEASURES[name]: {
            f"{int(layer):02d}": float(layer_means.loc[layer, f"{name}_{headline_rows}"]) for layer in layer_means.index
        }
        for name in present
    }
    parts = {
        part: {
            LAYER_MEASURES[name]: float(layer_means.iloc[index][f"{name}_{headline_rows}"].mean()) for name in present
        }
        for part, index in thirds(len(layer_means)).items()
        if index
    }
    return {
        "rows": headline_rows,
        "family": family,
        "reasons": undefined_measures(family, missing),
        **result[headline_rows],
        "by_rows": result,
        **layers,
        "thirds": parts,
        "layer_alignment": " ".join(f"{vision + 1}:{text + 1}" for vision, text in scores.alignment),
        "n_images": len(images),
        "n_pairs": len(scores.pairs),
        "n_truncated_captions": int(scores.pairs["truncated"].sum()),
    }
