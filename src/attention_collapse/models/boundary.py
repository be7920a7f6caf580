"""What another program's code raises (a library, a processor, a user's function), as an error in three parts."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from attention_collapse.errors import AttentionCollapseError, ModelError

LONGEST = 200  # characters of a message that is passed on; libraries append whole lists of backends
PREPARES, RUNS = ("images", "texts", "pairs"), ("embed", "score")
MEMORY = ("out of memory", "enough memory")
DEVICES = ("same device", "on the expected device", "and weight type")  # words of PyTorch's complaint


def first_sentence(error: BaseException) -> str:
    """The first sentence of an error's message, of `LONGEST` characters at most; its class where it says nothing.

    The class leads where the message is a bare key or number.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = " ".join(lines[:2] if lines and lines[0].endswith(":") else lines[:1])  # after a colon the rest is the point
    text = re.split(r"(?<=[^.A-Z\d])\. (?=[A-Z])", said)[0].rstrip(". ")
    if len(text) > LONGEST:
        text = f"{text[:LONGEST].rstrip()} …"
    wordy = " " in text and not isinstance(error, KeyError)
    return text if wordy else f"{type(error).__name__}{f': {text}' if text else ''}"


@contextmanager
def boundary(what: str, *, expected: str, remedy: str) -> Iterator[None]:
    """Raise what is raised within as a ModelError: `what`, and the first sentence of the reason.

    An error in three parts passes as it is. The cause stays attached, for whoever debugs it from Python.
    """
    try:
        yield
    except AttentionCollapseError:
        raise
    except Exception as error:  # whatever another program's code may raise
        raise ModelError(f"{what} ({first_sentence(error)})", expected=expected, remedy=remedy) from error


@contextmanager
def _running(name: str) -> Iterator[None]:
    """The same for a forward pass, whose commonest failures have remedies of their own."""
    try:
        with boundary(
            f"{name}: the forward pass fails",
            expected="a model that takes what its processor prepares",
            remedy="check that configuration, processor and weights are of one checkpoint",
        ):
            yield
    except ModelError as error:
        cause = error.__cause__
        if isinstance(cause, RuntimeError) and any(words in str(cause) for words in DEVICES):
            raise ModelError(
                f"{name}: weights and inputs lie on different devices, or are of different dtypes "
                f"({first_sentence(cause)})",
                expected="all of the model and its inputs on one device, or placed by `device: auto`",
                remedy="move the model whole before it is used",
            ) from cause
        if cause and (isinstance(cause, MemoryError) or any(words in str(cause) for words in MEMORY)):
            raise ModelError(
                f"{name}: not enough memory for the forward pass ({first_sentence(cause)})",
                expected="memory for the model and one batch",
                remedy="use a smaller batch size, a smaller dtype, or `device: auto`",
            ) from cause
        raise


def _guarded(method: Callable[..., Any], around: Callable[[Any], Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        with around(self):
            return method(self, *args, **kwargs)

    return guarded


def _preparing(model: Any) -> Any:
    return boundary(
        f"{model.name}: the processor cannot prepare the pictures and captions",
        expected="pictures and captions that it takes",
        remedy="check the processor's files beside config.json, and leave out what it cannot take",
    )


def guard(cls: type) -> None:
    """Put the boundary around the methods of a kind's class that run the code of others."""
    for names, around in ((PREPARES, _preparing), (RUNS, lambda model: _running(model.name))):
        for name in names:
            if callable(method := vars(cls).get(name)):
                setattr(cls, name, _guarded(method, around))
