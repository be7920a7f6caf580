"""Stage decision: GO, PIVOT, NO_GO or NEED_MORE_DATA, from the severity tests of a study, measure by measure."""

from __future__ import annotations

from attention_collapse.engine.decision import decide_study
from attention_collapse.files import need, read_json
from attention_collapse.identity.settle import settle_json
from attention_collapse.stages.run import run_stage
from attention_collapse.study.layout import Study, evidence_of


def main(study: Study) -> None:
    """Read the study's statistics, write its decision."""
    params, file = study.params, study.statistics
    statistics, scores = read_json(file), {name: read_json(study.scores(name)) for name in params.models}
    result = decide_study(params, statistics, scores, str(file))
    used = params.decision.model_dump() | {"stats": params.stats.model_dump()}
    used["models"] = {name: spec.standing for name, spec in params.models.items()}
    inputs = {"stats": need(statistics, "evidence_id", str(file))}
    inputs |= {name: about["evidence_id"] for name, about in scores.items()}
    identity = evidence_of("decision", used, inputs)
    settle_json(study.decision, result | {"study": study.name, "stage": "decision", "evidence_id": identity})
    print(f"{result['decision']}: {result['reason']}")
    print(f"diagnostic success: {'yes' if result['diagnostic_success'] else 'no: ' + result['diagnostic_failures']}")


if __name__ == "__main__":
    run_stage(main)
