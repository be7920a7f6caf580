"""A measure's mean over images with its interval, for a person and for a program; and results as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from attention_collapse.explain import unwritten
from attention_collapse.files import write_json
from attention_collapse.report.digits import fixed
from attention_collapse.stats.few_images import too_few

LISTED = 10  # skipped items that are printed


def without_nan(value: Any) -> Any:
    """The value with None for every number that is not finite, also within mappings and lists.

    Examples
    --------
    >>> without_nan({"mean": float("nan"), "values": (1.5, float("inf"))})
    {'mean': None, 'values': [1.5, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Result(Protocol):
    """What can be written as JSON."""

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""


def save_json(result: Result, file: Path | None) -> list[Path]:
    """Write a result, if a file is given; UnwrittenError, whose `result` it is, if that cannot be.

    Examples
    --------
    >>> import tempfile

    >>> from types import SimpleNamespace
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [file] = save_json(SimpleNamespace(to_dict=lambda: {"mean": 0.5}), Path(folder, "result.json"))
    ...     "".join(file.read_text().split())
    '{"mean":0.5}'
    """
    if file is None:
        return []
    try:
        write_json(file, result.to_dict())
    except OSError as error:
        raise unwritten(result, error) from error
    return [file]


@dataclass(frozen=True)
class Estimate:
    """A measure's mean over images.

    Attributes
    ----------
    mean, sd, ci_low, ci_high
        Values in the measure's unit; None where they are undefined, and `reason` says why.
    interval
        (ci_low, ci_high), or None.
    n, n_undefined
        Images with a value, and without one.
    confidence
        The confidence of the interval, 0 to 1.

    Examples
    --------
    >>> found = Estimate("mcs", 0.5, 0.1, ci_low=0.4, ci_high=0.6, n=100, n_undefined=0, confidence=0.95)
    >>> found.interval, str(found)
    ((0.4, 0.6), '0.5000   95% CI [0.4000, 0.6000]')
    """

    name: str
    mean: float | None
    sd: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    n_undefined: int
    confidence: float
    reason: str = ""

    @classmethod
    def of(cls, name: str, summary: Mapping[str, Any], confidence: float, reason: str = "") -> Estimate:
        """From a summary of `stats.one_sample.describe`."""
        found = without_nan({key: summary[key] for key in ("mean", "sd", "ci_low", "ci_high", "n", "n_undefined")})
        reason = str(summary.get("reason", reason))
        if found["n"] and (few := too_few(found["n"])):
            found, reason = found | {"ci_low": None, "ci_high": None}, few
        return cls(name, confidence=confidence, reason=reason, **found)

    @property
    def interval(self) -> tuple[float, float] | None:
        """(low, high), or None."""
        return None if self.ci_low is None or self.ci_high is None else (self.ci_low, self.ci_high)

    def __str__(self) -> str:
        if self.mean is None:
            return f"not defined: {self.reason or 'no image has it'}"
        return self.numbers if self.interval else f"{self.numbers}   no interval: {self.reason}"

    @property
    def numbers(self) -> str:
        """The mean and its interval, as far as they are there, without a reason."""
        if self.mean is None:
            return "not defined"
        if self.interval is None:
            return fixed(self.mean)
        low, high = map(fixed, self.interval)
        return f"{fixed(self.mean)}   {self.confidence:.0%} CI [{low}, {high}]"
