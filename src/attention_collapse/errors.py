"""What can go wrong, said in three parts: what was got, what was expected, what to do."""

from __future__ import annotations

from functools import partial
from typing import Any


class AttentionCollapseError(Exception):
    """Base of every error a user can cause or mend; the command line prints it without a traceback.

    Parameters
    ----------
    got
        What was found, with the value and the place.
    expected
        What would have been right.
    remedy
        What the reader can do now.
    """

    def __init__(self, got: str, *, expected: str, remedy: str) -> None:
        self.got, self.expected, self.remedy = got, expected, remedy
        super().__init__(f"{got}\n  expected: {expected}\n  what to do: {remedy}")

    def __reduce__(self) -> tuple[Any, ...]:
        """For the way from one process to another."""
        return partial(type(self), expected=self.expected, remedy=self.remedy), (self.got,)


class ParamsError(AttentionCollapseError):
    """`params.yaml` or a command-line argument."""


class DataError(AttentionCollapseError):
    """Annotations, images, manifests, tables."""


class DownloadError(AttentionCollapseError):
    """A file that could not be fetched, or that is not the pinned one."""


class ModelError(AttentionCollapseError):
    """A model, its checkpoint or its tokenizer."""


class ProbeError(AttentionCollapseError):
    """Attention that could not be seen, or is not a distribution."""


class UnwrittenError(AttentionCollapseError):
    """What was computed could not be written; it is not lost.

    Attributes
    ----------
    result
        What was computed.
    """

    def __init__(self, got: str, *, expected: str, remedy: str, result: Any = None) -> None:
        self.result = result
        super().__init__(got, expected=expected, remedy=remedy)


class PipelineError(AttentionCollapseError):
    """Files of the pipeline that do not belong together."""
