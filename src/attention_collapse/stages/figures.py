"""Stage figures: draw every model of a study, and write the same data for `dvc plots diff`."""

from __future__ import annotations

import shutil
from typing import Any

import pandas as pd

from attention_collapse.files import read_json, write_csv
from attention_collapse.report.comparison import comparison, forest
from attention_collapse.report.figures import (
    attention_entropy,
    layer_wise_attention,
    modality_contribution,
    save,
    use_style,
)
from attention_collapse.stages.run import run_stage
from attention_collapse.study.layout import Study
from attention_collapse.study.tables import images_of

Rows = list[list[Any]]


def main(study: Study) -> None:
    """Write `plots/<study>/<model>/*.png|pdf`, the figures of all models, and the data for `dvc plots diff` as CSV."""
    statistics = read_json(study.statistics)
    results, confidence = statistics["models"], statistics["confidence"]
    use_style()
    shutil.rmtree(study.plots, ignore_errors=True)
    layer_rows: Rows = []
    score_rows: Rows = []
    entropy_rows: Rows = []
    for name, result in results.items():
        rows, folder = result["rows"], study.plots / name
        images, heads = images_of(study, name), pd.read_csv(study.heads_table(name))
        save(modality_contribution(name, images, result, rows, confidence), folder / "modality_contribution")
        if result["layers"]:  # an empty figure says less than none
            untrained = [
                results[key]["layers"] for key, spec in study.params.models.items() if spec.control_for == name
            ]
            drawn = layer_wise_attention(name, result["layers"], rows, confidence, untrained)
            save(drawn, folder / "layer_wise_attention")
        if len(heads):
            save(attention_entropy(name, heads, rows), folder / "attention_entropy")
        for layer, band in result["layers"].items():
            layer_rows += [[name, int(layer), key, band[key]] for key in ("mcs", "mcs_null", "mcs_calibrated")]
        score_rows += [[name, key, result[key]["mean"]] for key in ("mcs", "mcs_null", "mcs_calibrated")]
        means = heads.groupby(["tower", "layer"])[[f"entropy_{rows}", f"uniform_{rows}"]].mean().reset_index()
        for tower, layer, entropy, uniform in means.to_numpy(object).tolist():
            entropy_rows += [[name, layer, tower, entropy], [name, layer, f"{tower} null", uniform]]
    causal = {name: read_json(study.contributions(name)) for name in results}
    save(forest(results, causal, confidence), study.plots / "modality_contribution")
    save(comparison(results, causal, confidence), study.plots / "cross_model_comparison")
    tables = (
        ("layer_wise_attention", ["model", "layer", "score", "value"], layer_rows),
        ("modality_contribution", ["model", "score", "value"], score_rows),
        ("attention_entropy", ["model", "layer", "score", "value"], entropy_rows),
    )
    for stem, columns, data in tables:
        write_csv(study.plots / f"{stem}.csv", columns, data)
    print(f"{len(list(study.plots.rglob('*.png')))} figures -> {study.plots}")


if __name__ == "__main__":
    run_stage(main)
