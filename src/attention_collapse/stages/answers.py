"""Stage answers: what models trained on easy-VQA answer, and what that depends on, with either prior of the answers.

Every number follows from the committed scores of the models that `train_answers` trained; models that are missing are
named.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

from attention_collapse.engine.answer_cells import cells, parameters_of, section
from attention_collapse.engine.answer_summary import SHOWN, facts, summaries
from attention_collapse.engine.dose_scores import read_all
from attention_collapse.errors import DataError
from attention_collapse.files import read_json
from attention_collapse.identity.settle import settle_frame, settle_json
from attention_collapse.report.answers import answers_figure, answers_table
from attention_collapse.report.figures import save, use_style
from attention_collapse.stages.run import run_stage
from attention_collapse.study.layout import Study, evidence_of


def main(study: Study) -> None:
    """Write the table of models, the metrics with their intervals, and the figure."""
    answers, stats = section(study.params), study.params.stats
    models: dict[str, dict[str, Any]] = {}
    counted: dict[str, Any] = {}

    def told(tensors: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, float]:
        given = about["parameters"]
        found = summaries(tensors, stats)
        models.setdefault(given["kind"], {})[f"{given['prior']}-{given['seed']}"] = found
        counted[given["prior"]] = facts(tensors)
        return {f"{name}.{key}": found[name][key]["mean"] for name in found for key in SHOWN}

    folders = {kind: study.answers_of(kind) for kind in answers.kinds}
    table, missing, digests = read_all(cells(answers), folders, lambda cell: parameters_of(cell, answers), told)
    if not len(table):
        raise DataError(
            f"{study.answers_of('KIND')} holds no answers of a model", expected="those that train_answers writes",
            remedy="restore them (`git checkout -- data`), or run `dvc repro -f train_answers`",
        )  # fmt: skip
    settle_frame(study.answers_table, table)
    lacking: dict[str, list[str]] = {}
    for cell in missing:
        lacking.setdefault(cell.kind, []).append(cell.name)
    used = {"answers": answers.model_dump(), "stats": stats.model_dump(include={"confidence", "n_resamples", "seed"})}
    settle_json(study.answers, {
        "models": models, "missing_models": lacking, "questions": counted, "stage": "answers",
        "favoured": answers.favoured, "partners": answers.partners, "confidence": stats.confidence,
        "evidence_id": evidence_of("answers", used, digests),
    })  # fmt: skip
    use_style()
    shutil.rmtree(study.answers_plots, ignore_errors=True)
    save(answers_figure(models, answers.favoured, stats.confidence), study.answers_plots / "accuracy")
    print(answers_table(read_json(study.answers)["models"]))
    if missing:
        print(f"{len(missing)} of {len(missing) + len(table)} models are not trained yet")


if __name__ == "__main__":
    run_stage(main)
