"""Which pairs of a table are the same to a model: a caption of one is true of the other, or they are one file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from attention_collapse.data.entries import normal

if TYPE_CHECKING:
    from datasets import Dataset


def same_pairs(pairs: Dataset) -> np.ndarray:
    """(pair,) numbers: pairs have the same one if one's first caption is any of the other's, or their files are one.

    None of them can stand for another: the first caption of one is true of the other's image. So have two pairs that
    are each the same as a third. Captions are compared without case and the width of spaces.
    """
    found = np.arange(len(pairs))
    captions = [[normal(text) for text in texts] for texts in pairs["captions"]]
    measured = {texts[0] for texts in captions}
    files = list(pairs["sha256"]) if "sha256" in pairs.column_names else []
    for keys in ([[text for text in texts if text in measured] for texts in captions], [[file] for file in files]):
        first: dict[str, int] = {}
        for index, some in enumerate(keys):
            for key in some:
                earlier = found[first.setdefault(key, index)]
                found[found == found[index]] = earlier
    return found


def n_alike(same: np.ndarray) -> int:
    """How many pairs are the same as another."""
    _, counts = np.unique(same, return_counts=True)
    return int(counts[counts > 1].sum())
