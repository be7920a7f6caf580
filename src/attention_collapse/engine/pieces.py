"""The work of one step cut into pieces, each a few items of one model: kept in memory, or as files of a folder.

A piece is the same whoever makes it. So one process, one that goes on after it was interrupted, and the actors of a
cluster give the same numbers; what is made of the pieces is made after them, by one process.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

import pyarrow as pa
from safetensors import SafetensorError

from attention_collapse.engine.parts import open_parts
from attention_collapse.errors import DataError, PipelineError
from attention_collapse.models.interface import Model
from attention_collapse.progress import note, steps

Made = TypeVar("Made")


@dataclass(frozen=True)
class Round:
    """Pieces that need none of each other, but may need those of earlier rounds; `what` tells of the progress."""

    what: str
    pieces: range


class Pieces(ABC, Generic[Made]):
    """The pieces of one step.

    Parameters
    ----------
    rounds
        Every piece once, by number.
    unit
        What a piece is, for people: "batch" or "image".
    folder
        Where the pieces are kept, one file each, whole or absent; None keeps them in memory.
    identity
        What decides what is in the pieces; those of another identity are removed from the folder.
    """

    def __init__(self, rounds: tuple[Round, ...], unit: str, folder: Path | None, identity: str) -> None:
        self.rounds, self.unit, self.folder = rounds, unit, folder
        self._made: dict[int, Made] = {}
        if folder is not None:
            open_parts(folder, f"{identity}\n")

    @abstractmethod
    def making(self, model: Model) -> AbstractContextManager[Callable[[int], Made]]:
        """A context that gives what makes one piece with the model; it may be entered anew for every piece."""

    @abstractmethod
    def name(self, piece: int) -> str:
        """Name of the piece's file."""

    @abstractmethod
    def write(self, file: Path, made: Made) -> None:
        """Write one piece whole."""

    @abstractmethod
    def read(self, file: Path) -> Made:
        """Read what `write` wrote."""

    @property
    def what(self) -> str:
        """The step, for people."""
        return self.rounds[-1].what

    def holds(self, piece: int) -> str:
        """What is in a piece, for people."""
        return f"{self.unit} {piece}"

    def missing(self, some: Round) -> list[int]:
        """Those of a round that are not there yet."""
        return [piece for piece in some.pieces if not self._is_there(piece)]

    def keep(self, piece: int, made: Made) -> None:
        """Keep a piece that was made; PipelineError if there is no room for it."""
        if self.folder is None:
            self._made[piece] = made
            return
        file = self.folder / self.name(piece)
        try:
            self.write(file, made)
        except OSError as error:
            raise PipelineError(
                f"{file}: cannot be written ({error.strerror or error})",
                expected="room for what was computed",
                remedy="make room, then run it again: what is there is not made again",
            ) from None

    def made(self, piece: int, make: Callable[[int], Made]) -> Made:
        """A piece, made now if it is not there yet."""
        if not self._is_there(piece):
            self.keep(piece, make(piece))
        return self[piece]

    def __getitem__(self, piece: int) -> Made:
        if self.folder is None:
            return self._made[piece]
        file = self.folder / self.name(piece)
        try:
            return self.read(file)
        except (SafetensorError, pa.ArrowException, KeyError, ValueError, DataError) as error:
            raise DataError(
                f"{file}: cannot be read ({type(error).__name__})",
                expected="the piece that an earlier run wrote there, whole",
                remedy="delete the file, and the next run makes it anew; look whether the disk is sound",
            ) from None

    def _is_there(self, piece: int) -> bool:
        return piece in self._made if self.folder is None else (self.folder / self.name(piece)).is_file()


Runner: TypeAlias = Callable[[Pieces[Any], Model], None]  # makes those that are missing


def here(pieces: Pieces[Any], model: Model) -> None:
    """Make what is missing in this process, one piece after the other."""
    for some in pieces.rounds:
        missing = set(pieces.missing(some))
        if not missing:
            continue
        if kept := len(some.pieces) - len(missing):
            note(
                f"{some.what}: {kept} of {len(some.pieces)} are there from an earlier run, {len(missing)} are made now"
            )
        with pieces.making(model) as make:
            for piece in steps(some.pieces, some.what, pieces.unit):
                if piece in missing:
                    pieces.keep(piece, make(piece))
