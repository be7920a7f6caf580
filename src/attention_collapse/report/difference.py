"""The difference of metrics between two revisions as Markdown: DVC's JSON in, text for a pull request out."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from typing import Any

from attention_collapse.files import SIGNIFICANT_DIGITS
from attention_collapse.identity.environment import KEY as ENVIRONMENT
from attention_collapse.identity.tolerance import within

LIMIT = 150  # rows, shared equally by the files: a comment on GitHub holds 65,536 characters
ROWS_PER_FILE = 3  # at least
CHANGE_DIGITS = 3
COUNTED = ("changed", "newly defined", "no longer defined", "within the tolerance")
NOTE = (
    "Change = new − old. *undefined*: null, or not there (DVC does not tell these apart, and compares no lists). "
    "Values are rounded to the last digit of the change, with three to six significant digits."
)
# A model's own files, and its part of a file about all models. Model names hold no dot.
MODEL_FILE = re.compile(r"metrics/(?P<study>[^/]+)/(?:mcs|contribution)/(?P<model>[^/]+)\.json")
STUDY_FILE = re.compile(r"metrics/(?P<study>[^/]+)/[^/]+\.json")
MODEL_KEY = re.compile(r"models\.(?P<model>[^.]+)\.")


@dataclass(frozen=True)
class Value:
    """One scalar of a metrics file in both revisions; None where it is undefined."""

    file: str
    key: str
    old: Any
    new: Any
    near: bool = False  # two numbers within the tolerance of each other

    @property
    def differs(self) -> bool:
        """Whether the revisions differ by more than what files hold, six significant digits."""
        if _is_number(self.old) and _is_number(self.new):
            return _held(self.old) != _held(self.new)
        return type(self.old) is not type(self.new) or bool(self.old != self.new)

    @property
    def changed(self) -> bool:
        """Whether the revisions differ by more than the tolerance."""
        return self.differs and not self.near

    @property
    def rounding(self) -> bool:
        """Whether the revisions differ, but within the tolerance."""
        return self.differs and self.near

    @property
    def owner(self) -> tuple[str, str] | None:
        """(study, model) if the value is one model's."""
        if match := MODEL_FILE.fullmatch(self.file):
            return match["study"], match["model"]
        study, model = STUDY_FILE.fullmatch(self.file), MODEL_KEY.match(self.key)
        return (study["study"], model["model"]) if study and model else None

    @property
    def is_evidence(self) -> bool:
        """Whether it is the content hash of a result, which is no result."""
        return self.key.split(".")[-1] == "evidence_id"

    @property
    def is_environment(self) -> bool:
        """Whether it says what the result was computed with, which is no result."""
        return self.key.split(".")[0] == ENVIRONMENT

    @property
    def is_decision(self) -> bool:
        """Whether it is one of the decisions of a study's decision.json."""
        return self.file.endswith("/decision.json") and self.key.split(".")[-1] == "decision"


def difference_text(
    metrics: Mapping[str, Mapping[str, Mapping[str, Any]]],
    old: str,
    new: str,
    *,
    limit: int | None = LIMIT,
    unread: Sequence[str] = (),
    rtol: float = 0.0,
    atol: float = 0.0,
) -> str:
    """Markdown of everything that differs between two revisions, the same text for the same metrics.

    Parameters
    ----------
    metrics
        What `dvc metrics diff --json --all` prints: file -> key -> {"old", "new"}.
    old, new
        Names of the revisions.
    limit
        Rows in all, shared equally by the files (at least 3 each); models and files that only one revision has are
        then named and counted, not listed. None lists everything.
    unread
        Files that DVC could not read, as "file in revision".
    rtol, atol
        The tolerance: where |new − old| ≤ atol + rtol · |old|, two numbers with a fraction differ by rounding. They are
        counted in one line, with the largest of them, and are no change. Whole numbers are counts, which do not round.
    """
    values = [_value(file, key, pair, rtol, atol) for file, keys in metrics.items() for key, pair in keys.items()]
    values = sorted((value for value in values if not (value.is_evidence or value.is_environment)), key=_order)
    evidence = _evidence(metrics, {value.file for value in values if value.changed})
    models = _one_sided((value.owner, value) for value in values)
    files = _one_sided((value.file, value) for value in values if value.owner not in models)
    changed = [value for value in values if value.changed]
    listed = [value for value in changed if not value.is_decision]
    if limit is not None:
        listed = [value for value in listed if value.owner not in models and value.file not in files]
    parts = [f"# Metrics: {_code(old)} → {_code(new)}", _counts(values)]
    parts += _rounding([value for value in values if value.rounding], rtol, atol)
    parts += [f"Could not be read, so not compared: {', '.join(map(_code, unread))}."] if unread else []
    parts += _named("Models", {f"{_code(model)} in {study}": found for (study, model), found in models.items()}, limit)
    parts += _named("Files", {_code(file): found for file, found in files.items()}, limit)
    parts += [evidence] if evidence else []
    parts += ["## Decision", *_decisions(values, old, new)]
    groups = [(file, list(rows)) for file, rows in groupby(listed, key=lambda value: value.file)]
    share = None if limit is None else max(ROWS_PER_FILE, limit // max(1, len(groups)))
    for file, rows in groups:
        parts += [f"## {_code(file)}", _table(rows[:share], old, new)]
        if share is not None and len(rows) > share:
            parts.append(f"… and {len(rows) - share} more (`--all` shows all)")
    return "\n\n".join([*parts, NOTE] if changed else parts) + "\n"


def _value(file: str, key: str, pair: Mapping[str, Any], rtol: float, atol: float) -> Value:
    old, new = _defined(pair.get("old")), _defined(pair.get("new"))
    near = isinstance(old, float) and isinstance(new, float) and within(old, new, rtol=rtol, atol=atol)
    return Value(file, key, old, new, near)


def cells(old: Any, new: Any) -> tuple[str, str, str]:
    """Old value, new value and change, rounded so that a change is never shown as none.

    The change has up to three significant digits. The values end at its last decimal place, but keep at least three
    significant digits and have at most the six that files hold. Whole numbers are not rounded.
    """
    if not (_is_number(old) and _is_number(new)):
        return _word(old), _word(new), ""
    if isinstance(old, int) and isinstance(new, int):
        return str(old), str(new), f"{new - old:+d}"
    before, after = _held(old), _held(new)
    exact = after - before
    change = exact.quantize(_place(max(exact.adjusted() - CHANGE_DIGITS + 1, int(exact.as_tuple().exponent))))
    last = int(change.as_tuple().exponent)
    return _to_place(before, last), _to_place(after, last), format(change, "+").replace("E", "e")


def _place(exponent: int) -> Decimal:
    return Decimal(1).scaleb(min(exponent, 0))


def _to_place(value: Decimal, last: int) -> str:
    """To the decimal place `last`, with three to six significant digits."""
    if not value:
        return "0"
    first = value.adjusted()
    place = max(min(last, first - CHANGE_DIGITS + 1), first - SIGNIFICANT_DIGITS + 1)
    return str(value.quantize(_place(place))).replace("E", "e")


def _held(value: float) -> Decimal:
    """The number as files hold it; an integer is held whole."""
    return Decimal(value) if isinstance(value, int) else Decimal(f"{value:.{SIGNIFICANT_DIGITS}g}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _defined(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _word(value: Any) -> str:
    if value is None:
        return "undefined"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(_held(value)).replace("E", "e")
    return " ".join(str(value).split()).replace("|", "\\|")


def _code(name: str) -> str:
    return f"`{name}`"


def _order(value: Value) -> tuple[str, list[tuple[bool, int, str]]]:
    """By file, then by key, layer 10 after layer 9."""
    parts = re.split(r"(\d+)", value.key)
    return value.file, [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _side(values: Iterable[Value]) -> str:
    """ "added" or "removed" if only one revision has any of the values, else nothing."""
    old, new = (
        any(side is not None for side in sides) for sides in zip(*((v.old, v.new) for v in values), strict=True)
    )
    return "added" if new and not old else "removed" if old and not new else ""


def _one_sided(owned: Iterable[tuple[Any, Value]]) -> dict[Any, list[Value]]:
    """Owner -> its values, of the owners that only one revision has."""
    groups: dict[Any, list[Value]] = {}
    for owner, value in owned:
        if owner is not None:
            groups.setdefault(owner, []).append(value)
    return {owner: values for owner, values in groups.items() if _side(values)}


def _named(what: str, found: Mapping[str, list[Value]], limit: int | None) -> list[str]:
    """A list of the owners that were added, and one of those that were removed."""
    hint = "" if limit is None else " and how many values (`--all` lists them)"
    parts = []
    for side in ("added", "removed"):
        names = [f"- {name} ({len(values)})" for name, values in sorted(found.items()) if _side(values) == side]
        parts += ["\n".join([f"{what} {side}{hint}:", "", *names])] if names else []
    return parts


def _counts(values: Sequence[Value]) -> str:
    if not values:
        return "Neither revision has metrics."
    kinds = Counter(
        "unchanged" if not value.differs
        else "within the tolerance" if value.near
        else "newly defined" if value.old is None
        else "no longer defined" if value.new is None
        else "changed"
        for value in values
    )  # fmt: skip
    counted = [f"{kinds[kind]:,} {kind}" for kind in COUNTED]
    return (
        f"Values: {', '.join(counted)}, {kinds['unchanged']:,} unchanged (to {SIGNIFICANT_DIGITS} significant digits)."
    )


def _rounding(values: Sequence[Value], rtol: float, atol: float) -> list[str]:
    """One line about the numbers that differ within the tolerance."""
    if not values:
        return []
    largest = max(values, key=lambda value: abs(value.new - value.old) / (atol + rtol * abs(value.old)))
    old, new, _ = cells(largest.old, largest.new)
    return [
        f"Within the tolerance, `|new − old| ≤ {atol:g} + {rtol:g} · |old|`, so not listed: {len(values):,} "
        f"number{'s' * (len(values) != 1)}; the largest by that measure is {_code(f'{largest.file}: {largest.key}')}, "
        f"{old} → {new}."
    ]


def _evidence(metrics: Mapping[str, Mapping[str, Mapping[str, Any]]], changed: set[str]) -> str:
    """One line about the content hashes of results (stage, parameters, inputs)."""
    hashes = {
        file: (pair.get("old"), pair.get("new"))
        for file, keys in metrics.items()
        for key, pair in keys.items()
        if Value(file, key, None, None).is_evidence
    }
    differing = sorted(file for file, (old, new) in hashes.items() if old != new)
    if not differing:
        return ""
    line = f"Evidence ids differ in {len(differing)} of {len(hashes)} files (other parameters or inputs)"
    same = [_code(file) for file in differing if file not in changed]
    return f"{line}; with no value changed: {', '.join(same)}." if same else f"{line}."


def _decisions(values: Sequence[Value], old: str, new: str) -> list[str]:
    """A table of the decisions that changed; those that stand are counted."""
    found = [value for value in values if value.is_decision]
    if not found:
        return ["Neither revision has a decision."]
    changed = [value for value in found if value.changed]
    standing = [value for value in found if not value.changed]
    parts = [_table(changed, old, new, with_file=True)] if changed else []
    headlines = [f"{_code(value.file)}: {_word(value.new)}" for value in standing if value.key == "decision"]
    parts += [f"Unchanged: {'; '.join(headlines)}."] if headlines else []
    others = len(standing) - len(headlines)
    return parts + ([f"Decisions by measure that stand: {others}."] if others else [])


def _table(rows: Sequence[Value], old: str, new: str, *, with_file: bool = False) -> str:
    lines = [f"| value | {_code(old)} | {_code(new)} | change |", "|---|--:|--:|--:|"]
    for row in rows:
        name = f"{row.file}: {row.key}" if with_file else row.key
        lines.append(f"| {' | '.join((_code(name), *cells(row.old, row.new)))} |")
    return "\n".join(lines)
