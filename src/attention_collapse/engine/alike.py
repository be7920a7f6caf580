"""Which pairs of a table are the same to a model: one caption, or one file, under several ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from attention_collapse.data.coco import normal

if TYPE_CHECKING:
    from datasets import Dataset


def same_pairs(pairs: Dataset) -> np.ndarray:
    """(pair,) numbers: pairs have the same one if their first captions or their files are the same, or a third's are.

    None of them can stand for another: the caption of one is true of the other's image. Captions are compared without
    case and the width of spaces.
    """
    found = np.arange(len(pairs))
    captions = [normal(captions[0]) for captions in pairs["captions"]]
    files = list(pairs["sha256"]) if "sha256" in pairs.column_names else []
    for keys in (captions, files):
        first: dict[str, int] = {}
        for index, key in enumerate(keys):
            earlier = found[first.setdefault(key, index)]
            found[found == found[index]] = earlier
    return found


def n_alike(same: np.ndarray) -> int:
    """How many pairs are the same as another."""
    _, counts = np.unique(same, return_counts=True)
    return int(counts[counts > 1].sum())
