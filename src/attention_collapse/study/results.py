"""The studies' results as they stand on disk, for the MLflow mirror."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attention_collapse.errors import PipelineError
from attention_collapse.files import need, read_json
from attention_collapse.params import load_params
from attention_collapse.report.tracking import Result
from attention_collapse.study.layout import Study


def all_results(root: Path = Path()) -> list[Result]:
    """The results of every study of a repository.

    Raises
    ------
    PipelineError
        There is none, or a metrics file is not what this version writes.
    """
    files = [root / "params.yaml", *sorted(root.glob("studies/*/params.yaml"))]
    studies = [Study(load_params(file), root) for file in files]
    results = [result for study in studies for result in results_of(study)]
    if not results:
        raise PipelineError(
            f"no result in metrics/ of {', '.join(study.params.study for study in studies)}",
            expected="metrics of at least one study",
            remedy="run `dvc repro`, or restore metrics/ (`git checkout -- metrics`)",
        )
    return results


def results_of(study: Study) -> list[Result]:
    """One result a model, one for the statistics, the decision and the audit; empty for a study that has not run."""
    params, results = study.params, []
    for name, spec in params.models.items():
        if study.scores(name).is_file():
            metrics = _metrics(study.scores(name))
            settings = {
                "model": spec.model_dump(exclude_none=True),
                "fetch_coco": params.fetch_coco.model_dump(exclude_none=True),
            }
            figures = tuple(sorted((study.plots / name).glob("*.png")))
            results.append(
                Result(params.study, name, metrics["stage"], metrics, settings, (study.scores(name), *figures))
            )
    if study.statistics.is_file():
        metrics = _metrics(study.statistics, "evidence_id")
        tables = tuple(sorted(study.paper.glob("*.tex")))
        results.append(
            Result(params.study, "stats", "stats", metrics, params.stats.model_dump(), (study.statistics, *tables))
        )
    for file, settings in ((study.decision, params.decision.model_dump()), (study.audit, {})):
        if file.is_file():
            metrics = _metrics(file)
            results.append(Result(params.study, metrics["stage"], metrics["stage"], metrics, settings, (file,)))
    return results


def _metrics(file: Path, *needed: str) -> dict[str, Any]:
    """A metrics file with the keys by which its run is found: evidence and stage, if no others are named."""
    metrics: dict[str, Any] = read_json(file)
    for key in needed or ("evidence_id", "stage"):
        need(metrics, key, str(file))
    return metrics
