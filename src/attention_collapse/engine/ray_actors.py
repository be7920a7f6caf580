"""The pieces of a step made by actors of Ray, each with a model of its own, on one machine or on many.

An actor writes a piece into the step's folder as one process would: the same batch, so the same digits. What is there
is not made again. So a worker, a driver or a node that is lost costs the pieces that it had in hand: another actor
makes them, and the next run makes whatever is still missing. An actor keeps its model from one step to the next.

The nodes share the folders of the weights, the images and the pieces under the same paths.
"""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import ray
import torch
from ray.exceptions import RayError

from attention_collapse import errors
from attention_collapse.engine.pieces import Pieces, Runner
from attention_collapse.errors import AttentionCollapseError, ParamsError, PipelineError
from attention_collapse.models.interface import Model
from attention_collapse.params import Engine
from attention_collapse.progress import note, steps

AGAIN = 3  # times that another actor tries what an actor was lost over
STORE = 2**28  # bytes of the object store of a Ray of our own: what a step's pieces are made of goes through it, once
QUIET = 60.0  # seconds without news, after which Ray may have no room for an actor
NAMED = 4  # faults that an error names
Told: TypeAlias = dict[str, str]  # kind, got, expected and remedy of an error; empty if all went well


@contextmanager
def _telling() -> Iterator[Told]:
    """What goes wrong within, told and not raised: an error's own class may need what another process has not."""
    told: Told = {}
    try:
        yield told
    except AttentionCollapseError as error:
        told |= {"kind": type(error).__name__, "got": error.got, "expected": error.expected, "remedy": error.remedy}
    except Exception as error:
        told |= {"kind": PipelineError.__name__, "got": f"{type(error).__name__}: {error}"}


class _Maker:
    """An actor: a model, and what makes the pieces of one step after the other with it."""

    def __init__(self, load: Callable[[], Model], threads: int, folder: str) -> None:
        os.chdir(folder)  # as the driver's, so that relative paths mean the same
        torch.set_num_threads(threads)
        self._load, self._models, self._step = load, list[Model](), ExitStack()
        self._make: Callable[[int], Any]

    def begin(self, pieces: Pieces[Any]) -> Told:
        """Load the model where it is not there yet, and make ready for the pieces of a step."""
        with _telling() as told:
            if not self._models:
                self._models.append(self._load())
            self._step.close()
            make = self._step.enter_context(pieces.making(self._models[0]))
            self._make = lambda piece: pieces.made(piece, make)
        return told

    def here(self) -> Told:
        """Answer, if the actor is there."""
        return {}

    def make(self, piece: int) -> Told:
        """Make one piece; what goes wrong stops no other."""
        with _telling() as told:
            self._make(piece)
        return told


class _Actors:
    """The actors of a run, which keep their models from step to step; those that are lost are replaced."""

    def __init__(self, settings: Engine, load: Callable[[], Model], threads: int) -> None:
        self._settings, self._threads = settings, threads
        kind = ray.remote(num_cpus=threads, num_gpus=settings.gpus, max_restarts=0)(_Maker)
        self._new: Callable[[], Any] = lambda: kind.remote(load, threads, str(Path.cwd()))  # type: ignore[attr-defined]
        self._all: list[Any] = []
        self._ready: set[Any] = set()  # those that have begun once

    def make(self, pieces: Pieces[Any], missing: list[int]) -> Iterator[tuple[int, Told | None]]:
        """Each piece once it is done, and what was told of it: None where an actor was lost over it again and again.

        Raises
        ------
        PipelineError
            No actor can be started, or no node has room for one. An error of ours that a model's loading raises in
            every actor passes through.
        """
        step = _Step(pieces, missing, self._ready)
        self._all += [self._new() for _ in range(min(self._settings.actors, len(missing)) - len(self._all))]
        for actor in self._all:
            step.begin(actor)
        while step.unfinished:
            for awaited in step.news(self._settings, self._threads):
                actor, piece = step.busy.pop(awaited)
                told = _outcome(awaited)
                if isinstance(told, RayError):
                    self._drop(actor)
                    step.ask_the_idle()  # a node may be lost with all of its actors
                    if step.may_replace(actor):
                        self._all.append(self._new())
                        step.begin(self._all[-1])
                    if not self._all:
                        raise _none_left(pieces, told)
                    if piece is not None and not step.again(piece):
                        yield piece, None
                elif piece is None and told:
                    self._drop(actor)
                    if not self._all:
                        raise _error(told, f"{pieces.what}: an actor could not begin: ")
                    note(f"{pieces.what}: an actor could not begin ({told['got']}); {len(self._all)} go on without it")
                else:
                    step.is_free(actor)
                    if piece is not None:
                        yield piece, told
            step.hand_out()

    def _drop(self, actor: Any) -> None:
        self._all.remove(actor)
        ray.kill(actor)  # it may be out of reach alone

    def end(self) -> None:
        """Give back what the actors hold."""
        for actor in self._all:
            ray.kill(actor)


class _Step:
    """What the actors are doing in one step: which begin, which make a piece, which wait for one."""

    def __init__(self, pieces: Pieces[Any], missing: list[int], ready: set[Any]) -> None:
        self._given, self._what, self._ready = ray.put(pieces), pieces.what, ready
        self._waiting, self._idle, self._lost = deque(missing), deque[Any](), Counter[int]()
        self._never = 0  # actors lost in a row that had never begun
        self.busy: dict[Any, tuple[Any, int | None]] = {}  # what is awaited -> the actor, and its piece if it has one

    @property
    def unfinished(self) -> bool:
        """Whether a piece waits to be made, or is being made."""
        return bool(self._waiting) or any(piece is not None for _, piece in self.busy.values())

    def begin(self, actor: Any) -> None:
        """Have an actor make ready."""
        self.busy[actor.begin.remote(self._given)] = actor, None

    def is_free(self, actor: Any) -> None:
        """An actor has begun, or is done with its piece."""
        if actor not in self._ready:
            self._ready.add(actor)
            self._never = 0
        self._idle.append(actor)

    def ask_the_idle(self) -> None:
        """Have those that wait for a piece answer first, so that none is handed to one that is lost as well."""
        while self._idle:
            actor = self._idle.popleft()
            self.busy[actor.here.remote()] = actor, None

    def hand_out(self) -> None:
        """Pieces to those that wait for one."""
        while self._waiting and self._idle:
            actor, piece = self._idle.popleft(), self._waiting.popleft()
            self.busy[actor.make.remote(piece)] = actor, piece

    def may_replace(self, actor: Any) -> bool:
        """Whether another actor may be started for one that was lost: not if too many were lost before they began."""
        self._never += actor not in self._ready
        return actor in self._ready or self._never <= AGAIN

    def again(self, piece: int) -> bool:
        """Whether another actor shall try the piece that one was lost over; then it waits."""
        self._lost[piece] += 1
        if self._lost[piece] <= AGAIN:
            self._waiting.append(piece)
        return self._lost[piece] <= AGAIN

    def news(self, settings: Engine, threads: int) -> list[Any]:
        """What is done of all that is awaited, at least one if some time is enough.

        Raises
        ------
        PipelineError
            No actor has begun, and no node has room for one.
        """
        done: list[Any] = ray.wait(list(self.busy), timeout=QUIET)[0]
        if not done and all(piece is None for _, piece in self.busy.values()):
            said = f"{self._what}: no actor has begun for {QUIET:.0f} s"
            if not _places(settings, threads):
                raise PipelineError(
                    f"{said}, and no node of Ray has {_taken(settings, threads)}",
                    expected="a node with room for an actor",
                    remedy="look whether a node was lost, or ask for less (engine.gpus, fewer threads)",
                )
            note(f"{said} (Ray's room may be taken); waiting")
        return done


@contextmanager
def on_ray(settings: Engine, load: Callable[[], Model], threads: int) -> Iterator[Runner]:
    """A runner on the actors that `settings` asks for; they end with the context, and so does a Ray of their own.

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
    with ExitStack() as ends:
        actors: list[_Actors] = []

        def run(pieces: Pieces[Any], _model: Model) -> None:
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
                ends.callback(ray.shutdown)
            if not actors:
                _require_room(settings, threads)
                actors.append(_Actors(settings, load, threads))
                ends.callback(actors[0].end)
            total = sum(len(some.pieces) for some in pieces.rounds)
            note(f"{pieces.what}: {total - len(missing)} of {total} are there, {len(missing)} are made on Ray")
            _make(pieces, missing, actors[0])

        yield run


def _make(pieces: Pieces[Any], missing: list[int], actors: _Actors) -> None:
    """Make what is missing; the first fault is raised when all others are made."""
    faults: dict[int, Told] = {}
    lost: list[int] = []
    for piece, told in steps(actors.make(pieces, missing), pieces.what, pieces.unit, total=len(missing)):
        if told is None:
            lost.append(piece)
        elif told:
            faults[piece] = told
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
    raise _error(first, f"{_named(pieces, [piece])}{more}: ", f"; {said}")


def _error(told: Told, before: str, after: str = "") -> AttentionCollapseError:
    """An error that an actor told."""
    found: AttentionCollapseError = getattr(errors, told["kind"])(
        f"{before}{told['got']}{after}",
        expected=told.get("expected") or "a piece that can be made",
        remedy=told.get("remedy") or "mend what it says, then run it again: what is there is not made again",
    )
    return found


def _outcome(awaited: Any) -> Told | RayError:
    """What an actor told, or that it is lost: its process, or its node."""
    try:
        told: Told = ray.get(awaited)
    except RayError as error:
        return error
    return told


def _none_left(pieces: Pieces[Any], error: RayError) -> PipelineError:
    return PipelineError(
        f"{pieces.what}: {AGAIN + 1} actors in a row were lost before they could begin: {str(error).strip()}",
        expected="an actor that loads the model, on a node that sees its folders",
        remedy="look whether its memory is enough (fewer actors), and whether every node sees this folder",
    )


def _named(pieces: Pieces[Any], some: list[int]) -> str:
    shown = ", ".join(pieces.holds(piece) for piece in some[:NAMED])
    return shown if len(some) <= NAMED else f"{shown} and {len(some) - NAMED} more"


def _connect(settings: Engine, threads: int) -> None:
    """To the cluster of the address; auto is the one that runs here or that RAY_ADDRESS names, else one of our own."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
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
        wanted = max(os.cpu_count() or 1, settings.actors * threads)
        ray.init(address="local", num_cpus=wanted, object_store_memory=STORE, include_dashboard=False, **quiet)


def _places(settings: Engine, threads: int) -> int:
    """How many actors the nodes have room for, if nothing else runs: each is on one node."""
    found = 0
    for node in ray.nodes():
        has = node["Resources"] if node["Alive"] else {}
        room = [has.get("CPU", 0) // threads]
        if settings.gpus:  # a part of a GPU is on one of them
            each = int(1 / settings.gpus + 1e-9)
            room.append(int(has.get("GPU", 0)) * each if each else has.get("GPU", 0) // settings.gpus)
        found += int(min(room))
    return found


def _taken(settings: Engine, threads: int) -> str:
    return f"{threads} CPU" + (f" and {settings.gpus:g} GPU" if settings.gpus else "")


def _require_room(settings: Engine, threads: int) -> None:
    if (places := _places(settings, threads)) < settings.actors:
        have = ray.cluster_resources()
        raise ParamsError(
            f"{settings.actors} actors of {_taken(settings, threads)} each, and Ray's nodes have room for {places} "
            f"({have.get('CPU', 0):g} CPU and {have.get('GPU', 0):g} GPU in all)",
            expected="room for every actor, each on one node",
            remedy="ask for fewer actors, fewer threads, or less of a GPU for each (engine.actors, engine.gpus)",
        )
