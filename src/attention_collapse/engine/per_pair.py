"""One row per image–caption pair of everything that was measured of it, for a person's own analysis."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from attention_collapse.engine.contribution import OF_PAIRS, OF_TOKENS
from attention_collapse.measures.attention import ATTENTION_MEASURES

if TYPE_CHECKING:
    from datasets import Dataset

IDENTITY = {  # column -> what it holds
    "image_id": "the image's id",
    "file": "the image's file, as the data set names it",
    "image_sha256": "hex sha256 of that file",
    "caption_id": "the caption's id",
    "caption": "the caption",
    "is_first": "whether it is the image's first caption, which the causal measures are of",
    "n_image_tokens": "tokens of the image that the model sees; empty where no attention is read",
    "n_text_tokens": "tokens of the caption that the model sees; empty where no attention is read",
    "truncated": "whether the caption was longer than the model's context, and cut",
}
OF_ATTENTION = tuple(name for name, measure in ATTENTION_MEASURES.items() if measure.level == "pair")


def per_pair(
    pairs: Dataset, scores: pd.DataFrame, rows: str, values: pd.DataFrame | None, tokens: pd.DataFrame | None
) -> pd.DataFrame:
    """The columns of `IDENTITY`, then the measures of attention, then the causal ones, then T-SHAP's.

    Parameters
    ----------
    pairs
        The table of `data.pairs.table`.
    scores
        `engine.scores.Scores.pairs`; `rows` says which choice of query rows is taken.
    values, tokens
        Of `engine.contribution.contributions` and `engine.token_contribution.token_contributions`, or None. Their
        columns are filled in the row of an image's first caption, and NaN in the others.
    """
    listed = ("image_id", "image", "sha256", "caption_ids", "captions")
    said = [
        (image, Path(file["path"]).name, digest, identity, caption, place == 0)
        for image, file, digest, ids, captions in zip(*(pairs[name] for name in listed), strict=True)
        for place, (identity, caption) in enumerate(zip(ids, captions, strict=True))
    ]
    found = pd.DataFrame(said, columns=list(IDENTITY)[:6])
    attention = {f"{name}_{rows}": name for name in OF_ATTENTION if f"{name}_{rows}" in scores}
    keys = ["image_id", "caption_id"]
    own = scores[[*keys, *list(IDENTITY)[6:], *attention]].rename(columns=attention)
    found = found.merge(own, on=keys, how="left", validate="1:1")
    for table, names in ((values, OF_PAIRS), (tokens, OF_TOKENS)):
        if table is not None:
            columns = [name for name in names if name in table]
            found = found.merge(table[[*keys, *columns]], on=keys, how="left", validate="1:1")
    return found
