"""Which measure sees, in which kind of model, that a modality is ignored: judged on models whose answer was planted.

Seeds are the unit, a model's value is its mean over pairs, and `few_models` judges, as it does dose by dose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from attention_collapse.measures.attention import ROWS
from attention_collapse.measures.catalogue import MEASURES
from attention_collapse.measures.record import Measure
from attention_collapse.params import Stats
from attention_collapse.stats import ties
from attention_collapse.stats.few_models import bounded_mean, seeds_needed, tell_apart
from attention_collapse.stats.of_means import pseudo_values
from attention_collapse.stats.validity import flagged, rank_correlation, threshold

BALANCED, TEXT, IMAGE = "balanced", "text-shortcut", "image-shortcut"
SIDES = ("image_ignored", "text_ignored")
UNDEFINED = "no pair on which every model has a value"


CLAIMING = {name: measure for name, measure in MEASURES.items() if measure.claims}


def learned(means: Mapping[str, float], regime: str) -> str:
    """The rule by which a model counts: "" if it does, else what it failed.

    A balanced model has accuracy ≥ 0.9 with both modalities and ≤ 0.6 with either another pair's; a shortcut model has
    accuracy ≥ 0.9 and loses ≤ 0.02 with the ignored modality another pair's; a graded one has accuracy ≥ 0.8.
    """
    accuracy, lost = means["accuracy"], {name: means[f"perceptual_score_{name}"] for name in ("image", "text")}
    least = 0.8 if regime.endswith("graded") else 0.9
    if ties.below(accuracy, least):
        return f"accuracy {accuracy:.3f}, at least {least} needed"
    if regime == BALANCED:
        for name, drop in lost.items():
            if ties.above(accuracy - drop, 0.6):
                return f"accuracy {accuracy - drop:.3f} with the {name} permuted, at most 0.6 allowed"
    for shortcut, ignored in ((TEXT, "image"), (IMAGE, "text")):
        if regime == shortcut and ties.above(lost[ignored], 0.02):
            return f"permuting the {ignored} costs {lost[ignored]:.3f}, at most 0.02 allowed"
    return ""


def _axis(planted: float, measure: Measure) -> float:
    """What was planted, as far as the measure speaks of it: a signed share, collapse either way, or of one modality."""
    if measure.is_two_sided:
        return planted
    return max(planted * bool(measure.image_ignored), -planted * bool(measure.text_ignored), 0.0)


def _placed(ignoring: Sequence[float], balanced: Sequence[float], way: int) -> dict[str, int | None]:
    """How many models that ignore a modality lie beyond every balanced one, as the reading says and the reverse."""
    a, b = way * np.asarray(ignoring, np.float64), way * np.asarray(balanced, np.float64)
    if not len(a) or not len(b) or np.isnan([*a, *b]).any():
        return {"n_as_claimed": None, "n_reverse": None}
    return {
        "n_as_claimed": int(ties.above(a, float(b.max())).sum()),
        "n_reverse": int(ties.below(a, float(b.min())).sum()),
    }


def judge(
    table: pd.DataFrame, column: str, measure: Measure, planted: Mapping[str, float], stats: Stats
) -> dict[str, Any]:
    """One measure of one kind.

    Parameters
    ----------
    table
        Rows of the models that count: regime, seed, image_id and the measure; every model has the same images.
    planted
        regime -> what was planted, −1 (image alone) to 1 (text alone).
    """
    # Images that any of the models leaves undefined count for none of them, and are counted.
    whole = table.pivot(index="image_id", columns=["regime", "seed"], values=column)
    defined = whole.dropna()
    values = {(str(name[0]), int(name[1])): defined[name].to_numpy() for name in defined.columns}
    means = {key: float(np.mean(found)) if len(found) else float("nan") for key, found in values.items()}

    def of_models(regime: str) -> dict[int, float]:
        return {seed: mean for (name, seed), mean in means.items() if name == regime}

    def of_pairs(regime: str) -> np.ndarray:
        """Of all models of the regime together."""
        return np.concatenate([np.empty(0), *(found for (name, _), found in values.items() if name == regime)])

    bounds_of, source = measure.bounds_at(stats.severe)
    result: dict[str, Any] = {}
    balanced, pairs = of_models(BALANCED), of_pairs(BALANCED)
    bounds = threshold(pairs, two_sided=measure.is_two_sided)
    for name, regime, way in zip(SIDES, (TEXT, IMAGE), (measure.image_ignored, measure.text_ignored), strict=True):
        if not way:
            continue
        ignoring, collapsed = of_models(regime), of_pairs(regime)
        one, other = ({seed: [mean] for seed, mean in side.items()} for side in (ignoring, balanced))
        result[name] = {
            **tell_apart(one, other, way, stats.confidence, UNDEFINED),
            **_placed(list(ignoring.values()), list(balanced.values()), way),
            "hits_at_5_percent": flagged(collapsed, *bounds),
            "hits_published": flagged(collapsed, *bounds_of) if bounds_of else None,
            **_models(ignoring, bounds_of),
            "mean": float(np.mean(collapsed)) if len(collapsed) else None,
        }
    rho, p = rank_correlation([_axis(planted[regime], measure) for regime, _ in means], list(means.values()))
    return result | {
        "n_images": len(defined),
        "n_undefined": len(whole) - len(defined),
        "spearman": rho,
        "spearman_p": p,
        "mean_balanced": float(np.mean(pairs)) if len(pairs) else None,
        "false_alarms_published": flagged(pairs, *bounds_of) if bounds_of else None,
        **{f"{key}_balanced": count for key, count in _models(balanced, bounds_of).items()},
        "published_low": bounds_of[0] if bounds_of else None,
        "published_high": bounds_of[1] if bounds_of and np.isfinite(bounds_of[1]) else None,
        "published_source": source,
        "threshold_low": bounds[0],
        "threshold_high": bounds[1] if np.isfinite(bounds[1]) else None,
    }


def _models(means: Mapping[int, float], bounds: tuple[float, float] | None) -> dict[str, int]:
    """How many models there are, and how many of their means lie outside the bounds, if they are defined."""
    share = flagged(list(means.values()), *bounds) if bounds else float("nan")
    return {"n_models": len(means)} | ({} if np.isnan(share) else {"models_flagged": round(share * len(means))})


def over_all_kinds(kinds: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Measure -> how many models of all kinds its bounds flag: of those that ignore a modality, and of balanced ones.

    Attention measures by all rows; measures without bounds are left out.
    """
    found: dict[str, dict[str, int]] = {}
    for kind in kinds:
        for column, result in kind["measures"].items():
            name = column.removesuffix("_all")
            if name not in CLAIMING or "models_flagged_balanced" not in result:
                continue
            total = found.setdefault(name, dict.fromkeys(("n_ignoring", "flagged", "n_balanced", "false_alarms"), 0))
            for side in contrasts(result):
                total["n_ignoring"] += side["n_models"]
                total["flagged"] += side.get("models_flagged", 0)
            total["n_balanced"] += result["n_models_balanced"]
            total["false_alarms"] += result["models_flagged_balanced"]
    return found


def judge_kind(
    models: Mapping[str, Mapping[str, float]], table: pd.DataFrame, planted: Mapping[str, float], stats: Stats
) -> dict[str, Any]:
    """Every measure of one kind, from the models that count.

    Parameters
    ----------
    models
        "regime-seed" -> means of its measures, by which `learned` counts it or says why not.
    table
        As of `judge`, with every measure and the models that do not count.
    """
    table = _with_means(table)
    faults = {name: learned(values, name.rsplit("-", 1)[0]) for name, values in models.items()}
    names = table["regime"] + "-" + table["seed"].astype(str)
    counted = table[names.map(lambda name: not faults[name])]
    measures: dict[str, Any] = {}
    for name, measure in CLAIMING.items():
        columns = [column for column in (name, *(f"{name}_{rows}" for rows in ROWS)) if column in table]
        measures |= {column: judge(counted, column, measure, planted, stats) for column in columns}
    excluded = {name: fault for name, fault in faults.items() if fault}
    return {"measures": measures, "excluded": excluded, "n_models": len(faults) - len(excluded)}


def _with_means(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the measures that are functions of means over images, as each image's pseudo-value."""
    models = list(table.groupby(["regime", "seed"], sort=False))
    found = {}
    for name, measure in CLAIMING.items():
        if measure.level == "means" and all(key in table for key in measure.inputs):
            parts = [
                pd.Series(pseudo_values([rows[key] for key in measure.inputs], measure.of_means), rows.index)
                for _, rows in models
            ]
            found[name] = pd.concat(parts)
    return table.assign(**found)


def contrasts(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What `judge` found where the image, and where the text, is ignored, as far as the measure speaks of it."""
    return [result[side] for side in SIDES if side in result]


def is_as_claimed(contrast: Mapping[str, Any]) -> bool:
    """Do all models that ignore the modality lie, as the reading says, beyond every balanced one? Of these alone."""
    return bool(contrast["n_models"] == contrast["n_as_claimed"])


def is_separated(contrast: Mapping[str, Any]) -> bool:
    """Do these models suffice to say so of others of their kind?"""
    return bool(contrast["verdict"] == "separates")


def measures_with(kind: Mapping[str, Any], holds: Callable[[Mapping[str, Any]], bool]) -> set[str]:
    """Names of the measures of `judge_kind` of which it holds wherever they speak, attention measures by all rows."""
    found = kind["measures"].items()
    return {name.removesuffix("_all") for name, result in found if all(map(holds, contrasts(result)))}


def for_every(kinds: Iterable[Mapping[str, Any]], holds: Callable[[Mapping[str, Any]], bool]) -> list[str]:
    """Names of the measures of which it holds in every kind, in the order of `CLAIMING`."""
    found = [measures_with(kind, holds) for kind in kinds]
    return [name for name in CLAIMING if all(name in some for some in found)]


def what_seeds_allow(kinds: Iterable[Mapping[str, Any]], confidence: float) -> dict[str, float]:
    """What the number of models can show at best.

    Returns
    -------
    dict
        seeds_a_side: of the contrast with the fewest; perfect_ci_low: where the interval of its AUROC would begin if it
        were 1; seeds_needed: the fewest on each side for any verdict.
    """
    sides = [side for kind in kinds for result in kind["measures"].values() for side in contrasts(result)]
    fewest = min((min(side["n_low"], side["n_high"]) for side in sides), default=0)
    low, _ = bounded_mean(1.0, fewest, confidence)
    return {"seeds_a_side": fewest, "perfect_ci_low": low, "seeds_needed": seeds_needed(confidence)}
