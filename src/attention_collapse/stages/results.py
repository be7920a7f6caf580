"""A study's results as they stand on disk, for the MLflow mirror."""

from __future__ import annotations

from attention_collapse.files import read_json
from attention_collapse.report.tracking import Result
from attention_collapse.stages.layout import Study


def results_of(study: Study) -> list[Result]:
    """One result a model, one for the statistics, the decision and the audit; empty for a study that has not run."""
    params, results = study.params, []
    for name, spec in params.models.items():
        if study.scores(name).is_file():
            metrics = read_json(study.scores(name))
            settings = {
                "model": spec.model_dump(exclude_none=True),
                "fetch_coco": params.fetch_coco.model_dump(exclude_none=True),
            }
            figures = tuple(sorted((study.plots / name).glob("*.png")))
            results.append(
                Result(params.study, name, metrics["stage"], metrics, settings, (study.scores(name), *figures))
            )
    if study.statistics.is_file():
        metrics = read_json(study.statistics)
        tables = tuple(sorted(study.paper.glob("*.tex")))
        results.append(
            Result(params.study, "stats", "stats", metrics, params.stats.model_dump(), (study.statistics, *tables))
        )
    for file, settings in ((study.decision, params.decision.model_dump()), (study.audit, {})):
        if file.is_file():
            metrics = read_json(file)
            results.append(Result(params.study, metrics["stage"], metrics["stage"], metrics, settings, (file,)))
    return results
