"""What the actors of Ray are doing in one step."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any, TypeAlias

import ray
from ray.exceptions import RayError

from attention_collapse.engine.pieces import Pieces
from attention_collapse.engine.ray_cluster import places_of, taken_by
from attention_collapse.errors import PipelineError
from attention_collapse.params import Engine
from attention_collapse.progress import note

AGAIN = 3  # times that another actor tries what an actor was lost over
QUIET = 60.0  # seconds without news, after which Ray may have no room for an actor
Told: TypeAlias = dict[str, str]  # kind, got, expected and remedy of an error; empty if all went well


class Step:
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
            if not places_of(settings, threads):
                raise PipelineError(
                    f"{said}, and no node of Ray has {taken_by(settings, threads)}",
                    expected="a node with room for an actor",
                    remedy="look whether a node was lost, or ask for less (engine.gpus, fewer threads)",
                )
            note(f"{said} (Ray's room may be taken); waiting")
        return done


def outcome(awaited: Any) -> Told | RayError:
    """What an actor told, or that it is lost: its process, or its node."""
    try:
        told: Told = ray.get(awaited)
    except RayError as error:
        return error
    return told
