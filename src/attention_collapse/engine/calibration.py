"""What a pass costs on one machine: seconds and memory of a few pairs, measured, kept in a file and read with care.

One file holds one machine and one study; a plan reads several of them side by side.
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attention_collapse.engine.attention import extract
from attention_collapse.engine.contribution import FEWEST, contributions
from attention_collapse.engine.passes import IMAGE, PAIR, STEPS, TEXT
from attention_collapse.engine.token_contribution import token_contributions
from attention_collapse.errors import DataError
from attention_collapse.families import NO_ATTENTION
from attention_collapse.files import json_text, read_json, write_text
from attention_collapse.identity.environment import processor
from attention_collapse.models.interface import DualEncoder, Model
from attention_collapse.models.masking import not_playable
from attention_collapse.models.mm_shap import MatchingHead
from attention_collapse.models.protocols import MM_SHAP, PUBLISHED_PERMUTATIONS
from attention_collapse.models.spec import ModelSpec
from attention_collapse.params import Contribution, ExtractAttention

if TYPE_CHECKING:
    from datasets import Dataset

SCHEMA = 1
RUNS = 3  # that are timed, after one to warm up
ANY = "any"  # T-SHAP's passes of images and texts take turns, and are timed together
MOST_PAIRS = 64  # that are run for a calibration, however large the batches are


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Machine(_Part):
    """What seconds and memory were measured on."""

    processor: str
    cores: int = Field(ge=1)
    threads: int = Field(ge=1)
    device: str
    device_name: str | None
    torch: str
    system: str

    @classmethod
    def here(cls, settings: ExtractAttention) -> Machine:
        """This one, as the study's settings use it."""
        cuda = settings.device != "cpu" and torch.cuda.is_available()
        return cls(
            processor=processor(), cores=os.cpu_count() or 1, threads=settings.threads, device=settings.device,
            device_name=torch.cuda.get_device_name() if cuda else None, torch=torch.__version__,
            system=platform.system(),
        )  # fmt: skip

    @property
    def words(self) -> str:
        """One line."""
        host = f"{self.cores} cores of {self.processor}, {self.threads} thread{'s' * (self.threads > 1)}"
        device = f"{self.device} ({self.device_name})" if self.device_name else self.device
        return f"{device}, {host}, torch {self.torch}"


class Timed(_Part):
    """Seconds per pass of one step, by what goes through the model (image, text, pair; any: images and texts alike).

    Attributes
    ----------
    seconds
        Median over the runs.
    fastest, slowest
        Of the runs.
    passes
        Of one run.
    """

    seconds: dict[str, float]
    fastest: dict[str, float]
    slowest: dict[str, float]
    passes: dict[str, int]


class Measured(_Part):
    """What one model costs.

    Attributes
    ----------
    asked
        The model's description in the study's parameters.
    weights
        What identified its weights, where anything did (`study.checkpoints.PIN`).
    start_seconds
        From a fresh process to the loaded model.
    processor_share
        Processor seconds of the process per second of the clock while the steps were timed: on a CPU well below 1 where
        others were using the machine, so that a run on an idle one is faster.
    host_bytes, device_bytes
        Peak of the process's resident memory, and of what PyTorch took on an accelerator.
    """

    asked: dict[str, Any]
    weights: dict[str, str]
    batch_size: int = Field(ge=1)
    pairs: str
    runs: int = Field(ge=1)
    start_seconds: float = Field(gt=0, allow_inf_nan=False)
    processor_share: float = Field(ge=0, allow_inf_nan=False)
    host_bytes: int = Field(gt=0)
    device_bytes: int | None = Field(gt=0)
    steps: dict[str, Timed]


class Calibration(_Part):
    """One machine's measurements of a study's models."""

    schema_number: int = Field(alias="schema")
    study: str
    machine: Machine
    models: dict[str, Measured]


def asked_of(spec: ModelSpec) -> dict[str, Any]:
    """What a model's description says, as far as it decides what the model costs and which weights it has."""
    return spec.model_dump(exclude={"control_for"}, exclude_none=True)


class _Clock:
    """A model whose passes are counted, and the moment at which it was given its first texts."""

    def __init__(self, model: Any) -> None:
        self.passes: Counter[str] = Counter()
        self.texts_from: float | None = None
        self.model = copy(model)
        self._given = model
        if isinstance(model, DualEncoder):
            self.model.texts, self.model.embed = self._texts, self._embed
        else:
            self.model.score = self._counting(model.score)
            if isinstance(model, MatchingHead):  # by the protocol mm-shap
                self.model.match_logits = self._counting(model.match_logits)

    def _texts(self, captions: Any) -> Any:
        self.texts_from = self.texts_from or time.perf_counter()
        return self._given.texts(captions)

    def _embed(self, batch: Any) -> Any:
        found = self._given.embed(batch)
        self.passes[TEXT if self.texts_from else IMAGE] += len(found.embedding)
        return found

    def _counting(self, score: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def counted(batch: Any) -> Any:
            found = score(batch)
            self.passes[PAIR] += len(found)
            return found

        return counted


def _once(model: Model, run: Callable[[Any], object], apart: bool) -> tuple[dict[str, float], dict[str, int]]:
    """Seconds and passes of one run; of a dual encoder images and texts `apart`, as far as both pass through it.

    The engine takes all images before the first text.
    """
    clock = _Clock(model)
    start = time.perf_counter()
    run(clock.model)
    end = time.perf_counter()
    passes = dict(clock.passes)
    if apart and {IMAGE, TEXT} <= passes.keys() and clock.texts_from:
        return {IMAGE: clock.texts_from - start, TEXT: end - clock.texts_from}, passes
    unit = next(iter(passes)) if apart and len(passes) == 1 else ANY
    return {unit: end - start}, {unit: sum(passes.values())}


def _timed(model: Model, run: Callable[[Any], object], *, apart: bool) -> Timed | None:
    """The median of several runs after one to warm up; None where nothing passes through the model."""
    run(model)
    runs = [_once(model, run, apart) for _ in range(RUNS)]
    passes = runs[0][1]
    if not all(passes.values()):
        return None
    each = {unit: [seconds[unit] / passes[unit] for seconds, _ in runs] for unit in passes}
    return Timed(
        seconds={unit: statistics.median(found) for unit, found in each.items()},
        fastest={unit: min(found) for unit, found in each.items()},
        slowest={unit: max(found) for unit, found in each.items()},
        passes=passes,
    )


def pairs_to_time(model: Model, batch_size: int) -> int:
    """Images that fill a batch: of a dual encoder with images, of any other model with captions, some per image."""
    enough = batch_size if isinstance(model, DualEncoder) else batch_size // 4
    return min(max(enough, FEWEST + 1), MOST_PAIRS)


def time_steps(model: Model, pairs: Dataset, settings: ExtractAttention, causal: Contribution) -> dict[str, Timed]:
    """Each step of a study, timed on some pairs by the run's own functions; none that the model does not take.

    Parameters
    ----------
    pairs
        The table of `data.pairs.table`, with pictures.
    """
    permutations = PUBLISHED_PERMUTATIONS if causal.t_shap_protocol == MM_SHAP else 1
    steps: dict[str, Callable[[Any], object]] = {
        "attention": lambda one: extract(one, pairs, batch_size=settings.batch_size),
        "contribution": lambda one: contributions(
            one, pairs, partners=causal.partners, seed=causal.seed, batch_size=settings.batch_size
        ),
        "t_shap": lambda one: token_contributions(
            one, pairs, images=1, seed=causal.seed, batch_size=settings.batch_size,
            permutations=permutations, protocol=causal.t_shap_protocol,
        ),
    }  # fmt: skip
    left_out = {"attention"} if model.family == NO_ATTENTION else set[str]()
    left_out |= {"t_shap"} if not_playable(model, causal.t_shap_protocol) else set()
    timed = {name: _timed(model, steps[name], apart=name != "t_shap") for name in STEPS if name not in left_out}
    return {name: found for name, found in timed.items() if found}


def peak_bytes() -> tuple[int, int | None]:
    """Most memory that this process has held, and that PyTorch has held on an accelerator."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    host = kilobytes * (1 if platform.system() == "Darwin" else 1024)
    return host, (torch.cuda.max_memory_allocated() or None) if torch.cuda.is_available() else None


def read_calibration(file: Path, study: str) -> Calibration:
    """A file of measurements of that study.

    Raises
    ------
    DataError
        It is no JSON, of another schema or study, or not what `write_calibration` writes.
    """
    data = read_json(file)
    remedy = "give a file that `attention-collapse plan --calibrate` wrote, or write it anew"
    number = data.get("schema") if isinstance(data, Mapping) else None
    if number != SCHEMA:
        raise DataError(f"{file}: schema {number}", expected=f"a calibration of schema {SCHEMA}", remedy=remedy)
    try:
        found = Calibration.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(f"{file}: {where}: {first['msg']}", expected="a calibration", remedy=remedy) from None
    if found.study != study:
        raise DataError(
            f"{file}: measured for the study {found.study!r}",
            expected=f"the study {study!r}, with its pictures and captions",
            remedy=f"calibrate this study: `attention-collapse plan {study} --calibrate`",
        )
    return found


def write_calibration(file: Path, study: str, machine: Machine, models: Mapping[str, Measured]) -> None:
    """Write measurements, beside those of other models that the file holds; of no model, only check the file.

    Raises
    ------
    DataError
        The file is not as `read_calibration` takes it, or of another machine, whose seconds are others.
    """
    kept: dict[str, Measured] = {}
    if file.exists():
        before = read_calibration(file, study)
        if before.machine != machine:
            raise DataError(
                f"{file}: measured on {before.machine.words}",
                expected=f"this machine: {machine.words}",
                remedy="give another file with --calibration, or remove this one",
            )
        kept = before.models
    if not models:
        return
    whole = Calibration.model_validate(
        {"schema": SCHEMA, "study": study, "machine": machine, "models": {**kept, **models}}
    )
    write_text(file, json_text(whole.model_dump(by_alias=True)))


def require_same(
    file: Path, name: str, measured: Measured, *, spec: ModelSpec, pins: Mapping[str, str], batch_size: int
) -> None:
    """DataError if a measurement is of other weights, or of other batches, than the study has.

    Parameters
    ----------
    pins
        What an earlier run recorded of the weights.
    """
    wanted: dict[str, Any] = {**asked_of(spec), "batch_size": batch_size}
    found: dict[str, Any] = {**measured.asked, "batch_size": measured.batch_size}
    for key, value in pins.items():
        if key in measured.weights:
            wanted[f"recorded {key}"], found[f"recorded {key}"] = value, measured.weights[key]
    if differ := sorted(key for key in {*wanted, *found} if wanted.get(key) != found.get(key)):
        raise DataError(
            f"{file}: {name} was measured with {', '.join(f'{key} {found.get(key)}' for key in differ)}",
            expected=f"{', '.join(f'{key} {wanted.get(key)}' for key in differ)}, as the study has it",
            remedy="calibrate the model anew, or leave the file out",
        )
