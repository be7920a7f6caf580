"""Every number that follows from the scores of the models trained dose by dose."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attention_collapse.engine.dose_cells import (
    CONDITIONS,
    SWAPPED_IN,
    Kept,
    read_cell,
)
from attention_collapse.errors import DataError
from attention_collapse.files import sha256_file
from attention_collapse.measures.contribution import CONTRIBUTION_MEASURES

Floats = NDArray[np.float64]
C = TypeVar("C", bound=Kept)
NAN = float("nan")
CHOICES = ("choice_image", "choice_text")


def middle(scores: Floats) -> float:
    """Midway between the means of the lower and of the upper half of (pair,) scores: between clusters, if any.

    Where a cue alone decides and does not say "match" of just half of the pairs, the median is the outermost score of a
    cluster, and whatever moves that cluster by its own width turns all its decisions.
    """
    ordered, half = np.sort(scores), len(scores) // 2
    return float(ordered[:half].mean() + ordered[-half:].mean()) / 2


def _told(tensors: Mapping[str, Floats], condition: str) -> dict[str, float]:
    """Accuracies, what they lose, and how often decisions change with a modality of another pair.

    Intact pairs are taken as matching above the median of their scores; what swapping changes is told by `middle`.
    """
    label, own = tensors["label"][:, None] == 1, tensors[f"intact.{condition}"][:, None]
    decided = own > np.median(own)
    found = {
        "accuracy": float((decided == label).mean()),
        "follows_cue": float((decided[:, 0] == (tensors[f"cue.{condition}"] == 1)).mean()),
    }
    if condition not in SWAPPED_IN:
        return found
    cut = middle(own[:, 0])
    right = float(((own > cut) == label).mean())
    for name in ("image", "text"):
        swapped = tensors[f"{name}.{condition}"] > cut
        found[f"accuracy_{name}_swapped"] = float((swapped == label).mean())
        found[f"perceptual_{name}"] = right - found[f"accuracy_{name}_swapped"]
        found[f"flip_{name}"] = float((swapped != (own > cut)).mean())
    return found


def _measured(tensors: Mapping[str, Floats], condition: str) -> dict[str, float]:
    """Every measure of contribution that the four coalitions give and that says that a modality is ignored.

    Means over the pairs that define it; of choices, over the matching ones, since no other pair has a right choice.
    """
    # A coalition holds what is the pair's own: without the text, the image.
    cells: dict[str, Any] = {
        "both": tensors[f"intact.{condition}"][:, None], "image": tensors[f"text.{condition}"],
        "text": tensors[f"image.{condition}"], "neither": tensors[f"both.{condition}"],
    }  # fmt: skip
    means: dict[str, Any] = {}
    for name, measure in CONTRIBUTION_MEASURES.items():
        if measure.level == "pair" and measure.is_possible("", cells):
            cells[name] = measure.of(cells)
            counted = cells[name][tensors["label"] == 1] if name in CHOICES else cells[name]
            defined = counted[~np.isnan(counted)]
            means[name] = defined.mean() if len(defined) else np.float64(NAN)
        elif measure.level == "means" and measure.is_possible("", means):
            means[name] = measure.of(means)
    return {name: float(value) for name, value in means.items() if CONTRIBUTION_MEASURES[name].claims}


def numbers(tensors: Mapping[str, Floats]) -> dict[str, float]:
    """What is said of one model, from its scores: `<quantity>_<condition of the cue>`, and attention's means.

    accuracy, accuracy_image_swapped, accuracy_text_swapped, follows_cue (decisions that are what the cue says): 0 to 1;
    perceptual_image, perceptual_text: accuracy lost; flip_image, flip_text: share of decisions that change; and the
    measures of `_measured`. NaN: undefined.
    """
    found: dict[str, float] = {}
    for condition in CONDITIONS:
        one = _told(tensors, condition)
        if condition in SWAPPED_IN:
            one |= _measured(tensors, condition)
        found |= {f"{name}_{condition}": value for name, value in one.items()}
    attended = {name: values for name, values in tensors.items() if name.startswith("attention.")}
    return found | {name.removeprefix("attention."): float(values.mean()) for name, values in attended.items()}


def read_all(
    wanted: Iterable[C],
    folders: Mapping[str, Path],
    parameters: Callable[[C], Mapping[str, Any]],
    told: Callable[[Mapping[str, Floats], Mapping[str, Any]], Mapping[str, float]],
) -> tuple[pd.DataFrame, list[C], dict[str, str]]:
    """The numbers of every cell that there is, one row each; the cells that there are not; and each file's digest.

    Parameters
    ----------
    folders
        kind -> where its cells lie.
    parameters
        What decides a cell: a file that was made otherwise is an error.
    told
        A cell's tensors, and what its file says of itself -> its numbers.
    """
    rows, missing, digests = [], [], {}
    for cell in wanted:
        file = folders[cell.kind] / f"{cell.name}.safetensors"
        if not file.is_file():
            missing.append(cell)
            continue
        tensors, about = read_cell(file)
        if about.get("parameters") != parameters(cell):
            raise DataError(
                f"{file}: scores of other parameters than those of the study",
                expected="the section, pairs and recipe of the parameter file",
                remedy=f"restore the parameters, or train it anew: `{about.get('trained_by', 'dvc repro -f')}`",
            )
        rows.append({**asdict(cell), **told(tensors, about)})
        digests[f"{cell.kind}/{cell.name}"] = sha256_file(file)
    return pd.DataFrame(rows), missing, digests
