"""What a study costs, before it runs: what a person at a prompt asks for."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from attention_collapse.data.pairs import read_study, table
from attention_collapse.data.source import read_pairs
from attention_collapse.engine.calibration import (
    RUNS,
    Calibration,
    Machine,
    Measured,
    asked_of,
    pairs_to_time,
    peak_bytes,
    read_calibration,
    require_same,
    time_steps,
    write_calibration,
)
from attention_collapse.engine.passes import STEPS, Form, passes
from attention_collapse.engine.plan import ModelPlan, StudyPlan, cost
from attention_collapse.engine.planned_pairs import PlannedPairs, planned_pairs
from attention_collapse.engine.scoring import first_foils
from attention_collapse.engine.takeable import takeable
from attention_collapse.errors import AttentionCollapseError, ParamsError
from attention_collapse.files import read_json, write_json
from attention_collapse.inventory import available
from attention_collapse.progress import phase
from attention_collapse.study.checkpoints import known_pins, load_recorded
from attention_collapse.study.layout import CAPTION_LENGTHS, Study

FOILS = Path("data/sugarcrepe_counts.json")  # of no study: how many foils SugarCrepe has of how many images
OFFLINE = "HF_HUB_OFFLINE"


def default_calibration(study: Study) -> Path:
    """Where this machine's measurements lie, unless a file is named."""
    return study.root / "build" / f"calibration-{study.name}.json"


def plan(
    study: Study, calibrations: Sequence[Path] = (), why_not: dict[str, str] | None = None, *,
    pairs: PlannedPairs | None = None,
) -> StudyPlan:  # fmt: skip
    """Passes of every model of a study, and what they cost where that was measured; nothing is loaded or fetched.

    Parameters
    ----------
    calibrations
        Files of `calibrate`, one per machine.
    why_not
        Model -> why it could not be measured.
    pairs
        The pairs to count on; None: the study's, as `engine.planned_pairs` knows them.

    Raises
    ------
    AttentionCollapseError
        A file is no calibration of this study and its weights, or nothing says how many pairs there are.
    """
    found = pairs or planned_pairs(
        study.params.fetch_coco, pairs=study.pairs, manifest=study.manifest, lengths=study.root / CAPTION_LENGTHS,
        foils=study.root / FOILS, where=study.params.params_file,
    )  # fmt: skip
    machines = [read_calibration(file, study.name) for file in calibrations]
    for file, machine in zip(calibrations, machines, strict=True):
        _require_same(study, file, machine)
    settings = study.params.contribution
    explained = min(settings.t_shap_images, len(found.table))
    captions = sum(map(len, found.table["captions"]))
    each = dict(zip(STEPS, (captions, len(found.table), explained), strict=True))

    about = ("t_shap",) if found.own else STEPS
    forms = [Form.of_kind(spec.kind) for spec in study.params.models.values()]
    models = []
    for name, known in zip(study.params.models, passes(forms, found.table, settings), strict=True):
        models.append(ModelPlan(
            name, known, {step: sum(known[step].values()) / each[step] for step in STEPS},
            tuple(step for step in about if known[step]),
            tuple(cost(known, one.models[name]) if name in one.models else None for one in machines),
            (why_not or {}).get(name, ""),
        ))  # fmt: skip
    foils = sum(map(len, first_foils(found.table)))
    return StudyPlan(
        study.name, len(found.table), captions, foils, explained, found.source, tuple(models), tuple(machines)
    )


def written_plan(found: StudyPlan, file: Path) -> list[Path]:
    """Write a plan as JSON; where it is."""
    write_json(file, found.to_dict())
    return [file]


def _require_same(study: Study, file: Path, machine: Calibration) -> None:
    for name, measured in machine.models.items():
        if name in study.params.models:
            record = study.checkpoint(name)
            require_same(
                file, name, measured, spec=study.spec(name), batch_size=study.params.extract_attention.batch_size,
                pins=known_pins(read_json(record)) if record.is_file() else {},
            )  # fmt: skip


def calibrate(
    study: Study, file: Path, *, models: Sequence[str] = (), pairs: Path | None = None, device: str | None = None
) -> dict[str, str]:
    """Time a few pairs of each model that is here, one fresh process per model, and write or update a file.

    Parameters
    ----------
    models
        Those to measure; none: all.
    pairs
        A source of pairs (docs/data.md) to time with; None: the study's own.
    device
        In place of the study's.

    Returns
    -------
    dict
        Model -> why it could not be measured.

    Raises
    ------
    AttentionCollapseError
        There are no pairs to time with, or the file is of another machine, study or schema.
    """
    for name in models:
        study.spec(name)
    if pairs is None and not (study.pairs.is_dir() and study.manifest.is_file()):
        raise ParamsError(
            f"the pairs of the study {study.name!r} are not fetched, so there is nothing to time",
            expected=f"pairs in {study.pairs}, or others that are like them",
            remedy="fetch them (`dvc repro fetch_coco`, for the study's own dvc.yaml), or name some: --pairs FOLDER",
        )
    if device is not None:
        settings = study.params.extract_attention.model_copy(update={"device": device})
        study = Study(study.params.model_copy(update={"extract_attention": settings}), study.root)
    machine = Machine.here(study.params.extract_attention)
    write_calibration(file, study.name, machine, {})  # what is wrong with it is known before anything is measured
    why_not = {}
    for name in models or study.params.models:
        phase(f"{name}: measuring")
        if not available(study.spec(name)):
            why_not[name] = f"its weights are not on this machine ({study.spec(name).origin})"
            continue
        try:
            write_calibration(file, study.name, machine, {name: _in_a_fresh_process(study, name, pairs)})
        except AttentionCollapseError as error:
            why_not[name] = error.got
        except BrokenProcessPool:
            why_not[name] = "its process was ended by the system, as it does where memory does not suffice"
    return why_not


def _in_a_fresh_process(study: Study, name: str, pairs: Path | None) -> Measured:
    """The start is then that of a run, and the peak of memory the model's own; nothing is downloaded."""
    with _offline(), ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_measured, study, name, pairs, time.time()).result()


@contextmanager
def _offline() -> Iterator[None]:
    before = os.environ.get(OFFLINE)
    os.environ[OFFLINE] = "1"
    try:
        yield
    finally:
        os.environ.pop(OFFLINE)
        if before is not None:
            os.environ[OFFLINE] = before


def _measured(study: Study, name: str, pairs: Path | None, asked_at: float) -> Measured:
    """Load a model and time it; `asked_at`: when the process was asked for, in seconds since the epoch."""
    import torch

    settings = study.params.extract_attention
    torch.set_num_threads(settings.threads)
    model = load_recorded(study, name)
    start = time.time() - asked_at
    of = pairs.name if pairs else f"the study {study.name}"
    whole = table(read_pairs(pairs).pairs, "calibration") if pairs else read_study(study.pairs, study.manifest)
    few = min(pairs_to_time(model, settings.batch_size), len(whole))
    some, _ = takeable(model, whole.select(range(few)))
    clock, spent = time.perf_counter(), time.process_time()
    steps = time_steps(model, some, settings, study.params.contribution)
    share = (time.process_time() - spent) / (time.perf_counter() - clock)
    host, accelerator = peak_bytes()
    about: dict[str, Any] = {key: value for key, value in model.provenance.items() if value is not None}
    return Measured(
        asked=asked_of(study.spec(name)), weights=known_pins(about), batch_size=settings.batch_size,
        pairs=f"{len(some)} of {of}", runs=RUNS, start_seconds=start, processor_share=share, host_bytes=host,
        device_bytes=accelerator, steps=steps,
    )  # fmt: skip
