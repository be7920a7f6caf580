"""What the models trained dose by dose say together: accuracy against the dose, and which measure tells collapse.

Collapsed is a model of a high dose whose accuracy is near chance where its cue says nothing, although the content says
the answer; balanced is one that never had a cue and has learned. Seeds are the unit: nothing here is said of pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from attention_collapse.engine.dose_cells import NO_CUE, SWAPPED_IN, Cell
from attention_collapse.measures.attention import ROWS
from attention_collapse.measures.catalogue import MEASURES
from attention_collapse.params import BALANCED, Doses
from attention_collapse.stats import ties
from attention_collapse.stats.few_models import (
    falls_below,
    mean_with_t,
    median_with_ranks,
    tell_apart,
)

HELD_OUT = "accuracy_uninformative"  # what decides: with a cue that says nothing
COLLAPSED, FROM, LEARNED, FALLEN = 0.6, 0.9, 0.9, 0.75  # accuracy at most, at a dose of at least; at least; below
IDENTITY = ("kind", "modality", "reliability", "seed")
OWN = {  # of decisions -> which way it goes where the image, and where the text, is ignored (0: it does not say)
    "perceptual_image": (-1, 0), "perceptual_text": (0, -1), "flip_image": (-1, 0), "flip_text": (0, -1),
}  # fmt: skip
IGNORED = {"text": 0, "image": 1}  # modality of the cue -> which of the two directions counts
UNDEFINED = "undefined for some of the models: the score moves with neither modality"


def readings() -> dict[str, tuple[int, int]]:
    """Column -> the directions, as in `OWN`, of every measure that says that a modality is ignored."""
    found = {f"{name}_{condition}": ways for name, ways in OWN.items() for condition in SWAPPED_IN}
    for name, measure in MEASURES.items():
        if measure.claims:
            ways = measure.image_ignored, measure.text_ignored
            found |= {f"{name}_{end}": ways for end in (*SWAPPED_IN, *ROWS)}
    return found


def dose_key(reliability: float) -> str:
    """The key of a dose in the metrics: no dot, which would part it."""
    return f"reliability_{100 * reliability:g}"


def _of_dose(models: pd.DataFrame, seeds: Sequence[int], confidence: float) -> dict[str, Any]:
    """Every number over the seeds of one dose, and the seeds that are not there."""
    there = set(models["seed"])
    found: dict[str, Any] = {
        "n_seeds": len(models), "missing_seeds": ", ".join(str(seed) for seed in seeds if seed not in there) or "none",
    }  # fmt: skip
    for name in models.columns.drop(list(IDENTITY)):
        values = models[name].to_numpy(np.float64)
        mean, low, high = mean_with_t(values, confidence)
        one: dict[str, Any] = {"mean": mean, "ci_low": low, "ci_high": high}
        one |= {"lowest": float(values.min()), "highest": float(values.max())} if len(values) else {}
        if math.isnan(low):
            one["reason"] = "undefined for a model" if np.isnan(values).any() else "fewer than 2 seeds: no interval"
        found[str(name)] = one
    return found


def _fall(models: pd.DataFrame, doses: Doses, confidence: float) -> dict[str, Any]:
    """The dose at which accuracy with a cue that says nothing falls, seed by seed; the median over whole seeds."""
    table = models.pivot(index="seed", columns="reliability", values=HELD_OUT).reindex(
        columns=list(doses.reliabilities)
    )
    whole = table.dropna()
    at = np.array([falls_below(doses.reliabilities, values.tolist(), FALLEN) for values in whole.to_numpy()])
    learned = at[~np.isnan(at)]
    median, low, high = median_with_ranks(learned, confidence)
    found: dict[str, Any] = {
        "level": FALLEN, "median": median, "ci_low": low, "ci_high": high, "n_seeds": len(learned),
        "n_never": int(np.isinf(learned).sum()), "n_not_learned": len(at) - len(learned),
    }  # fmt: skip
    if not np.isfinite([median, low, high]).all():
        found["reason"] = (
            f"{len(learned)} seeds with every dose: an interval for any distribution takes 6"
            if math.isnan(low)
            else f"{found['n_never']} of {len(learned)} seeds stay above the level at every dose"
        )
    return found


def sides(models: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(collapsed, balanced) models of one kind and cue, by the rule at the head of this module."""
    accuracy, dose = models[HELD_OUT].to_numpy(), models["reliability"].to_numpy()
    collapsed = ~ties.above(accuracy, COLLAPSED) & (dose >= FROM)
    balanced = ~ties.below(accuracy, LEARNED) & (dose == BALANCED)
    return models[collapsed], models[balanced]


def judge(collapsed: pd.DataFrame, balanced: pd.DataFrame, column: str, way: int, confidence: float) -> dict[str, Any]:
    """Whether a measure tells collapsed models from balanced ones; `way`: −1 if it should fall where they collapse."""
    apart, whole = (
        {int(seed): side.loc[side["seed"] == seed, column].tolist() for seed in side["seed"].unique()}
        for side in (collapsed, balanced)
    )
    both = {"n_collapsed": len(collapsed), "n_balanced": len(balanced)}
    means = {"mean_collapsed": collapsed[column].mean(), "mean_balanced": balanced[column].mean()}
    return tell_apart(apart, whole, way, confidence, UNDEFINED) | both | means


def of_cue(models: pd.DataFrame, modality: str, doses: Doses, confidence: float) -> dict[str, Any]:
    """Everything of one kind and modality of the cue, from the rows of its models and of those without a cue."""
    models = models.dropna(axis=1, how="all")
    by_dose = {
        dose_key(dose): _of_dose(models[models["reliability"] == dose], doses.seeds, confidence)
        for dose in doses.reliabilities
    }
    collapsed, balanced = sides(models)
    of_none = models[models["reliability"] == BALANCED]
    failed = [str(seed) for seed in of_none["seed"] if seed not in set(balanced["seed"])]
    measures = {
        column: judge(collapsed, balanced, column, ways[IGNORED[modality]], confidence)
        for column, ways in readings().items()
        if column in models and ways[IGNORED[modality]]
    }
    return {
        "n_models": len(models), "n_collapsed": len(collapsed), "n_balanced": len(balanced),
        "not_learned": ", ".join(failed) or "none", "doses": by_dose, "falls": _fall(models, doses, confidence),
        "measures": measures,
    }  # fmt: skip


def summary(table: pd.DataFrame, missing: Sequence[Cell], doses: Doses, confidence: float) -> dict[str, Any]:
    """kind -> modality of the cue -> `of_cue`, wherever a model with such a cue is there; and what is missing."""
    kinds: dict[str, Any] = {}
    for kind in doses.kinds:
        of_kind = table[table["kind"] == kind] if len(table) else table
        for modality in doses.modalities:
            if len(of_kind) and (of_kind["modality"] == modality).any():
                mine = of_kind[of_kind["modality"].isin([modality, NO_CUE])]
                kinds.setdefault(kind, {})[modality] = of_cue(mine, modality, doses, confidence)
    absent: dict[str, list[str]] = {}
    for cell in missing:
        absent.setdefault(f"{cell.kind}/{cell.modality}-{cell.reliability:g}", []).append(str(cell.seed))
    return {
        "kinds": kinds, "n_models": len(table), "n_missing": len(missing),
        "missing_seeds": {name: ", ".join(seeds) for name, seeds in absent.items()},
    }  # fmt: skip
