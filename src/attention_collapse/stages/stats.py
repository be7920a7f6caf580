"""Stage stats: intervals, tests, comparisons and a summary over all models of a study."""

from __future__ import annotations

import pandas as pd

from attention_collapse.engine.statistics import Tables, study_statistics
from attention_collapse.files import read_json
from attention_collapse.identity.settle import settle_json
from attention_collapse.stages.run import run_stage
from attention_collapse.study.layout import Study, evidence_of
from attention_collapse.study.orphans import require_no_orphans
from attention_collapse.study.tables import images_of


def main(study: Study) -> None:
    """Read every model's tables, write the study's statistics."""
    require_no_orphans(study)
    params, models = study.params.stats, study.params.models
    tables: dict[str, Tables] = {}
    inputs: dict[str, str] = {}
    for name in models:
        scores, causal = read_json(study.scores(name)), read_json(study.contributions(name))
        images, layers = images_of(study, name), pd.read_csv(study.layers_table(name))
        tables[name] = Tables(images, layers, pd.read_csv(study.contributions_table(name)), scores, causal)
        inputs[name] = scores["evidence_id"]  # of compute_mcs: it knows which rows the headline uses
        inputs[f"contribution/{name}"] = causal["evidence_id"]
    result = study_statistics(models, tables, params)
    identity = evidence_of("stats", params.model_dump(), inputs)
    about = {"study": study.name, "stage": "stats", "evidence_id": identity}
    settle_json(study.statistics, result | about)
    for name, found in result["models"].items():
        mcs, null = found["mcs"], found["mcs_null"]
        if not mcs["n"]:
            print(f"{name}: no MCS: {mcs['reason']}")
            continue
        print(
            f"{name}: MCS {mcs['mean']:.4f} [{mcs['ci_low']:.4f}, {mcs['ci_high']:.4f}], null {null['mean']:.4f}; "
            f"by the original thresholds: {found['reading_original']}; against the null: {found['reading_null']}"
        )


if __name__ == "__main__":
    run_stage(main)
