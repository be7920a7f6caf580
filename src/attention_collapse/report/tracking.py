"""Mirroring results into MLflow, after the fact and idempotently: a run is found by its tag `evidence_id`."""

from __future__ import annotations

import json
import math
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, closing, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from attention_collapse.errors import ParamsError
from attention_collapse.files import json_text, sha256_bytes

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

DEFAULT_URI = "sqlite:///mlflow.db"
ARTIFACTS = "mlruns"  # beside an SQLite store
LAYER = re.compile(r"\d\d+")  # as a key of a metrics file
FORM = 2  # of what is logged of a result: a run of another form is not the same


@dataclass(frozen=True)
class Result:
    """One result to mirror: a metrics file, and what belongs to it.

    Attributes
    ----------
    metrics
        The file's content; of a model, its scores.
    params
        What it was made with.
    files
        To keep beside it; the metrics file is the first, unless the result is a part of one.
    causal
        Of a model: its causal measures, which are logged beside the scores; empty if they were not computed.
    finished
        Seconds since 1970 at which the result was committed to git, or (not committed) last written. How long it took
        is in no result, so a run starts and ends then.
    series
        Of a training: metric -> (step, value) of what was seen while it ran.
    """

    study: str
    name: str
    stage: str
    metrics: Mapping[str, Any]
    params: Mapping[str, Any]
    files: tuple[Path, ...]
    causal: Mapping[str, Any] = field(default_factory=dict)
    finished: float = 0.0
    series: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)


def flatten(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """("a.b.c", value) of every scalar, in sorted order."""
    for key in sorted(data):
        name = f"{prefix}.{key}" if prefix else key
        if isinstance(data[key], Mapping):
            yield from flatten(data[key], name)
        else:
            yield name, data[key]


def numbers_of(result: Result) -> dict[tuple[str, int], float]:
    """(metric, step) -> number: a measure's mean under its plain name, by which runs are sorted; layers are steps.

    `reliance_share.mean` is `reliance_share`, and its interval `reliance_share.ci_low` and `.ci_high`; `layers.01.mcs`
    and `layer_mcs.01` are step 1 of `layers.mcs` and `layer_mcs`. A series keeps its steps. Undefined numbers are in no
    metric.
    """
    found: dict[tuple[str, int], float] = {}
    for metrics in (result.causal, result.metrics):
        for key, value in flatten(metrics):
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                continue
            parts = key.split(".")
            layer = next((part for part in parts if LAYER.fullmatch(part)), None)
            named = [part for part in parts if part != layer]
            name = ".".join(named[:-1] if named[-1] == "mean" and len(named) > 1 else named)
            found[name, int(layer or 0)] = float(value)
    for name, points in result.series.items():
        found |= {(name, step): value for step, value in points if math.isfinite(value)}
    return found


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

    results = [replace(result, files=tuple(file.absolute() for file in result.files)) for result in results]
    store = _store_of(uri)
    if store is not None:
        uri = f"{uri.partition(':')[0]}:///{store}"
        store.parent.mkdir(parents=True, exist_ok=True)
    mlflow.set_tracking_uri(uri)
    client, added = MlflowClient(), 0
    with chdir(store.parent) if store is not None else nullcontext():  # its artifacts lie relative to it
        for result in results:
            added += _mirrored(
                client, _experiment(client, f"attention-collapse/{result.study}", store), result, revision
            )
    return added, len(results) - added


def _mirrored(client: MlflowClient, experiment: str, result: Result, revision: str) -> bool:
    """Log a result unless it is there; whether it was logged."""
    told = [result.metrics, dict(result.causal), FORM, *([dict(result.series)] if result.series else [])]
    digest = sha256_bytes(json_text(told).encode())  # new code, new numbers
    tags = {
        "evidence_id": result.metrics["evidence_id"], "dvc.stage": result.stage, "metrics.sha256": digest,
    }  # fmt: skip
    query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    if client.search_runs([experiment], f"{query} and tags.complete = 'yes'", max_results=1):
        return False
    tags |= {"git.revision": revision, "time": "when the result was committed or written; it holds no other"}
    if result.causal:
        tags["evidence_id.contribution"] = result.causal["evidence_id"]
    at = int(1000 * result.finished) or None
    run = client.create_run(experiment, run_name=result.name, tags=tags, start_time=at).info.run_id
    for key, value in flatten(result.params):
        client.log_param(run, key, value if isinstance(value, str) else json.dumps(value))
    _log_numbers(client, run, numbers_of(result), at)
    names = [file.name for file in result.files]
    for file in result.files:  # files of one name stand in folders of their own
        client.log_artifact(run, str(file), file.parent.name if names.count(file.name) > 1 else None)
    client.set_tag(run, "complete", "yes")  # a run cut short is not found again, and is logged anew
    client.set_terminated(run, end_time=at)
    return True


def _log_numbers(client: MlflowClient, run: str, numbers: Mapping[tuple[str, int], float], at: int | None) -> None:
    from mlflow.entities import Metric

    listed = [Metric(name, value, at or 0, step) for (name, step), value in numbers.items()]
    for start in range(0, len(listed), 1000):  # the limit of one batch
        client.log_batch(run, metrics=listed[start : start + 1000])


def _experiment(client: MlflowClient, name: str, store: Path | None) -> str:
    """The id of an experiment of that name; of a file's store, a new one keeps its artifacts relative to the file.

    MLflow writes the folder's whole path, so that a store that is moved or copied would lose its artifacts. With a
    relative one they are found from the folder of the file, which is where `mlflow ui` is to be started.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment:
        return str(experiment.experiment_id)
    number = str(client.create_experiment(name))
    if store is not None:
        with closing(sqlite3.connect(store)) as database, database:
            database.execute(
                "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
                (f"{ARTIFACTS}/{number}", int(number)),
            )
    return number


def _store_of(uri: str) -> Path | None:
    """The file of an SQLite store; None for any other address."""
    parts = urlsplit(uri)
    return Path(unquote(parts.path[1:])).absolute() if parts.scheme.split("+")[0] == "sqlite" else None


def _checked(uri: str) -> str:
    """The address of a tracking server or store, if it can be one that keeps what is logged."""
    expected, remedy = f"an address such as {DEFAULT_URI} or http://host:5000", "correct --uri or $MLFLOW_TRACKING_URI"
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise ParamsError(f"tracking address {uri!r}: {error}", expected=expected, remedy=remedy) from None
    if parts.scheme.split("+")[0] == "sqlite":
        file = Path(unquote(parts.path[1:]))
        if not parts.path.startswith("/") or file in (Path(), Path(":memory:")):
            raise ParamsError(f"tracking address {uri!r} names no file", expected=expected, remedy=remedy)
        if file.is_dir() or not _writable(file):  # MLflow would try again for minutes
            raise ParamsError(f"tracking store {file} cannot be written", expected=expected, remedy=remedy)
    return uri


def _writable(file: Path) -> bool:
    """Whether the file, or the nearest folder above it that is there, may be written."""
    there = next(path for path in (file, *file.absolute().parents) if path.exists())
    return os.access(there, os.W_OK) and (there == file or there.is_dir())
