"""Every number that follows from the scores of the models trained dose by dose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attention_collapse.engine.dose_cells import (
    CONDITIONS,
    SWAPPED_IN,
    Cell,
    cells,
    parameters_of,
    read_cell,
)
from attention_collapse.errors import DataError
from attention_collapse.files import sha256_file
from attention_collapse.measures.contribution import CONTRIBUTION_MEASURES
from attention_collapse.params import Doses, Plant

Floats = NDArray[np.float64]
NAN = float("nan")
CHOICES = ("choice_image", "choice_text")


def _decisions(tensors: Mapping[str, Floats], condition: str) -> dict[str, np.ndarray]:
    """Whether each pair is taken as matching, its modalities as they are, (pair, 1), and swapped, (pair, partner): its
    score is above the median of the scores of the pairs as they are, half of which match."""
    cut = float(np.median(tensors[f"intact.{condition}"]))
    found = {"intact": tensors[f"intact.{condition}"][:, None] > cut}
    swapped = [name for name in ("image", "text") if f"{name}.{condition}" in tensors]
    return found | {name: tensors[f"{name}.{condition}"] > cut for name in swapped}


def _told(tensors: Mapping[str, Floats], condition: str) -> dict[str, float]:
    """Accuracies, what they lose, and how often decisions change with a modality of another pair."""
    label, decided = tensors["label"][:, None] == 1, _decisions(tensors, condition)
    right = {name: float((found == label).mean()) for name, found in decided.items()}
    found = {"accuracy": right["intact"]}
    for name in ("image", "text"):
        if name in decided:
            found[f"accuracy_{name}_swapped"] = right[name]
            found[f"perceptual_{name}"] = right["intact"] - right[name]
            found[f"flip_{name}"] = float((decided[name] != decided["intact"]).mean())
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
        one["follows_cue"] = float(
            (_decisions(tensors, condition)["intact"][:, 0] == (tensors[f"cue.{condition}"] == 1)).mean()
        )
        if condition in SWAPPED_IN:
            one |= _measured(tensors, condition)
        found |= {f"{name}_{condition}": value for name, value in one.items()}
    attended = {name: values for name, values in tensors.items() if name.startswith("attention.")}
    return found | {name.removeprefix("attention."): float(values.mean()) for name, values in attended.items()}


def read_all(
    folders: Mapping[str, Path], doses: Doses, plant: Plant
) -> tuple[pd.DataFrame, list[Cell], dict[str, str]]:
    """The numbers of every cell that there is, a row each; the cells that there are not; and each file's digest.

    Parameters
    ----------
    folders
        kind -> where its cells lie.
    """
    rows, missing, digests = [], [], {}
    for cell in cells(doses):
        file = folders[cell.kind] / f"{cell.name}.safetensors"
        if not file.is_file():
            missing.append(cell)
            continue
        tensors, about = read_cell(file)
        if about.get("parameters") != parameters_of(cell, doses, plant):
            raise DataError(
                f"{file}: scores of other parameters than those of the study",
                expected="the doses, pairs and recipe of the parameter file",
                remedy=f"restore the parameters, or run `dvc repro -f train_doses@{cell.kind}` to train it anew",
            )
        rows.append({**asdict(cell), **numbers(tensors)})
        digests[f"{cell.kind}/{cell.name}"] = sha256_file(file)
    return pd.DataFrame(rows), missing, digests
