"""Intervals, tests and comparisons of the models of a study, and a summary over all of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from attention_collapse.engine.contribution import incompetence, is_not_judged, spread
from attention_collapse.errors import PipelineError
from attention_collapse.measures.attention import ATTENTION_MEASURES
from attention_collapse.measures.catalogue import MEASURES, SEVERITY_MEASURES
from attention_collapse.measures.contribution import CONTRIBUTION_MEASURES
from attention_collapse.measures.mcs import original_reading
from attention_collapse.measures.record import using
from attention_collapse.models.spec import ModelSpec
from attention_collapse.params import Stats
from attention_collapse.stats.meta import random_effects
from attention_collapse.stats.one_sample import describe_columns, holm, one_sample_columns
from attention_collapse.stats.paired import paired_columns
from attention_collapse.stats.power import images_needed
from attention_collapse.stats.sample_shape import describe_shape
from attention_collapse.stats.severity import IMAGE, NEITHER, TEXT, severity_columns, severity_of_means

OF_IMAGES = {name: found for name, found in ATTENTION_MEASURES.items() if found.level in ("pair", "image")}
_OF_MEANS = {key for measure in SEVERITY_MEASURES.values() if measure.level == "means" for key in measure.inputs}
CAUSAL = [name for name, measure in CONTRIBUTION_MEASURES.items() if "detail" not in measure.uses]
TESTED = [  # causal columns per image that are tested: measures, and what measures of means are made of
    name
    for name, measure in CONTRIBUTION_MEASURES.items()
    if (measure.uses - {"detail"} and measure.level == "pair") or name in _OF_MEANS
]
TESTS = {
    hypothesis.name: (name, hypothesis) for name, measure in OF_IMAGES.items() for hypothesis in measure.hypotheses
}
DIAGNOSED, COMPARED, SUMMARISED = (list(using(MEASURES, use)) for use in ("diagnosed", "compared", "pooled"))
BANDS = list(using(ATTENTION_MEASURES, "bands"))
OTHER_SIDE = {IMAGE: TEXT, TEXT: IMAGE, NEITHER: NEITHER}
PLANNED_D = 0.5  # the effect that the original report planned its 34 images for
COPIED = ("family", "share_of_pairs_above_0_7", "share_of_nulls_above_0_7")  # from the scores
Results = dict[str, dict[str, Any]]


def null_reading(calibrated: dict[str, Any]) -> str:
    """The verdict against the null: does the interval of the calibrated score leave 0.5?"""
    low, high = calibrated["ci_low"], calibrated["ci_high"]
    if not (math.isfinite(low) and math.isfinite(high)):
        return "undefined"
    if low > 0.5:
        return "text attention more concentrated than vision attention"
    return "vision attention more concentrated than text attention" if high < 0.5 else "no departure from the null"


def columns_of(
    images: pd.DataFrame, contributions: pd.DataFrame | None, rows: str, reasons: Mapping[str, str]
) -> dict[str, pd.Series]:
    """Per-image values of every measure that is tested, by image_id; undefined (`reasons`) ones are all NaN.

    `contributions`: the table of causal measures, None if they were not computed.
    """
    images = images.set_index("image_id")
    undefined = pd.Series(np.nan, images.index)
    columns = {
        name: images[f"{name}_{rows}"] if f"{name}_{rows}" in images and name not in reasons else undefined
        for name in OF_IMAGES
    }
    if contributions is None:
        return columns | dict.fromkeys(TESTED, undefined)
    known = contributions.set_index("image_id").reindex(images.index)
    return columns | {name: spread(known, name) for name in TESTED}


def judge(
    columns: Mapping[str, pd.Series], causal: Mapping[str, Any], params: Stats, reasons: Mapping[str, str], tested: int
) -> dict[str, Any]:
    """Intervals and tests of one model.

    Parameters
    ----------
    columns
        Of `columns_of`.
    causal
        The model's contribution metrics, whose summaries of the causal measures are taken as they are; may be empty.
    reasons
        measure -> why the model does not define it; it stands in the place of the value.
    tested
        Models under test in the study, the family of Holm's correction.
    """
    settings: dict[str, Any] = {
        "confidence": params.confidence, "n_resamples": params.n_resamples, "rng": params.seed,
    }  # fmt: skip
    result: dict[str, Any] = describe_columns({name: columns[name] for name in OF_IMAGES}, **settings)
    result |= (known := {name: causal[name] for name in CAUSAL if name in causal})
    result["severity"] = severity(columns, params, tested, settings)
    result["diagnostics"] = {name: describe_shape(columns[name]) for name in DIAGNOSED}
    missing = dict(reasons) | {name: found["reason"] for name, found in known.items() if not found["n"]}
    result["severity"] |= {
        name: not_judged(entry, missing[name])
        for name, entry in result["severity"].items()
        if is_not_judged(missing.get(name, ""))
    }
    if known and (reason := incompetence(known)):
        result["severity"] = {name: not_judged(entry, reason) for name, entry in result["severity"].items()}
        missing = {name: why for name, why in missing.items() if name not in result["severity"]} | dict(reasons)
    for part in (result, result["severity"], result["diagnostics"]):
        for name in missing.keys() & part.keys():
            part[name]["reason"] = missing[name]
    result["tests"] = one_sample_columns(
        {name: (columns[measure], of.value, of.alternative) for name, (measure, of) in TESTS.items()},
        **settings,
    )
    result["reading_original"] = original_reading(result["mcs"]["mean"])
    result["reading_null"] = null_reading(result["mcs_calibrated"])
    return result


def severity(
    columns: Mapping[str, pd.Series], params: Stats, tested: int, settings: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """The severity of a model by each measure that a decision can be taken by.

    The modality that is `ignored` is so by the measure's own reading: a share of attention entropy above ½ was reported
    as collapse of vision, while a share of reliance above ½ says that the text is used less.
    """
    bounds: dict[str, Any] = {
        "threshold": params.severe, "power": params.power, "alpha": params.alpha / max(1, tested), **settings,
    }  # fmt: skip
    of_images = {name: columns[name] for name, found in SEVERITY_MEASURES.items() if found.level != "means"}
    result = severity_columns(of_images, margin=params.margin, **bounds)
    for name, measure in SEVERITY_MEASURES.items():
        if measure.level == "means":
            result[name] = severity_of_means([columns[key] for key in measure.inputs], measure.of_means, **bounds)
        if measure.image_ignored > 0:
            result[name]["ignored"] = OTHER_SIDE[result[name]["ignored"]]
    return result


def not_judged(entry: Mapping[str, Any], reason: str) -> dict[str, Any]:
    """The severity of a model where what was scored means nothing: no number, and why."""
    kept = {"value", "alternative", "margin", "power_alpha"}
    undefined = {key: value if key in kept else math.nan for key, value in entry.items() if not isinstance(value, str)}
    undefined |= {"n": 0, "n_undefined": entry["n"] + entry["n_undefined"]}
    return undefined | {"alternative": entry.get("alternative", "greater"), "ignored": NEITHER, "reason": reason}


def layer_bands(layers: pd.DataFrame, rows: str, params: Stats) -> dict[str, dict[str, float]]:
    """Mean and interval of each layer's scores over images."""
    result: dict[str, dict[str, float]] = {}
    if layers.empty:
        return result
    columns: dict[str, pd.Series] = {}
    for name in BANDS:
        wide = layers.pivot_table(index="image_id", columns="layer", values=f"{name}_{rows}", dropna=False)
        # An image with an undefined layer is left out of every layer, and counted.
        defined = wide.where(wide.notna().all(axis="columns"))
        columns |= {f"{int(layer):02d} {name}": defined[layer] for layer in wide.columns}
    described = describe_columns(columns, confidence=params.confidence, n_resamples=params.n_resamples, rng=params.seed)
    for key, entry in described.items():
        layer, name = key.split()
        result.setdefault(layer, {}).update(
            {
                name: entry["mean"],
                f"{name}_ci_low": entry["ci_low"],
                f"{name}_ci_high": entry["ci_high"],
                f"{name}_n": entry["n"],
            }
        )
    return result


def add_holm(family: Iterable[dict[str, Any]]) -> None:
    """Holm's correction of one family of tests, as `p_holm` (and `p_balanced_holm`) of each."""
    members = list(family)
    for key in ("p", "p_balanced"):
        if all(key in member for member in members):
            for member, value in zip(members, holm([member[key] for member in members]), strict=True):
                member[f"{key}_holm"] = value


def pairs_of_models(
    columns: Mapping[str, Mapping[str, pd.Series]], tested: list[str], controls: Mapping[str, str], params: Stats
) -> dict[str, Results]:
    """Differences between models on the same images: measure -> "a_vs_b" -> `stats.paired.paired` of a − b.

    Every two models under test, one family of Holm's correction a measure; and each of them against its own untrained
    control (`controls`: model -> first control), another family.
    """
    between, against = list(combinations(tested, 2)), list(controls.items())
    result: dict[str, Results] = {}
    for measure in COMPARED:
        table = pd.DataFrame({name: columns[name][measure] for name in columns})  # the same image in each row
        pairs = {f"{a}_vs_{b}": (table[a], table[b]) for a, b in between + against}
        found = paired_columns(
            pairs, margin=params.margin, confidence=params.confidence, n_resamples=params.n_resamples, rng=params.seed
        )
        for kind, family in (("two models under test", between), ("model and its untrained control", against)):
            entries = [found[f"{a}_vs_{b}"] | {"a": a, "b": b, "family": kind} for a, b in family]
            add_holm(entries)
            found |= {f"{entry['a']}_vs_{entry['b']}": entry for entry in entries}
        result[measure] = found
    return result


def summary_over_models(results: Results, tested: list[str], confidence: float) -> Results:
    """Random-effects meta-analysis of the models under test: measure -> `stats.meta.random_effects`."""
    return {
        name: random_effects(
            [results[model][name]["mean"] for model in tested],
            [results[model][name]["sd"] / math.sqrt(max(1, results[model][name]["n"])) for model in tested],
            confidence=confidence,
        )
        for name in SUMMARISED
    }


def planned(params: Stats) -> dict[str, Any]:
    """The images that a study for d = 0.5 plans with, before any was measured."""
    n, _ = images_needed(PLANNED_D, power=params.power, alpha=params.alpha)
    return {"d": PLANNED_D, "alpha": params.alpha, "power": params.power, "alternative": "two-sided", "n": n}


def untrained_prior(results: dict[str, dict[str, Any]], controls: list[str]) -> dict[str, Any]:
    """Mean score of freshly initialised weights over seeds: the architecture's own prior."""
    means = [results[name]["mcs"]["mean"] for name in controls]
    return {
        "mean": float(np.mean(means)),
        "sd_over_seeds": float(np.std(means, ddof=1)) if len(means) > 1 else math.nan,
        "n_seeds": len(means),
    }


@dataclass(frozen=True)
class Tables:
    """What the statistics of one model are made of: scores per image and per layer, contributions per image, and the
    metrics of both."""

    images: pd.DataFrame
    layers: pd.DataFrame
    contributions: pd.DataFrame
    scores: Mapping[str, Any]
    causal: Mapping[str, Any]


def study_statistics(models: Mapping[str, ModelSpec], tables: Mapping[str, Tables], params: Stats) -> dict[str, Any]:
    """Everything that the statistics say of a study: its models, pairs of models, all models together, and its plan.

    Raises
    ------
    PipelineError
        Two models under test are one: the same kind and the same weights. It would count as often as it has names.
    """
    tested = [name for name, spec in models.items() if not spec.is_control]
    _require_different({name: tables[name].scores for name in tested})
    results: Results = {}
    columns: dict[str, dict[str, pd.Series]] = {}
    for name, spec in models.items():
        given, causal = tables[name], _nan_for_null(tables[name].causal)
        rows, reasons = given.scores["rows"], given.scores["reasons"]
        columns[name] = columns_of(given.images, given.contributions, rows, reasons)
        results[name] = judge(columns[name], causal, params, reasons, len(tested))
        results[name] |= {"layers": layer_bands(given.layers, rows, params), "rows": rows, "control": spec.is_control}
        results[name] |= {key: given.scores[key] for key in COPIED}
    first_control: dict[str, str] = {}
    for name in models:
        if controls := [key for key, spec in models.items() if spec.control_for == name]:
            results[name]["mcs_untrained"] = untrained_prior(results, controls)
            first_control |= {name: controls[0]} if name in tested else {}
    for test in TESTS:
        add_holm(results[name]["tests"][test] for name in tested)
    for measure in SEVERITY_MEASURES:
        add_holm(results[name]["severity"][measure] for name in tested)
    return {
        "models": results,
        "pairs_of_models": pairs_of_models(columns, tested, first_control, params),
        "meta": summary_over_models(results, tested, params.confidence),
        "a_priori": planned(params),
        **{key: getattr(params, key) for key in ("confidence", "alpha", "power", "severe")},
    }


def _require_different(scores: Mapping[str, Mapping[str, Any]]) -> None:
    known: dict[tuple[Any, ...], str] = {}
    for name, about in scores.items():
        identity = tuple(about.get(key) for key in ("kind", "weights_sha256", "definition_sha256"))
        if identity[1] is not None and identity in known:
            raise PipelineError(
                f"{known[identity]} and {name} are one model: {identity[0]} with the weights {identity[1]}",
                expected="models under test that differ",
                remedy="take one of them out of `models`; a model counts once, whatever its name",
            )
        known[identity] = name


def _nan_for_null(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """A metrics file as it was before writing: an undefined number is NaN."""
    return {
        name: {key: math.nan if item is None else item for key, item in value.items()}
        if isinstance(value, dict)
        else value
        for name, value in metrics.items()
    }
