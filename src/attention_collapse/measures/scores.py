"""From the table of attention statistics of a model to scores per pair, per image and per layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from attention_collapse.errors import DataError
from attention_collapse.families import CROSS_ATTENTION, SINGLE_STREAM, THREE_GROUP
from attention_collapse.measures.mass import mass_per_token_ratio, mass_share
from attention_collapse.measures.mcs import align_layers, imbalance, layer_imbalance, mcs, mcs_calibrated, mcs_null

ROWS = ("all", "readout")
STATISTICS = ("entropy", "uniform", "support", "entropy_normalized", "undefined")
GROUP_STATISTICS = tuple(f"{name}_{group}" for group in ("image", "text") for name in ("mass", "support"))
TOWERS = ("vision", "text")
SURROGATE = "surrogate"


@dataclass(frozen=True)
class Scores:
    """Scores of one model. Whatever the model does not define is NaN.

    Attributes
    ----------
    pairs
        One row a caption with its image: image_id, caption_id, n_image_tokens, n_text_tokens, truncated, and for
        each choice of rows r: entropy_vision_r, entropy_text_r, uniform_vision_r, uniform_text_r (nats),
        entropy_normalized_vision_r, entropy_normalized_text_r (0 to 1), support_vision_r, support_text_r (keys),
        undefined_vision_r, undefined_text_r (queries without a normalised entropy), mcs_r, mcs_null_r,
        mcs_calibrated_r. If the model has attention between modalities: cross_modal_entropy_r (nats) and
        cross_modal_entropy_normalized_r; if its queries see both: mass_share_r, mass_share_null_r (0 to 1),
        mass_per_token_ratio_r. Of a dual encoder: cross_modal_entropy_surrogate_r (nats) and
        cross_modal_entropy_surrogate_normalized_r.
    layers
        One row an image and layer (captions averaged): image_id, layer (from 1), the same scores, and layer_imbalance_r
        of the averaged score.
    alignment
        (vision layer, text layer) of each row of `layers`, counted from 0; empty if a tower has no attention.
    """

    pairs: pd.DataFrame
    layers: pd.DataFrame
    alignment: list[tuple[int, int]]


def _over_heads(table: pd.DataFrame, tower: str) -> pd.DataFrame:
    """Mean over heads: one row an item and layer, indexed (item, layer); an item is a caption, or an image if the
    tower saw images alone."""
    part = table[table["tower"] == tower]
    item = "image_id" if part["caption_id"].isna().all() else "caption_id"
    names = [name for name in (*STATISTICS, *GROUP_STATISTICS) if f"{name}_{ROWS[0]}" in table]
    columns = [f"{name}_{rows}" for rows in ROWS for name in names]
    means: pd.DataFrame = part.groupby([item, "layer"], sort=True)[columns].mean(skipna=False)
    sizes = part.groupby([item, "layer"]).size()
    layers = part["layer"].nunique()
    if sizes.nunique() > 1 or (means.groupby(level=0).size() != layers).any():
        raise DataError(
            f"attention table: {tower} rows are incomplete",
            expected="every head of every layer for every item",
            remedy="run `dvc repro -f extract_attention` for this model",
        )
    return means


def _scores(vision: pd.DataFrame, text: pd.DataFrame, family: str) -> pd.DataFrame:
    """Scores of frames with equal rows: vision and text entropies, uniform values, masses."""
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
        if family in (CROSS_ATTENTION, SINGLE_STREAM, THREE_GROUP):
            columns[f"cross_modal_entropy_{rows}"] = h_v
            columns[f"cross_modal_entropy_normalized_{rows}"] = values["entropy_normalized_vision"]
        if family in (SINGLE_STREAM, THREE_GROUP):  # the text's queries see both groups
            m_v, n_v, m_t, n_t = (text[f"{name}_{rows}"].to_numpy(np.float64) for name in GROUP_STATISTICS)
            columns |= {
                f"mass_share_{rows}": mass_share(m_v, m_t),
                f"mass_share_null_{rows}": mass_share(n_v, n_t),
                f"mass_per_token_ratio_{rows}": mass_per_token_ratio(m_v, n_v, m_t, n_t),
            }
    return pd.DataFrame(columns)


def score_pairs(table: pd.DataFrame, family: str) -> Scores:
    """Scores of every image–caption pair from the table that `extract_attention` writes.

    Entropies and masses are averaged over heads, then (already in the table) over query rows, then over layers,
    unweighted and in float64; shares are taken last. Layer scores are averaged over an image's captions.
    """
    captions = table[table["caption_id"].notna()].drop_duplicates("caption_id").sort_values(["image_id", "caption_id"])
    image_ids, caption_ids = captions["image_id"].to_numpy(), captions["caption_id"].to_numpy()
    present = set(table["tower"].unique())
    heads = {tower: _over_heads(table, tower) for tower in (*TOWERS, SURROGATE) if tower in present}
    items = {tower: frame.groupby(level=0).mean(skipna=False) for tower, frame in heads.items()}

    def ids_of(tower: str) -> np.ndarray:  # the item of each pair
        return image_ids if heads[tower].index.names[0] == "image_id" else caption_ids

    def of_pairs(tower: str, frame: pd.DataFrame | None) -> pd.DataFrame:
        """Rows of the pairs, NaN for a tower without attention."""
        if frame is not None:
            return frame.loc[ids_of(tower)]
        return pd.DataFrame(np.nan, range(len(captions)), [f"{name}_{rows}" for rows in ROWS for name in STATISTICS])

    def tokens(tower: str) -> np.ndarray:
        if tower not in heads:
            return np.full(len(captions), np.nan)
        part = table[table["tower"] == tower].drop_duplicates(heads[tower].index.names[0])
        counts: np.ndarray = part.set_index(heads[tower].index.names[0]).loc[ids_of(tower), "n_tokens"].to_numpy()
        return counts

    identity = pd.DataFrame(
        {
            "image_id": image_ids,
            "caption_id": caption_ids,
            "n_image_tokens": tokens("vision"),
            "n_text_tokens": tokens("text"),
            "truncated": captions["truncated"].to_numpy(),
        }
    )
    vision, text = (of_pairs(tower, items.get(tower)) for tower in TOWERS)
    frames = [identity, _scores(vision, text, family)]
    if SURROGATE in items:
        values = items[SURROGATE].loc[caption_ids].reset_index(drop=True)
        for rows in ROWS:
            named = {"entropy": "cross_modal_entropy_surrogate",
                     "entropy_normalized": "cross_modal_entropy_surrogate_normalized"}  # fmt: skip
            frames.append(
                values[[f"{key}_{rows}" for key in named]].set_axis([f"{n}_{rows}" for n in named.values()], axis=1)
            )
    pairs = pd.concat(frames, axis=1)
    if not set(TOWERS) <= set(heads):
        empty: dict[str, list[float]] = {
            f"{name}_{rows}": [] for rows in ROWS for name in ("mcs", "mcs_null", "mcs_calibrated")
        }
        return Scores(pairs, pd.DataFrame({"image_id": [], "layer": [], **empty}, dtype=np.float64), [])

    depths = {tower: heads[tower].index.get_level_values(1).nunique() for tower in TOWERS}
    alignment = align_layers(depths["vision"], depths["text"])
    by_layer = []
    for layer, chosen in enumerate(alignment, start=1):
        vision, text = (
            heads[tower].loc[(slice(None), index), :].droplevel(1).loc[ids_of(tower)]
            for tower, index in zip(TOWERS, chosen, strict=True)
        )
        frame = _scores(vision, text, family)
        frame.insert(0, "layer", layer)
        frame.insert(0, "image_id", image_ids)
        mean = frame.groupby(["image_id", "layer"]).mean(skipna=False).reset_index()
        by_layer.append(
            mean.assign(**{f"layer_imbalance_{rows}": layer_imbalance(mean[f"mcs_{rows}"]) for rows in ROWS})
        )
    layers = pd.concat(by_layer, ignore_index=True).sort_values(["image_id", "layer"], ignore_index=True)
    return Scores(pairs, layers, alignment)


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
    table = table[table["tower"].isin(TOWERS)]
    if not len(table):
        return pd.DataFrame({name: [] for name in ("tower", "layer", "head", *columns)})
    means = table.groupby(["tower", "layer", "head"], sort=True)[columns].mean().reset_index()
    return means.assign(layer=means["layer"] + 1)
