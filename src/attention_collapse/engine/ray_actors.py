"""The pieces of a step made by actors of Ray, each with a model of its own, on one machine or on many.

An actor writes a piece into the step's folder as one process would: the same batch, so the same digits. What is there
is not made again. So a worker, a driver or a node that is lost costs the pieces that it had in hand: another actor
makes them, and the next run makes whatever is still missing. An actor keeps its model from one step to the next.

The nodes share the folders of the weights, the images and the pieces under the same paths.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ray
import torch
from ray.exceptions import RayError

from attention_collapse import errors
from attention_collapse.engine.pieces import Pieces, Runner
from attention_collapse.engine.ray_cluster import connect, with_room
from attention_collapse.engine.ray_step import AGAIN, Step, Told, outcome
from attention_collapse.errors import AttentionCollapseError, ParamsError, PipelineError
from attention_collapse.models.interface import Model
from attention_collapse.params import Engine
from attention_collapse.progress import note, steps

NAMED = 4  # faults that an error names


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
        step = Step(pieces, missing, self._ready)
        self._all += [self._new() for _ in range(min(self._settings.actors, len(missing)) - len(self._all))]
        for actor in self._all:
            step.begin(actor)
        while step.unfinished:
            for awaited in step.news(self._settings, self._threads):
                actor, piece = step.busy.pop(awaited)
                told = outcome(awaited)
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
        There is no cluster of that address, or it has no room for one actor.
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
                connect(settings, threads)
                ends.callback(ray.shutdown)
            if not actors:
                actors.append(_Actors(with_room(settings, threads), load, threads))
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


def _none_left(pieces: Pieces[Any], error: RayError) -> PipelineError:
    return PipelineError(
        f"{pieces.what}: {AGAIN + 1} actors in a row were lost before they could begin: {str(error).strip()}",
        expected="an actor that loads the model, on a node that sees its folders",
        remedy="look whether its memory is enough (fewer actors), and whether every node sees this folder",
    )


def _named(pieces: Pieces[Any], some: list[int]) -> str:
    shown = ", ".join(pieces.holds(piece) for piece in some[:NAMED])
    return shown if len(some) <= NAMED else f"{shown} and {len(some) - NAMED} more"
