"""Standard output as it may be: closed by its reader, full, or in an encoding that lacks the signs that are printed."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PLAIN = {
    "−": "-", "–": "-", "→": "->", "…": "...", "×": "x", "·": "*", "≤": "<=", "≥": ">=", "±": "+-", "φ": "phi",
    "“": '"', "”": '"', "’": "'", "\N{NO-BREAK SPACE}": " ",
}  # fmt: skip
PLAINLY = "attention_collapse.plainly"


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """For the signs that the encoding lacks: the nearest ASCII, or an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(
        PLAIN.get(sign) or sign.encode("ascii", "backslashreplace").decode("ascii") for sign in lacking
    ), error.end


@contextmanager
def readable_streams() -> Iterator[None]:
    """Print any text in any encoding, and flush standard output at the end, where a failure can still be told.

    Raises
    ------
    BrokenPipeError
        Whoever read standard output has closed it.
    OSError
        It cannot be written, say because a disk is full.
    """
    codecs.register_error(PLAINLY, _plainly)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed when the program started; libraries write to it nonetheless
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 — open to the end
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=PLAINLY)
    try:
        yield
    finally:
        _flush()


def _flush() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        _abandon()
        raise


def _abandon() -> None:
    """Send what is left in the buffer to nowhere, or the interpreter fails again when it ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
