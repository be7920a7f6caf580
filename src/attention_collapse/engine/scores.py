"""From the table of attention statistics of a model to scores per pair, per image and per layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from attention_collapse.errors import DataError
from attention_collapse.measures.attention import ATTENTION_MEASURES, ROWS
from attention_collapse.measures.mcs import align_layers
from attention_collapse.measures.record import using

STATISTICS = ("entropy", "uniform", "support", "entropy_normalized", "undefined")
# column of a measure's formula -> statistic of the text's queries, which see both groups
GROUP_STATISTICS = {
    "mass_of_image": "mass_image", "keys_of_image": "support_image", "mass_of_text": "mass_text",
    "keys_of_text": "support_text",
}  # fmt: skip
TOWERS = ("vision", "text")
OF_HEADS = tuple(f"{name}_{rows}" for rows in ROWS for name in ("entropy", "uniform", "entropy_normalized"))
SURROGATE = "surrogate"


@dataclass(frozen=True)
class Scores:
    """Scores of one model. Whatever the model does not define is NaN.

    Attributes
    ----------
    pairs
        One row per caption with its image: image_id, caption_id, n_image_tokens, n_text_tokens, truncated, and for each
        choice of rows r: entropy_vision_r, entropy_text_r, uniform_vision_r, uniform_text_r (nats),
        entropy_normalized_vision_r, entropy_normalized_text_r (0 to 1), support_vision_r, support_text_r (keys),
        undefined_vision_r, undefined_text_r (queries without a normalised entropy), and every measure of attention
        that the model's family defines.
    layers
        One row per image and layer (captions averaged): image_id, layer (from 1), the same, and the measures of layers.
    alignment
        (vision layer, text layer) of each row of `layers`, counted from 0; empty if a tower has no attention.
    """

    pairs: pd.DataFrame
    layers: pd.DataFrame
    alignment: list[tuple[int, int]]


def _over_heads(table: pd.DataFrame, tower: str) -> pd.DataFrame:
    """Mean over heads: one row per item and layer, indexed (item, layer); an item is a caption, or an image if the
    tower saw images alone."""
    part = table[table["tower"] == tower]
    item = "image_id" if part["caption_id"].isna().all() else "caption_id"
    names = [name for name in (*STATISTICS, *GROUP_STATISTICS.values()) if f"{name}_{ROWS[0]}" in table]
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


def _scores(frames: Mapping[str, pd.DataFrame], family: str) -> pd.DataFrame:
    """Statistics and measures of pairs, from frames with equal rows: tower -> its statistics."""
    columns: dict[str, np.ndarray] = {}
    for rows in ROWS:
        given = {
            f"{name}_{tower}": frames[tower][f"{name}_{rows}"].to_numpy(np.float64)
            for name in STATISTICS
            for tower in TOWERS
        }
        columns |= {f"{key}_{rows}": value for key, value in given.items()}
        if SURROGATE in frames:
            given |= {f"{name}_{SURROGATE}": frames[SURROGATE][f"{name}_{rows}"].to_numpy() for name in STATISTICS}
        given |= {
            key: frames["text"][f"{name}_{rows}"].to_numpy(np.float64)
            for key, name in GROUP_STATISTICS.items()
            if f"{name}_{rows}" in frames["text"]
        }
        for name, measure in ATTENTION_MEASURES.items():
            if measure.level == "pair" and measure.is_possible(family, given):
                given[name] = columns[f"{name}_{rows}"] = measure.of(given)
    return pd.DataFrame(columns)


def _of_means(frame: pd.DataFrame, level: str) -> pd.DataFrame:
    """The frame with the measures of a level ("image", "layer"), which are made of means."""
    found = {}
    for rows in ROWS:
        given = {str(name).removesuffix(f"_{rows}"): frame[name] for name in frame if str(name).endswith(f"_{rows}")}
        for name, measure in ATTENTION_MEASURES.items():
            if measure.level == level and measure.is_possible("", given):
                found[f"{name}_{rows}"] = measure.of(given)
    return frame.assign(**found)


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
    frames = {tower: of_pairs(tower, items.get(tower)) for tower in TOWERS}
    if SURROGATE in items:
        frames[SURROGATE] = items[SURROGATE].loc[caption_ids]
    pairs = pd.concat([identity, _scores(frames, family)], axis=1)
    if not set(TOWERS) <= set(heads):
        names = using(ATTENTION_MEASURES, "bands")
        empty: dict[str, list[float]] = {f"{name}_{rows}": [] for rows in ROWS for name in names}
        return Scores(pairs, pd.DataFrame({"image_id": [], "layer": [], **empty}, dtype=np.float64), [])

    depths = {tower: heads[tower].index.get_level_values(1).nunique() for tower in TOWERS}
    alignment = align_layers(depths["vision"], depths["text"])
    by_layer = []
    for layer, chosen in enumerate(alignment, start=1):
        frames = {
            tower: heads[tower].loc[(slice(None), index), :].droplevel(1).loc[ids_of(tower)]
            for tower, index in zip(TOWERS, chosen, strict=True)
        }
        frame = _scores(frames, family)
        frame.insert(0, "layer", layer)
        frame.insert(0, "image_id", image_ids)
        by_layer.append(_of_means(frame.groupby(["image_id", "layer"]).mean(skipna=False).reset_index(), "layer"))
    layers = pd.concat(by_layer, ignore_index=True).sort_values(["image_id", "layer"], ignore_index=True)
    return Scores(pairs, layers, alignment)


def by_image(pairs: pd.DataFrame) -> pd.DataFrame:
    """Mean over each image's captions: the unit of analysis, one row per image, sorted by id.

    An image with an undefined caption is undefined itself, so that it is counted and not half used. Measures of the
    level "image" are those of the averaged scores.
    """
    numeric = pairs.drop(columns=["caption_id", "truncated"])
    return _of_means(numeric.groupby("image_id", sort=True).mean(skipna=False).reset_index(), "image")


def score_blocks(blocks: Iterable[pd.DataFrame], family: str) -> tuple[Scores, pd.DataFrame]:
    """Scores of every pair, and the mean of each head, from a table of which some images at a time are in memory.

    Parameters
    ----------
    blocks
        Of the table of `engine.attention.extract`: all rows of some images each, in the order of the images' ids
        (`engine.attention_table.blocks`).

    Returns
    -------
    Scores, DataFrame
        As `score_pairs` gives them of the whole; of each tower, layer and head (layers from 1) the mean over items of
        entropy_r, uniform_r and entropy_normalized_r.
    """
    found: list[Scores] = []
    sums, counts, keys = [], [], ["tower", "layer", "head"]
    for block in blocks:
        found.append(score_pairs(block, family))
        if len(seen := block[block["tower"].isin(TOWERS)]):
            grouped = seen.groupby(keys, sort=True)[list(OF_HEADS)]
            sums.append(grouped.sum())
            counts.append(grouped.count())
    scores = Scores(
        pd.concat([one.pairs for one in found], ignore_index=True),
        pd.concat([one.layers for one in found], ignore_index=True),
        found[0].alignment,
    )
    if not sums:
        return scores, pd.DataFrame({name: [] for name in (*keys, *OF_HEADS)})
    means = (pd.concat(sums).groupby(keys).sum() / pd.concat(counts).groupby(keys).sum()).reset_index()
    return scores, means.assign(layer=means["layer"] + 1)
