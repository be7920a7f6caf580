"""The page of one model on a user's own pairs: its heads, and pairs that were chosen by a rule."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from attention_collapse.engine.chosen_pairs import RULE, Swapped
from attention_collapse.engine.head_means import HeadMeans
from attention_collapse.engine.pair_attention import Looked
from attention_collapse.report.explorer.packed import Detail, detail_for, packed
from attention_collapse.report.explorer.page import render

PICTURE, THUMB, QUALITY = 384, 112, 82  # pixels of the longer side, and JPEG's quality
SHARP = 72  # pixels of the longer side up to which a picture is kept as it is
TOWERS = {"vision": "read for the image", "text": "read for the text"}


@dataclass(frozen=True)
class Tokens:
    """What each word and image cell adds to a pair's score (T-SHAP): Shapley values in the score's units.

    Attributes
    ----------
    words, cells
        (word,) and (side²,) values, cells row by row.
    share, floor
        The text's share of the absolute values, and what shuffled scores give.
    masking
        How words and cells were taken away.
    """

    names: tuple[str, ...]
    words: tuple[float, ...]
    cells: tuple[float, ...]
    side: int
    share: float
    floor: float
    masking: str


@dataclass(frozen=True)
class Shown:
    """One pair of the page.

    Attributes
    ----------
    picture, as_seen
        The picture, and whether it is the model's own crop and shape (else it is the file's).
    other_picture, other_caption
        What was swapped in; None where there is no other pair.
    foils
        (caption, what was changed) of each hard foil, in the order of `scores.foils`.
    looks, twin
        Attention of the model and of its untrained twin; the latter is None where there is none.
    """

    image_id: int
    caption_id: int
    file: str
    caption: str
    why: tuple[str, ...]
    scores: Swapped
    picture: Image.Image
    as_seen: bool
    other_picture: Image.Image | None
    other_caption: str | None
    foils: Sequence[tuple[str, str]] = ()
    looks: Sequence[Looked] = ()
    twin: Sequence[Looked] | None = None
    tokens: Tokens | None = None


@dataclass(frozen=True)
class About:
    """What the page says of the model and of the data.

    Attributes
    ----------
    score
        What the model's score is, with its unit.
    missing
        Tower -> why the model has no attention there.
    mean, mean_is
        What stands for the mean image, and what it is called: the mean of the pictures that were scored, unless another
        is said.
    given
        Whether the one pair was given by the reader; else the pairs are chosen from `folder` by a rule.
    twin_why
        Why there is no untrained twin; "" where there is one, which `twin_is` then describes.
    tokens_why
        Why nothing is said of single words and cells.
    """

    model: str
    kind: str
    family: str
    weights: str
    score: str
    folder: str
    pictures: str
    n_there: int
    n_scored: int
    n_heads: int
    skipped: Sequence[Mapping[str, str]]
    mean: Image.Image
    has_attention: bool
    missing: Mapping[str, str] = field(default_factory=dict)
    twin_why: str = ""
    twin_is: str = ""
    tokens_why: str = ""
    mean_is: str = "mean image"
    given: bool = False


def model_page(
    about: About, shown: Sequence[Shown], scores: NDArray[np.float64], heads: Sequence[HeadMeans],
    twin_heads: Sequence[HeadMeans] | None,
) -> str:  # fmt: skip
    """The whole page; `scores`: (pair,) of all pairs that were scored."""
    detail = detail_for([pair.looks for pair in shown], twin=any(pair.twin for pair in shown))
    twins = {grid.tower: grid for grid in twin_heads or ()}
    low, high = _range([scores, *(np.array(_all(pair.scores)) for pair in shown)])
    data = {
        "heads": [_heads(grid, twins.get(grid.tower)) for grid in heads],
        "pairs": [_pair(pair, detail) for pair in shown],
        "twin_why": about.twin_why, "mean": data_uri(about.mean, PICTURE), "mean_is": about.mean_is,
        "low": low, "high": high,
    }  # fmt: skip
    return render(
        "model.html", title=f"Where does {about.model} look, and what does its score depend on?",
        scripts=["page.js", "model.js"], data=data, about=about, rule=RULE, detail=detail.note,
        pairs=[_static(pair, low, high, about.mean_is) for pair in shown],
    )  # fmt: skip


def _all(scores: Swapped) -> list[float]:
    return [scores.own, scores.other_image, scores.other_text, scores.both, scores.mean_image, *scores.foils]


def _range(values: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """The least and the greatest score, for one axis of all pairs."""
    known = np.concatenate([part[np.isfinite(part)] for part in values])
    low, high = float(known.min()), float(known.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _grid(values: NDArray[np.float64]) -> list[list[float | None]]:
    return [[None if math.isnan(x) else round(float(x), 4) for x in row] for row in values]


def _heads(grid: HeadMeans, twin: HeadMeans | None) -> dict[str, Any]:
    def both(one: HeadMeans) -> dict[str, Any]:
        mass = None if one.mass is None else {rows: _grid(found) for rows, found in one.mass.items()}
        return {"entropy": {rows: _grid(found) for rows, found in one.entropy.items()}, "mass": mass}

    null = {rows: None if math.isnan(value) else round(value, 4) for rows, value in grid.mass_null.items()}
    return {"tower": grid.tower, "name": TOWERS[grid.tower], "model": both(grid), "mass_null": null,
            "twin": both(twin) if twin else None}  # fmt: skip


def _pair(pair: Shown, detail: Detail) -> dict[str, Any]:
    twins = pair.twin if pair.twin is not None else [None] * len(pair.looks)
    return {
        "id": pair.image_id,
        "views": [packed(look, twin, detail) for look, twin in zip(pair.looks, twins, strict=True)],
        "tokens": None if pair.tokens is None else {
            "names": list(pair.tokens.names), "words": [float(f"{x:.4g}") for x in pair.tokens.words],
            "cells": [float(f"{x:.4g}") for x in pair.tokens.cells], "side": pair.tokens.side,
        },
    }  # fmt: skip


def _static(pair: Shown, low: float, high: float, mean_is: str) -> dict[str, Any]:
    """What the template writes of a pair: readable without the script, which makes buttons of its rows."""
    found = pair.scores
    rows = [
        ("as it is", found.own, None, None), ("another image", found.other_image, "image", None),
        ("another text", found.other_text, None, pair.other_caption),
        ("another image and another text", found.both, "image", pair.other_caption),
        (mean_is, found.mean_image, "mean", None),
        *[(f"hard foil: {changed}" if changed else "hard foil", score, None, caption)
          for score, (caption, changed) in zip(found.foils, pair.foils, strict=True)],
    ]  # fmt: skip

    def place(score: float) -> float:
        return round(100 * (score - low) / (high - low), 1)

    return {
        "id": pair.image_id, "caption_id": pair.caption_id, "file": pair.file, "caption": pair.caption,
        "why": ", ".join(pair.why), "picture": data_uri(pair.picture, PICTURE), "as_seen": pair.as_seen,
        "thumb": data_uri(pair.picture, THUMB), "other": data_uri(pair.other_picture, THUMB),
        "tokens": pair.tokens,
        "rows": [
            {
                "name": name, "score": None if math.isnan(score) else score, "image": image, "caption": caption,
                "move": None if math.isnan(score) else score - found.own,
                "place": None if math.isnan(score) else place(score), "own": place(found.own),
            }
            for name, score, image, caption in rows
        ],
    }  # fmt: skip


def data_uri(picture: Image.Image | None, side: int) -> str:
    """A picture within the page, PNG if small, else JPEG, its longer side at most so many pixels; "" for None."""
    if picture is None:
        return ""
    small = picture.convert("RGB")
    small.thumbnail((side, side))
    stream, form = BytesIO(), "PNG" if max(small.size) <= SHARP else "JPEG"
    small.save(stream, form, quality=QUALITY)
    return f"data:image/{form.lower()};base64,{b64encode(stream.getvalue()).decode('ascii')}"
