"""The pieces of a step made by actors of Ray Data, each with a model of its own, on one machine or on many.

A row is the number of one piece, and an actor writes it into the step's folder as one process would: the same batch, so
the same digits. What is there is not made again. So a worker, a driver or a node that is lost costs the pieces that it
had in hand: Ray starts a lost worker anew, and the next run makes whatever is still missing.

The nodes share the folders of the weights, the images and the pieces under the same paths.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ray
import ray.data
import torch
from ray.util.annotations import RayDeprecationWarning

from attention_collapse import errors
from attention_collapse.engine.pieces import Pieces, Runner
from attention_collapse.errors import AttentionCollapseError, ParamsError, PipelineError
from attention_collapse.models.interface import Model
from attention_collapse.params import Engine
from attention_collapse.progress import note, steps

AGAIN = 3  # times that a lost worker is started anew for what it had in hand
SPARE = 2  # logical processors of a Ray of our own beyond the actors': one alone is kept by Ray Data itself
STORE = 2**28  # bytes of its object store: nothing but numbers of pieces goes through it
NAMED = 4  # faults that an error names


class _Maker:
    """An actor: a model, and what makes pieces with it."""

    def __init__(self, load: Callable[[], Model], pieces: Pieces[Any], threads: int, folder: str) -> None:
        os.chdir(folder)  # as the driver's, so that relative paths mean the same
        torch.set_num_threads(threads)
        self._pieces, self._kept_open = pieces, ExitStack()
        self._make: Callable[[int], Any] | None = None
        self._load = load

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Make one piece; what goes wrong is told, and stops no other piece."""
        [piece] = map(int, batch["piece"])
        told = {"kind": "", "got": "", "expected": "", "remedy": ""}
        try:
            if self._make is None:
                self._make = self._kept_open.enter_context(self._pieces.making(self._load()))
            self._pieces.made(piece, self._make)
        except AttentionCollapseError as error:
            told = {"kind": type(error).__name__, "got": error.got, "expected": error.expected, "remedy": error.remedy}
        except Exception as error:
            told |= {"kind": PipelineError.__name__, "got": f"{type(error).__name__}: {error}"}
        return {"piece": [piece], **{name: [value] for name, value in told.items()}}


@contextmanager
def on_ray(settings: Engine, load: Callable[[], Model], threads: int) -> Iterator[Runner]:
    """A runner on the actors that `settings` asks for; a Ray that was started for it ends with the context.

    Parameters
    ----------
    load
        What loads the model in an actor, of a module that its process can import.
    threads
        CPU threads of an actor: as many as one process would use, for the same digits.

    Raises
    ------
    ParamsError
        There is no cluster of that address, or it is too small.
    PipelineError
        Pieces could not be made; all others are there.
    """
    connected = False

    def run(pieces: Pieces[Any], _model: Model) -> None:
        nonlocal connected
        missing = [piece for some in pieces.rounds for piece in pieces.missing(some)]
        if pieces.folder is None:
            raise ParamsError(
                "engine ray without a folder for finished batches",
                expected="a folder that every node sees",
                remedy="name one with `work` (--work)",
            )
        if not missing:
            return
        if not ray.is_initialized():
            _connect(settings, threads)
            connected = True
        _require_room(settings, threads)
        total = sum(len(some.pieces) for some in pieces.rounds)
        note(f"{pieces.what}: {total - len(missing)} of {total} are there, {len(missing)} are made on Ray")
        _make(pieces, missing, settings, load, threads)

    try:
        yield run
    finally:
        if connected:
            ray.shutdown()


def _make(
    pieces: Pieces[Any], missing: list[int], settings: Engine, load: Callable[[], Model], threads: int
) -> None:  # fmt: skip
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.max_errored_blocks = -1  # a worker that is lost again and again loses its own pieces alone
    # Small inputs are read as one unit unless told otherwise; the order is that of the rounds.
    rows = ray.data.from_items([{"piece": piece} for piece in missing], override_num_blocks=min(len(missing), 1000))
    warnings.filterwarnings("ignore", category=RayDeprecationWarning)  # there is no other way yet to end a retry
    told = rows.map_batches(
        _Maker, fn_constructor_args=(load, pieces, threads, str(Path.cwd())), batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=settings.actors), num_cpus=threads, num_gpus=settings.gpus,
        ray_remote_args_fn=lambda: {"max_restarts": AGAIN, "max_task_retries": AGAIN},
    )  # fmt: skip
    faults = {}
    for row in steps(told.iter_rows(), pieces.what, pieces.unit, total=len(missing)):
        if row["kind"]:
            faults[row["piece"]] = row
    lost = [piece for some in pieces.rounds for piece in pieces.missing(some) if piece not in faults]
    if not faults and not lost:
        return
    done = len(missing) - len(faults) - len(lost)
    said = f"{done} of {len(missing)} missing pieces were made and are kept"
    if not faults:
        raise PipelineError(
            f"{pieces.what}: the worker was lost {AGAIN + 1} times over {_named(pieces, lost)}; {said}",
            expected="a worker that lives through every piece",
            remedy="look whether its memory is enough (a smaller batch_size, fewer actors), then run it again",
        )
    piece, first = next(iter(faults.items()))
    more = f", and {len(faults) + len(lost) - 1} more" if len(faults) + len(lost) > 1 else ""
    raise getattr(errors, first["kind"])(
        f"{_named(pieces, [piece])}{more}: {first['got']}; {said}",
        expected=first["expected"] or "a piece that can be made",
        remedy=first["remedy"] or "mend what it says, then run it again: what is there is not made again",
    )


def _named(pieces: Pieces[Any], some: list[int]) -> str:
    shown = ", ".join(pieces.holds(piece) for piece in some[:NAMED])
    return shown if len(some) <= NAMED else f"{shown} and {len(some) - NAMED} more"


def _connect(settings: Engine, threads: int) -> None:
    """To the cluster of the address; auto is the one that runs here or that RAY_ADDRESS names, else one of our own."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):  # its file keeps all
            handler.setLevel(logging.CRITICAL)
    quiet: dict[str, Any] = {
        "logging_level": logging.ERROR, "log_to_driver": False, "ignore_reinit_error": True,
        "runtime_env": {"env_vars": {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}},
    }  # fmt: skip
    if settings.address != "local":
        try:
            ray.init(address=settings.address, **quiet)
            note(f"Ray: the cluster at {settings.address}")
        except ConnectionError as error:
            if settings.address != "auto" or "RAY_ADDRESS" in os.environ:
                raise ParamsError(
                    f"engine.address {settings.address!r}: {error}",
                    expected="the address of a Ray cluster that runs (host:port), auto, or local",
                    remedy="start one (`ray start --head`), or correct the address",
                ) from None
    if not ray.is_initialized():
        note("Ray: one of our own on this machine")
        wanted = max(os.cpu_count() or 1, settings.actors * threads + SPARE)
        ray.init(address="local", num_cpus=wanted, object_store_memory=STORE, include_dashboard=False, **quiet)


def _require_room(settings: Engine, threads: int) -> None:
    have = ray.cluster_resources()
    for name, needed in (("CPU", settings.actors * threads + 1), ("GPU", settings.actors * settings.gpus)):
        if have.get(name, 0) < needed:
            raise ParamsError(
                f"{settings.actors} actors take {needed:g} {name} of Ray's, which has {have.get(name, 0):g}",
                expected="as many as the actors take",
                remedy="ask for fewer actors, fewer threads, or less of a GPU for each (engine.actors, engine.gpus)",
            )
