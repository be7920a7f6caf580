"""Stage stats: intervals and tests over all models of a study."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from attention_collapse.errors import PipelineError
from attention_collapse.files import evidence_id, read_json, sha256_file, write_json
from attention_collapse.measures.mcs import SEVERE, VISION_COLLAPSE, original_reading
from attention_collapse.params import Stats
from attention_collapse.stages.layout import Study, run_stage
from attention_collapse.stats.one_sample import Alternative, bootstrap_columns, describe, holm, one_sample

MEASURES = (
    "mcs", "mcs_null", "mcs_calibrated", "imbalance", "mcs_minus_null", "entropy_vision", "entropy_text",
    "cross_modal_entropy", "cross_modal_entropy_normalized", "cross_modal_entropy_surrogate",
    "cross_modal_entropy_surrogate_normalized", "mass_share", "mass_share_null", "mass_per_token_ratio",
)  # fmt: skip
TESTS: dict[str, tuple[str, float, Alternative]] = {
    "mcs_vs_0_5": ("mcs", 0.5, "two-sided"),
    "mcs_vs_0_7": ("mcs", VISION_COLLAPSE, "greater"),
    "imbalance_vs_0_8": ("imbalance", SEVERE, "greater"),
    "mcs_vs_null": ("mcs_minus_null", 0.0, "two-sided"),
    "mcs_calibrated_vs_0_5": ("mcs_calibrated", 0.5, "two-sided"),
}
LAYER_BANDS = ("mcs", "mcs_null", "mcs_calibrated")


def null_reading(calibrated: dict[str, Any]) -> str:
    """The verdict against the null: does the interval of the calibrated score leave 0.5?"""
    low, high = calibrated["ci_low"], calibrated["ci_high"]
    if not (math.isfinite(low) and math.isfinite(high)):
        return "undefined"
    if low > 0.5:
        return "text attention more concentrated than vision attention"
    return "vision attention more concentrated than text attention" if high < 0.5 else "no departure from the null"


def judge(images: pd.DataFrame, rows: str, params: Stats, reasons: Mapping[str, str]) -> dict[str, Any]:
    """Intervals and tests of one model from its table of images (one row an image).

    A measure that the model does not define (`reasons`) has no value; the reason stands in its place.
    """
    undefined = pd.Series(np.nan, images.index)
    columns = {
        name: images[f"{name}_{rows}"] if f"{name}_{rows}" in images and name not in reasons else undefined
        for name in MEASURES
    }
    columns["mcs_minus_null"] = columns["mcs"] - columns["mcs_null"]

    def rng() -> np.random.Generator:  # every measure is resampled with the same images
        return np.random.default_rng(params.seed)

    result: dict[str, Any] = {
        name: describe(values, confidence=params.confidence, n_resamples=params.n_resamples, rng=rng())
        for name, values in columns.items()
    }
    for name in reasons.keys() & result.keys():
        result[name]["reason"] = reasons[name]
    result["tests"] = {
        name: one_sample(columns[measure], value, alternative) for name, (measure, value, alternative) in TESTS.items()
    }
    result["reading_original"] = original_reading(result["mcs"]["mean"])
    result["reading_null"] = null_reading(result["mcs_calibrated"])
    return result


def layer_bands(layers: pd.DataFrame, rows: str, params: Stats) -> dict[str, dict[str, float]]:
    """Mean and interval of each layer's scores over images."""
    result: dict[str, dict[str, float]] = {}
    if layers.empty:
        return result
    for name in LAYER_BANDS:
        wide = layers.pivot_table(index="image_id", columns="layer", values=f"{name}_{rows}", dropna=False)
        defined = wide.dropna()  # an image with an undefined layer is left out of every layer, and counted
        low, high = bootstrap_columns(
            defined.to_numpy(np.float64), confidence=params.confidence, n_resamples=params.n_resamples,
            rng=np.random.default_rng(params.seed),
        )  # fmt: skip
        for index, layer in enumerate(wide.columns):
            entry = result.setdefault(f"{int(layer):02d}", {})
            entry |= {
                name: float(defined[layer].mean()),
                f"{name}_ci_low": low[index],
                f"{name}_ci_high": high[index],
                f"{name}_n": len(defined),
            }
    return result


def add_family(results: dict[str, dict[str, Any]], controls: set[str]) -> None:
    """Holm's correction of each test over the models under test; controls are no members of the family."""
    family = [name for name in results if name not in controls]
    for test in TESTS:
        adjusted = holm([results[name]["tests"][test]["p"] for name in family])
        for name, value in zip(family, adjusted, strict=True):
            results[name]["tests"][test]["p_holm"] = value


def untrained_prior(results: dict[str, dict[str, Any]], controls: list[str]) -> dict[str, Any]:
    """Mean score of freshly initialised weights over seeds: the architecture's own prior."""
    means = [results[name]["mcs"]["mean"] for name in controls]
    return {
        "mean": float(np.mean(means)),
        "sd_over_seeds": float(np.std(means, ddof=1)) if len(means) > 1 else math.nan,
        "n_seeds": len(means),
    }


def require_no_orphans(study: Study) -> None:
    """A metrics file of a model that the parameters no longer name must not feed an aggregate."""
    files = {path.stem: path for path in sorted((study.metrics / "mcs").glob("*.json"))}
    orphans = [str(files[name]) for name in sorted(files.keys() - study.params.models.keys())]
    if orphans:
        raise PipelineError(
            f"{', '.join(orphans)}: no such model in {study.params.params_file}",
            expected="one metrics file for each model of the study",
            remedy="delete the files (and data/<study>/measures/<model>), or put the model back",
        )


def main(study: Study) -> None:
    """Read every model's tables, write the study's statistics."""
    require_no_orphans(study)
    params, models = study.params.stats, study.params.models
    scores = {name: read_json(study.scores(name)) for name in models}
    results: dict[str, dict[str, Any]] = {}
    inputs: dict[str, str] = {}
    for name in models:
        rows = scores[name]["rows"]
        images, layers = pd.read_csv(study.images_table(name)), pd.read_csv(study.layers_table(name))
        results[name] = judge(images, rows, params, scores[name]["reasons"])
        results[name] |= {
            "layers": layer_bands(layers, rows, params),
            "rows": rows,
            "family": scores[name]["family"],
            "control": models[name].is_control,
            "share_of_pairs_above_0_7": scores[name]["share_of_pairs_above_0_7"],
            "share_of_nulls_above_0_7": scores[name]["share_of_nulls_above_0_7"],
        }
        inputs[name] = scores[name]["evidence_id"]  # of compute_mcs: it knows which rows the headline uses
        inputs |= {f"{path.parent.name}/{path.name}": sha256_file(Path(path)) for path in
                   (study.images_table(name), study.layers_table(name))}  # fmt: skip
    for name in models:
        if controls := [key for key, spec in models.items() if spec.control_for == name]:
            results[name]["mcs_untrained"] = untrained_prior(results, controls)
    add_family(results, {name for name, spec in models.items() if spec.is_control})
    identity = evidence_id("stats", params.model_dump(), inputs)
    about = {"study": study.params.study, "stage": "stats", "confidence": params.confidence, "evidence_id": identity}
    write_json(study.statistics, {"models": results, **about})
    for name, result in results.items():
        mcs, null = result["mcs"], result["mcs_null"]
        if not mcs["n"]:
            print(f"{name}: no MCS: {mcs['reason']}")
            continue
        print(
            f"{name}: MCS {mcs['mean']:.4f} [{mcs['ci_low']:.4f}, {mcs['ci_high']:.4f}], null {null['mean']:.4f}; "
            f"by the original thresholds: {result['reading_original']}; against the null: {result['reading_null']}"
        )


if __name__ == "__main__":
    run_stage(main)
