"""Numbers settle: a recomputed result that agrees with the standing file leaves the standing bytes.

So another processor's last digits change no file, and nothing downstream runs again. A result that differs beyond the
tolerance anywhere, in a key or in anything but a number, replaces the file whole.

`attention-collapse verify` runs the stages in a copy without results and names the committed ones by `STANDING`; every
comparison is then written to the file that `LOG` names.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from attention_collapse.files import csv_text, json_text, write_text
from attention_collapse.identity.environment import KEY, environment
from attention_collapse.identity.tolerance import RTOL, TABLE_RTOL, within

STANDING = "ATTENTION_COLLAPSE_STANDING"
LOG = "ATTENTION_COLLAPSE_SETTLE_LOG"
SLACK = "_slack"  # ends the name of a column that says how far rounding of the scores may move another
Scalar = str | int | float | bool | None
ABSENT = "absent"


@dataclass(frozen=True)
class Value:
    """One scalar of a file as it stands and as it was recomputed; `scale` and `slack` as of `tolerance.within`."""

    key: str
    old: Scalar
    new: Scalar
    rtol: float = RTOL
    scale: float = 0.0
    slack: float = 0.0

    @property
    def agrees(self) -> bool:
        """Floats within the tolerance, all else exactly."""
        if is_number(self.old) and is_number(self.new) and float in (type(self.old), type(self.new)):
            old, new = float(self.old), float(self.new)  # type: ignore[arg-type]
            return within(old, new, rtol=self.rtol, scale=self.scale, slack=self.slack)
        return type(self.old) is type(self.new) and self.old == self.new

    @property
    def relative(self) -> float:
        """The difference in units of the value or its scale, 0 and more; 0 where it is no difference of numbers."""
        if not (is_number(self.old) and is_number(self.new)):
            return 0.0
        size = max(abs(float(self.old)), self.scale)  # type: ignore[arg-type]
        return abs(float(self.new) - float(self.old)) / size if size else 0.0  # type: ignore[arg-type]


def is_number(value: Any) -> bool:
    """Whether it is an int or a float, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def scalars(value: Any, key: str = "") -> Iterator[tuple[str, Scalar]]:
    """("a.b[0]", value) of every scalar of parsed JSON; what a result was computed with (`environment`) is left out."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if key or name != KEY:
                yield from scalars(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from scalars(item, f"{key}[{index}]")
    else:
        yield key, value


def json_values(old: str, new: str) -> list[Value]:
    """Every scalar of two JSON texts; what one of them lacks is `ABSENT` there."""
    one, two = (dict(scalars(json.loads(text))) for text in (old, new))
    return [Value(key, one.get(key, ABSENT), two.get(key, ABSENT)) for key in sorted(one.keys() | two.keys())]


def _cell(text: str) -> Scalar:
    """A CSV cell: an int, a float, or the text itself."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def csv_values(old: str, new: str, slack: Mapping[str, Sequence[float]] | None = None) -> list[Value]:
    """Every cell of two CSV texts with one head; of tables of other shapes, the shapes alone.

    `slack`: column -> how far each value may move besides, as of `tolerance.within`.
    """
    (head, *rows), (other, *others) = (list(csv.reader(text.splitlines())) or [[]] for text in (old, new))
    if head != other or len(rows) != len(others):
        one, two = (f"{len(table)} rows of {','.join(names)}" for names, table in ((head, rows), (other, others)))
        return [Value("shape", one, two)]
    found: list[Value] = []
    for name, *cells in zip(head, *(zip(*pair, strict=True) for pair in zip(rows, others, strict=True)), strict=True):
        values = [(_cell(one), _cell(two)) for one, two in cells]
        scale = max((abs(float(one)) for one, _ in values if is_number(one)), default=0.0)  # type: ignore[arg-type]
        free = (slack or {}).get(name, [0.0] * len(values))
        found += [
            Value(f"{name}[{index}]", one, two, TABLE_RTOL, scale, float(free[index]))
            for index, (one, two) in enumerate(values)
        ]
    return found


def _standing(path: Path) -> str | None:
    """The standing file's text with the line ends of the pipeline; None if there is none to compare with."""
    root = os.environ.get(STANDING)
    try:
        return ((Path(root) / path) if root else path).read_bytes().decode("utf-8").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError):
        return None


def _settle(path: Path, text: str, values: Callable[[str, str], list[Value]]) -> bool:
    standing, found = _standing(path), list[Value]()
    if standing is not None:
        try:
            found = values(standing, text)
        except (json.JSONDecodeError, csv.Error):
            standing = None
    agrees = standing is not None and all(value.agrees for value in found)
    _log(path, found)
    if not agrees or not path.is_file():
        write_text(path, standing if agrees and standing is not None else text)
    return not agrees


def _log(path: Path, found: list[Value]) -> None:
    if file := os.environ.get(LOG):
        close = [value for value in found if value.agrees and not replace(value, slack=0.0).agrees]
        largest = max((value for value in found if not value.slack), key=lambda value: value.relative, default=None)
        entry = {
            "file": path.as_posix(),
            "values": len(found),
            "largest": asdict(largest) if largest else None,
            "too_close_to_call": [value.key for value in close],
        }
        with Path(file).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")


def settle_json(path: Path, value: Mapping[str, Any], device: str | None = None) -> bool:
    """Write a result as JSON unless the standing file agrees; whether it was replaced.

    What it was computed with is added under `environment`; `device` is where a model ran.
    """
    return _settle(path, json_text({**value, KEY: environment(device)}), json_values)


def with_slack(values: pd.DataFrame, slack: Mapping[str, Any]) -> pd.DataFrame:
    """The table with the columns `<column>_slack` that `settle_frame` heeds; `slack`: column -> (row,), 0 and more."""
    return values.assign(**{f"{name}{SLACK}": found for name, found in slack.items()})


def settle_frame(path: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """Write a table as CSV unless the standing file agrees; the table as it stands, to go on with.

    Whatever is computed from the table returned is the same on every machine on which the file is.

    Parameters
    ----------
    frame
        A column named `<column>_slack` is not written: it says how far rounding of the scores may move each value of
        that column beyond the tolerance, because a comparison is too close to call or a share is one of small values.
    """
    slack = {str(name).removesuffix(SLACK): frame[name].tolist() for name in frame if str(name).endswith(SLACK)}
    kept = frame.drop(columns=[f"{name}{SLACK}" for name in slack])
    text = csv_text(list(kept.columns), kept.to_numpy(object).tolist())
    _settle(path, text, lambda old, new: csv_values(old, new, slack))
    standing = pd.read_csv(path)
    return standing if len(standing) else kept
