"""Mirroring results into MLflow, after the fact and idempotently: a run is found by its tag `evidence_id`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from attention_collapse.errors import ParamsError
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
    """Log each result that the tracking server does not hold yet; return (added, already there).

    Raises
    ------
    ParamsError
        The address is malformed, or names a file that cannot be written or a database that is gone when the program
        ends. What MLflow and the database raise is passed on.
    """
    uri = _checked(uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # its own default keeps a dead server's user waiting
    import mlflow
    from mlflow.tracking import MlflowClient

    mlflow.set_tracking_uri(uri)
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


def _checked(uri: str) -> str:
    """The address of a tracking server or store, if it can be one that keeps what is logged."""
    expected, remedy = f"an address such as {DEFAULT_URI} or http://host:5000", "correct --uri or $MLFLOW_TRACKING_URI"
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise ParamsError(f"tracking address {uri!r}: {error}", expected=expected, remedy=remedy) from None
    if parts.scheme.split("+")[0] == "sqlite":
        file = Path(parts.path[1:])
        if not parts.path.startswith("/") or file in (Path(), Path(":memory:")):
            raise ParamsError(f"tracking address {uri!r} names no file", expected=expected, remedy=remedy)
        if file.is_dir() or not _writable(file):  # MLflow would try again for minutes
            raise ParamsError(f"tracking store {file} cannot be written", expected=expected, remedy=remedy)
    return uri


def _writable(file: Path) -> bool:
    """Whether the file, or the nearest folder above it that is there, may be written."""
    there = next(path for path in (file, *file.absolute().parents) if path.exists())
    return os.access(there, os.W_OK) and (there == file or there.is_dir())
