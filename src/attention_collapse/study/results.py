"""The studies' results as they stand on disk, for the MLflow mirror."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from attention_collapse.errors import PipelineError
from attention_collapse.files import need, read_json
from attention_collapse.params import load_params
from attention_collapse.report.tracking import Result
from attention_collapse.study.layout import Study
from attention_collapse.study.watched import read_watched


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
    """One result per model and way to train, and for statistics, decision and audit; empty for a study not run."""
    params, results = study.params, []
    for name, spec in params.models.items():
        if study.scores(name).is_file():
            metrics = _metrics(study.scores(name))
            settings = {
                "model": spec.model_dump(exclude_none=True),
                "fetch_coco": params.fetch_coco.model_dump(exclude_none=True),
            }
            figures = tuple(sorted((study.plots / name).glob("*.png")))
            causal = study.contributions(name)
            files = (study.scores(name), *((causal,) if causal.is_file() else ()), *figures)
            settings |= {"contribution": params.contribution.model_dump(exclude_none=True)} if causal.is_file() else {}
            results.append(Result(
                params.study, name, metrics["stage"], metrics, settings, files,
                causal=_metrics(causal) if causal.is_file() else {}, finished=_finished(study.root, files[:2]),
            ))  # fmt: skip
    if study.statistics.is_file():
        metrics = _metrics(study.statistics, "evidence_id")
        tables = tuple(sorted(study.paper.glob("*.tex")))
        results.append(
            Result(
                params.study,
                "stats",
                "stats",
                metrics,
                params.stats.model_dump(),
                (study.statistics, *tables),
                finished=_finished(study.root, [study.statistics]),
            )
        )
    for file, settings in ((study.decision, params.decision.model_dump()), (study.audit, {})):
        if file.is_file():
            metrics = _metrics(file)
            results.append(Result(
                params.study, metrics["stage"], metrics["stage"], metrics, settings, (file,),
                finished=_finished(study.root, [file]),
            ))  # fmt: skip
    return [*results, *_trainings(study)]


def _trainings(study: Study) -> list[Result]:
    """One result per way to train of the study of prevention: its outcomes, and what was seen while it was trained.

    The series are means over the seeds; a step at which a seed's value is undefined is left out.
    """
    watched, _ = read_watched(study)
    if not watched or not study.prevention.is_file():
        return []
    section, metrics, results = study.params.prevention, _metrics(study.prevention), []
    assert section is not None  # noqa: S101 — for the type checker: `watched` is empty without it
    finished = _finished(study.root, [study.prevention])
    for kind, cues in watched.items():
        for cue, arms in cues.items():
            outcomes = metrics["kinds"].get(kind, {}).get(cue, {})
            for arm, seeds in arms.items():
                whole = np.stack([run.to_numpy(np.float64) for run in seeds]).mean(0)  # (check, column)
                steps = whole[:, list(seeds[0].columns).index("step")].astype(int).tolist()
                series = {
                    f"training.{name}": list(zip(steps, whole[:, place].tolist(), strict=True))
                    for place, name in enumerate(seeds[0].columns)
                    if name != "step"
                }
                told = {key: metrics[key] for key in ("evidence_id", "stage")} | {"arm": arm, "kind": kind, "cue": cue}
                settings = {"kind": kind, "cue": cue, "seeds": len(seeds), "trained": section.arms[arm].model_dump()}
                results.append(Result(
                    study.params.study, f"{kind}/{cue}/{arm}", metrics["stage"], {**outcomes.get(arm, {}), **told},
                    settings, (), series=series, finished=finished,
                ))  # fmt: skip
    return results


def _finished(root: Path, files: Iterable[Path]) -> float:
    """When the latest of some files was committed, in seconds since 1970; one that git does not hold: was written.

    A file's own time is that of the checkout, and says nothing of when its numbers were computed.
    """
    return max(_committed(root, file) or file.stat().st_mtime for file in files)


def _committed(root: Path, file: Path) -> float | None:
    """None where git does not hold the file as it is."""
    try:
        changed = subprocess.run(
            ["git", "diff", "--quiet", "HEAD", "--", file.absolute()], cwd=root, capture_output=True, check=False
        ).returncode
        found = subprocess.run(
            ["git", "log", "-1", "--format=%ct", "--", file.absolute()],
            cwd=root, capture_output=True, text=True, check=False,
        ).stdout.strip()  # fmt: skip
    except OSError:  # no git
        return None
    return float(found) if found and not changed else None


def _metrics(file: Path, *needed: str) -> dict[str, Any]:
    """A metrics file with the keys by which its run is found: evidence and stage, if no others are named."""
    metrics: dict[str, Any] = read_json(file)
    for key in needed or ("evidence_id", "stage"):
        need(metrics, key, str(file))
    return metrics
