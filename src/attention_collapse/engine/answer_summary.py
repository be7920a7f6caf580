"""What models trained on easy-VQA answer, and what that depends on: every number from their committed scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attention_collapse.engine.answer_cells import SETS, UNDECIDED
from attention_collapse.engine.answers import COALITIONS, answer_columns, summarise_answers
from attention_collapse.measures.answers import ANSWER_MEASURES
from attention_collapse.measures.reliance import LOST
from attention_collapse.params import Stats

Floats = NDArray[np.float64]
Tensors = Mapping[str, Floats]
MADE_OF = tuple(measure.name for measure in LOST)
KEPT = (*ANSWER_MEASURES, "choice_image", "choice_text", "shapley_share", "shapley_share_mean_image", *MADE_OF)
SHOWN = (*ANSWER_MEASURES, "choice_image", "choice_text", "reliance_image", "reliance_text", "reliance_share")


def most_frequent_credit(counts: Floats, wording: Floats, right: Floats) -> Floats:
    """Credit of the answer that is right most often in training for the same wording, (pair,); of several, the mean.

    Parameters
    ----------
    counts
        (wording, answer) of the training questions; a wording without any gets the most frequent answer of all.
    wording, right
        (pair,) places.
    """
    own = counts[wording.astype(int)]  # (pair, answer)
    own = np.where(own.sum(1, keepdims=True) > 0, own, counts.sum(0))
    best = own == own.max(1, keepdims=True)
    found: Floats = best[np.arange(len(best)), right.astype(int)] / best.sum(1)
    return found


def columns(tensors: Tensors, name: str) -> pd.DataFrame:
    """Every measure of one model on one set of `SETS`, a row per question with its image_id."""
    right = tensors[f"right.{name}"]
    odds = {cell: tensors[f"odds.{name}.{cell}"] for cell in COALITIONS}
    picked = {cell: tensors[f"chosen.{name}.{cell}"] for cell in COALITIONS}
    picked = {cell: np.where(values == UNDECIDED, -1, values) for cell, values in picked.items()}
    credits = {cell: (values == right[:, None]).astype(np.float64) for cell, values in picked.items()}
    constant = (right == np.bincount(right.astype(int)).argmax()).astype(np.float64)
    asked_only = most_frequent_credit(tensors["counts.train"], tensors[f"wording.{name}"], right)
    table = answer_columns(odds, credits, picked, constant, asked_only)
    table.insert(0, "image_id", tensors[f"image.{name}"].astype(int))
    return table


def summaries(tensors: Tensors, stats: Stats) -> dict[str, dict[str, Any]]:
    """Set -> measure -> mean over images with its interval, of one model."""
    found = {}
    for name in SETS:
        table = columns(tensors, name)
        one = summarise_answers(table[["image_id", *(key for key in KEPT if key in table)]], stats)
        found[name] = {key: one[key] for key in SHOWN}
    return found


def facts(tensors: Tensors) -> dict[str, dict[str, float]]:
    """Set -> its questions, and the share that the best answer to each wording is right for, counted on the set."""
    return {
        name: {
            "questions": int(tensors[f"counts.{name}"].sum()),
            "wordings": int((tensors[f"counts.{name}"].sum(1) > 0).sum()),
            "best_question_only": float(tensors[f"counts.{name}"].max(1).sum() / tensors[f"counts.{name}"].sum()),
            "best_constant": float(tensors[f"counts.{name}"].sum(0).max() / tensors[f"counts.{name}"].sum()),
            "measured": len(tensors[f"right.{name}"]),
        }
        for name in SETS
    }
