"""Which measure may be trusted for which kind of model, judged on models whose answer was planted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from attention_collapse.engine.contribution import AT_CHANCE, at_chance, described
from attention_collapse.measures.attention import ROWS
from attention_collapse.measures.catalogue import MEASURES
from attention_collapse.measures.record import Measure
from attention_collapse.measures.reliance import LOST
from attention_collapse.params import Stats
from attention_collapse.stats import ties
from attention_collapse.stats.of_means import pseudo_values
from attention_collapse.stats.validity import Contrast, contrast, flagged, rank_correlation, threshold, verdict

BALANCED, TEXT, IMAGE = "balanced", "text-shortcut", "image-shortcut"
RESAMPLES = 1000  # of seeds and images; the AUROC of six models has few values


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


def without_chance(table: pd.DataFrame, stats: Stats) -> tuple[pd.DataFrame, dict[str, str]]:
    """The table without the reliance of models at chance against hard foils, and "regime-seed" -> why they have none.

    As in a study (`contribution.summarise`): reliance of a likelihood is of the choice between a caption and its hard
    foil, and kinds whose score is none have no `accuracy_hard` in their table.
    """
    reasons: dict[str, str] = {}
    if "accuracy_hard" not in table:
        return table, reasons
    kept = table.reset_index(drop=True)
    for (regime, seed), rows in kept.groupby(["regime", "seed"], sort=False):
        if reason := at_chance(AT_CHANCE, described(rows["accuracy_hard"], stats)):
            reasons[f"{regime}-{seed}"] = reason
            kept.loc[rows.index, [measure.name for measure in LOST]] = np.nan
    return kept, reasons


def _axis(planted: float, measure: Measure) -> float:
    """What was planted, as far as the measure speaks of it: a signed share, collapse either way, or of one modality."""
    if measure.is_two_sided:
        return planted
    return max(planted * bool(measure.image_ignored), -planted * bool(measure.text_ignored), 0.0)


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
    values: dict[tuple[str, int], np.ndarray] = {}
    if len(defined):
        values = {(str(name[0]), int(name[1])): defined[name].to_numpy() for name in defined.columns}

    def side(regime: str) -> dict[int, np.ndarray]:
        return {seed: found for (name, seed), found in values.items() if name == regime}

    bounds_of, source = measure.bounds_at(stats.severe)
    options = {"n_resamples": RESAMPLES, "confidence": stats.confidence, "seed": stats.seed}
    result: dict[str, Any] = {}
    contrasts: list[Contrast] = []
    by_seed: dict[int, list[Contrast]] = {}
    balanced = np.concatenate([*side(BALANCED).values(), np.empty(0)])
    two_sided = measure.is_two_sided
    bounds = threshold(balanced, two_sided=two_sided)
    for name, regime, direction in (
        ("image_ignored", TEXT, measure.image_ignored),
        ("text_ignored", IMAGE, measure.text_ignored),
    ):
        if not direction:
            continue
        low, high = side(regime), side(BALANCED)
        found = contrast(*((low, high) if direction < 0 else (high, low)), **options)  # type: ignore[arg-type]
        contrasts.append(found)
        for seed in found.by_seed:
            one = ({seed: low[seed]}, {seed: high[seed]})
            by_seed.setdefault(seed, []).append(contrast(*(one if direction < 0 else one[::-1]), **options))  # type: ignore[arg-type]
        collapsed = np.concatenate([*low.values(), np.empty(0)])
        result[name] = {
            "verdict": verdict([found]),
            **{key: value for key, value in asdict(found).items() if key != "by_seed"},
            **{f"auroc_seed_{seed}": value for seed, value in sorted(found.by_seed.items())},
            "hits_at_5_percent": flagged(collapsed, *bounds),
            "hits_published": flagged(collapsed, *bounds_of) if bounds_of else None,
            **_models(low, bounds_of),
            "mean": float(np.mean(collapsed)) if len(collapsed) else None,
        }
    axis = [_axis(planted[regime], measure) for regime, _ in values]
    rho, p = rank_correlation(axis, [float(np.mean(found)) for found in values.values()])
    verdicts = {seed: verdict(found) for seed, found in sorted(by_seed.items())}
    return result | {
        "verdict": verdict(contrasts),
        "n_images": len(defined),
        "n_undefined": len(whole) - len(defined),
        **{f"verdict_seed_{seed}": found for seed, found in verdicts.items()},
        "spearman": rho,
        "spearman_p": p,
        "mean_balanced": float(np.mean(balanced)) if len(balanced) else None,
        "false_alarms_published": flagged(balanced, *bounds_of) if bounds_of else None,
        **{f"{key}_balanced": count for key, count in _models(side(BALANCED), bounds_of).items()},
        "published_low": bounds_of[0] if bounds_of else None,
        "published_high": bounds_of[1] if bounds_of and np.isfinite(bounds_of[1]) else None,
        "published_source": source,
        "threshold_low": bounds[0],
        "threshold_high": bounds[1] if np.isfinite(bounds[1]) else None,
    }


def _models(models: Mapping[int, np.ndarray], bounds: tuple[float, float] | None) -> dict[str, int]:
    """How many models there are, and how many of their means lie outside the bounds."""
    if bounds is None or not models:
        return {}
    share = flagged([np.mean(found) for found in models.values()], *bounds)
    return {"n_models": len(models), "models_flagged": round(share * len(models))}


def over_all_kinds(kinds: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Measure -> how many models of all kinds its bounds flag: of those that ignore a modality, and of balanced ones.

    Attention measures by all rows; measures without bounds are left out.
    """
    found: dict[str, dict[str, int]] = {}
    for kind in kinds:
        for column, result in kind["measures"].items():
            name = column.removesuffix("_all")
            if name not in CLAIMING or "n_models_balanced" not in result:
                continue
            total = found.setdefault(name, dict.fromkeys(("n_ignoring", "flagged", "n_balanced", "false_alarms"), 0))
            for side in (result[key] for key in ("image_ignored", "text_ignored") if key in result):
                total["n_ignoring"] += side.get("n_models", 0)
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
    table, without_reliance = without_chance(table, stats)
    table = _with_means(table)
    faults = {name: learned(values, name.rsplit("-", 1)[0]) for name, values in models.items()}
    names = table["regime"] + "-" + table["seed"].astype(str)
    counted = table[names.map(lambda name: not faults[name])]
    measures: dict[str, Any] = {}
    for name, measure in CLAIMING.items():
        columns = [column for column in (name, *(f"{name}_{rows}" for rows in ROWS)) if column in table]
        measures |= {column: judge(counted, column, measure, planted, stats) for column in columns}
    excluded = {name: fault for name, fault in faults.items() if fault}
    result = {"measures": measures, "excluded": excluded, "n_models": len(faults) - len(excluded)}
    return result | ({"without_reliance": without_reliance} if without_reliance else {})


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


def trusted(kind: Mapping[str, Any]) -> set[str]:
    """Names of the measures that `judge_kind` trusts, attention measures by all rows."""
    return {name.removesuffix("_all") for name, found in kind["measures"].items() if found["verdict"] == "trusted"}


def trusted_for_every(kinds: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of the measures that are trusted for every kind, in the order of `CLAIMING`."""
    found = [trusted(kind) for kind in kinds]
    return [name for name in CLAIMING if all(name in some for some in found)]
