"""How far something is, on standard error: a bar at a terminal, now and then a line elsewhere, or nothing.

The bars are tqdm's, with its estimate of what is left. A program that runs under another, or into a log file, has no
line to redraw, and says nothing by itself; within `told` it prints whole lines.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
BETWEEN = 10.0  # seconds to the first line of a long step, and between two
LINE = "  {desc}: {n_fmt} of {total_fmt} {unit}, {elapsed} so far, about {remaining} left"
_told: ContextVar[bool | None] = ContextVar("told", default=None)  # None: bars alone, and these at a terminal alone


@contextmanager
def told(wanted: bool | None) -> Iterator[None]:
    """Within it, True prints lines where there is no terminal, False prints nothing, None bars at a terminal alone."""
    token = _told.set(wanted)
    try:
        yield
    finally:
        _told.reset(token)


class _Lines:
    """A stream that gets what tqdm would redraw, as lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """One line for each state of a bar."""
        if line := text.strip("\r\n").rstrip():
            _say(line, self._stream)

    def flush(self) -> None:
        """Done with each line."""


def _is_terminal() -> bool:
    return bool(getattr(sys.stderr, "isatty", lambda: False)())


def steps(items: Iterable[Item], what: str, unit: str, total: int | None = None) -> Iterable[Item]:
    """The items one by one, telling how many are done and when the rest will be."""
    options: dict[str, Any] = {"desc": what, "unit": unit, "total": total}
    if _told.get() is None or _is_terminal():
        return tqdm(items, disable=True if _told.get() is False else None, **options)
    if not _told.get():
        return items
    form = LINE.replace("{unit}", f"{unit}es" if unit.endswith("ch") else f"{unit}s")
    return tqdm(items, file=_Lines(sys.stderr), mininterval=BETWEEN, delay=BETWEEN, bar_format=form, **options)


def phase(what: str) -> None:
    """Say what begins, where lines or bars are wanted."""
    if _told.get():
        _say(what, sys.stderr)


def note(what: str) -> None:
    """Say what a reader must know, whether or not progress is told; not where nothing is to be said."""
    if _told.get() is not False:
        _say(what, sys.stderr)


def _say(line: str, stream: TextIO) -> None:
    """Print a line; work does not end because nobody reads how far it is."""
    with suppress(OSError, ValueError):  # full, closed by its reader, closed
        print(line, file=stream, flush=True)
