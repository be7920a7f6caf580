"""Mirroring results into MLflow, after the fact and idempotently: a run is found by its tag `evidence_id`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attention_collapse.files import json_text, sha256_bytes

DEFAULT_URI = "sqlite:///mlflow.db"


@dataclass(frozen=True)
class Result:
    """One result to mirror: a metrics file, and what belongs to it."""

    study: str
    name: str
    stage: str
    metrics: Mapping[str, Any]
    params: Mapping[str, Any]
    files: tuple[Path, ...]


def flatten(data: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """("a.b.c", value) of every scalar, in sorted order."""
    for key in sorted(data):
        value = data[key]
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}.{key}")
        else:
            yield f"{prefix}.{key}", value


def mirror(results: list[Result], revision: str, uri: str | None = None) -> tuple[int, int]:
    """Log each result that the tracking server does not hold yet; return (added, already there)."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow
    from mlflow.tracking import MlflowClient

    mlflow.set_tracking_uri(uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI)
    client, added, present = MlflowClient(), 0, 0
    for result in results:
        name = f"attention-collapse/{result.study}"
        experiment = client.get_experiment_by_name(name)
        experiment_id = experiment.experiment_id if experiment else client.create_experiment(name)
        evidence = result.metrics["evidence_id"]
        digest = sha256_bytes(json_text(result.metrics).encode())  # new code may give new numbers from the same inputs
        query = (
            f"tags.evidence_id = '{evidence}' and tags.`dvc.stage` = '{result.stage}' "
            f"and tags.`metrics.sha256` = '{digest}' and tags.complete = 'yes'"
        )
        if client.search_runs([experiment_id], query, max_results=1):
            present += 1
            continue
        tags = {"evidence_id": evidence, "dvc.stage": result.stage, "metrics.sha256": digest, "git.revision": revision}
        run = client.create_run(experiment_id, run_name=result.name, tags=tags).info.run_id
        for key, value in flatten(result.params, "params"):
            client.log_param(run, key.removeprefix("params."), json.dumps(value))
        numbers = [
            mlflow.entities.Metric(key.removeprefix("m."), float(value), 0, 0)
            for key, value in flatten(result.metrics, "m")
            if isinstance(value, int | float) and not isinstance(value, bool)
        ]
        for start in range(0, len(numbers), 1000):  # the limit of one batch
            client.log_batch(run, metrics=numbers[start : start + 1000])
        for file in result.files:
            client.log_artifact(run, str(file))
        client.set_tag(run, "complete", "yes")  # a run cut short is not found again, and is logged anew
        client.set_terminated(run)
        added += 1
    return added, present
