"""Several processes side by side, for models too small to keep a processor busy alone."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


class _NoTerminal(io.TextIOWrapper):
    """The standard error of processes that run at the same time, whose progress bars would overwrite each other."""

    def isatty(self) -> bool:
        """No: so `tqdm` draws no bar."""
        return False


def _quiet() -> None:
    sys.stderr = _NoTerminal(sys.stderr.buffer, write_through=True)


def side_by_side(function: Callable[[Task], Result], tasks: Sequence[Task], workers: int) -> Iterator[Result]:
    """Each task's result, in the order of the tasks; a task is started as soon as one of the processes is free.

    Parameters
    ----------
    function
        Of a module, so that a fresh process can import it.
    workers
        Processes; with 1 the work is done in this one.
    """
    if workers == 1:
        yield from map(function, tasks)
        return
    # A fresh process each: a forked one would inherit torch's threads.
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_quiet) as pool:
        yield from pool.map(function, tasks)
