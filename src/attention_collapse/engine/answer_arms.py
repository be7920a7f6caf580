"""Which way to train keeps a model that answers questions from leaning on them, and what the monitor said of each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from attention_collapse.engine.answer_cells import PLAIN, parts
from attention_collapse.engine.paired_seeds import compared, judge, over_seeds
from attention_collapse.monitor.reading import MODALITIES
from attention_collapse.params import GainRule

OUTCOMES = {  # name -> set, measure
    "own_training": ("train", "answer_accuracy"), "test": ("test", "answer_accuracy"),
    "test_shifted": ("test_shifted", "answer_accuracy"), "flips": ("train", "answer_flip_image"),
    "reliance_image": ("train", "reliance_image"),
}  # fmt: skip


def arms(models: Mapping[str, Any], ways: Sequence[str], rule: GainRule, confidence: float) -> dict[str, Any]:
    """Arm -> outcomes over seeds of the models of one kind that were trained with the shifted prior, and the verdict.

    The gain is that in accuracy on the test with the shifted prior, over plain training of the same seeds; what must
    not be lost is accuracy on questions of the model's own training (`paired_seeds.judge`).

    Parameters
    ----------
    models
        Name of a cell -> set -> measure -> its summary.
    """
    of: dict[str, dict[int, Mapping[str, Any]]] = {way: {} for way in ways}
    for name, sets in models.items():
        prior, arm, seed = parts(name)
        if prior == "shifted" and arm in of:
            of[arm][seed] = sets
    found: dict[str, Any] = {}
    for arm, seeds in of.items():
        if not seeds:
            continue
        columns = {name: np.array([_mean(sets, *where) for sets in seeds.values()]) for name, where in OUTCOMES.items()}
        found[arm] = {"n_seeds": len(seeds)} | {
            name: over_seeds(values.tolist(), confidence) for name, values in columns.items()
        }
        if arm != PLAIN:
            both = [seed for seed in seeds if seed in of[PLAIN]]
            gain, change, gain_test = (
                np.array([_mean(seeds[s], *OUTCOMES[name]) - _mean(of[PLAIN][s], *OUTCOMES[name]) for s in both])
                for name in ("test_shifted", "own_training", "test")
            )
            found[arm] |= compared(gain, change, rule, confidence)
            found[arm] |= {"gain_test": over_seeds(gain_test.tolist(), confidence), "n_pairs": len(both)}
    judge([one for arm, one in found.items() if arm != PLAIN], 1 - confidence, len(ways) - 1)
    return found


def _mean(sets: Mapping[str, Any], name: str, measure: str) -> float:
    return float(sets[name][measure]["mean"])


def rang(about: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Modality -> step since which the monitor first saw it unused, at which it rang, and at which that ended.

    NaN: it never did. `times`: how often it rang.
    """
    found = {}
    for modality in MODALITIES:
        mine = [alarm for alarm in about["alarms"] if alarm["modality"] == modality]
        first = mine[0] if mine else {}
        steps = {key: first.get(key) for key in ("since", "rang_at", "ended_at")}
        found[modality] = {key: math.nan if at is None else float(at) for key, at in steps.items()}
        found[modality] |= {"times": len(mine), "rings_at_end": float(bool(mine) and mine[-1]["ended_at"] is None)}
    return found


def watched(tensors: Mapping[str, Any]) -> pd.DataFrame:
    """A row per check of the monitor: step, and every value that it told."""
    names = [name for name in tensors if name.startswith("watched.")]
    return pd.DataFrame({name.removeprefix("watched."): tensors[name] for name in names})
