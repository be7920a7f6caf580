"""Evidence: which line of which file of which run a printed number comes from.

A number is printed by one call that names its source, its key and its form, and is a citation by that call:

    source = Evidence.read(study.root, study.statistics, "embedded")      # name: what its macros begin with
    source.md("models.openclip-scenes.mcs.mean", 3)                       # Markdown, in a text for markdown.page
    latex.value(source, "models.openclip-scenes.mcs.mean", 3)             # LaTeX, in a table's cell
    latex.macros(source)                                                  # LaTeX, every number of the file as a macro

A file and its run stand once in a generated text, whatever number of citations it has: `\acfile` in LaTeX, the list
"Sources" at the end of a report.

A form says how a value is printed, so that `attention-collapse evidence check` can print it again:

    3           three decimals, or any other number of them; an integer is whole
    "percent1"  100 times the value, one decimal
    "rest1"     100 times one minus the value, one decimal: the text's share, where the file holds the image's
    "p"         a p-value: three decimals, or <0.001
    "log10p"    a p-value given by its decimal logarithm: three decimals, or the next power of ten above it
    "text"      text as it is, a truth value as yes or no

Undefined numbers are a dash in every form.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from attention_collapse.errors import DataError
from attention_collapse.files import read_json
from attention_collapse.identity.environment import KEY as ENVIRONMENT

Scalar = str | int | float | bool | None
DASH = "--"
MARKS = '"|{}\\%#~^$`\n'  # would end a macro or a link before its end


@dataclass(frozen=True)
class Citation:
    """One scalar of one metrics file; as text `file#run#line`, with the file's path below the repository's root."""

    file: str
    run: str
    line: int
    key: str
    value: Scalar

    def __str__(self) -> str:
        return f"{self.file}#{self.run}#{self.line}"


@dataclass(frozen=True)
class Evidence:
    """A metrics file whose scalars can be cited.

    Attributes
    ----------
    file
        Path below the repository's root.
    name
        What the names of its LaTeX macros begin with.
    run
        The file's evidence_id.
    data
        The file's content.
    scalars
        "a.b.c" -> citation of every scalar, in the file's order; an item of a list is named by its index. What the
        result was computed with (`environment`) is no result and cannot be cited.
    """

    file: str
    name: str
    run: str
    data: Mapping[str, Any]
    scalars: Mapping[str, Citation]

    @classmethod
    def read(cls, root: Path, file: Path | str, name: str = "") -> Evidence:
        """Read a file that `write_json` wrote.

        Parameters
        ----------
        root
            The repository's root.
        file
            Path of the file, absolute or relative to `root`.
        name
            What the names of its LaTeX macros shall begin with; reports need none.

        Raises
        ------
        DataError
            The file is absent, not one scalar a line, names no run, or has two scalars of one name.
        """
        path = root / file
        shown, data = path.relative_to(root).as_posix(), read_json(path)
        # Lines are counted along the content, which is right if the text is the content's one-scalar-a-line form.
        if not isinstance(data, dict) or json.dumps(data, indent=1, ensure_ascii=False) + "\n" != path.read_text(
            "utf-8"
        ):
            raise DataError(
                f"{shown}: not an object with one scalar per line",
                expected="a file written by the pipeline, unedited",
                remedy="restore it, or run `dvc repro`",
            )
        run = data.get("evidence_id")
        if not isinstance(run, str):
            raise DataError(
                f"{shown}: no evidence_id",
                expected="a metrics file, which has one",
                remedy="cite a file that a stage wrote",
            )
        scalars: dict[str, Citation] = {}
        for key, line, value in _lines(data):
            if key.split(".")[0] == ENVIRONMENT:
                continue
            if key in scalars:
                raise DataError(
                    f"{shown}: two scalars are named {key}", expected="a name for each", remedy="rename a key"
                )
            scalars[key] = Citation(shown, run, line, key, value)
        return cls(shown, name, run, data, scalars)

    @cached_property
    def by_line(self) -> Mapping[int, Citation]:
        """Line -> the scalar on it."""
        return {found.line: found for found in self.scalars.values()}

    def __contains__(self, key: str) -> bool:
        return key in self.scalars

    def cite(self, key: str) -> Citation:
        """The citation of one scalar; DataError if there is none of that name, or if it cannot stand in a link."""
        if key not in self.scalars:
            raise DataError(f"{self.file} has no scalar {key!r}", expected="one of its keys", remedy="correct the key")
        if set(key) & set(MARKS):
            raise DataError(f"{self.file}: {key!r} cannot be cited", expected=f"none of {MARKS!r}", remedy="rename it")
        return self.scalars[key]

    def md(self, key: str, form: int | str = 3) -> str:
        """A number as `[0.740](file#run#line "form key")`, which `markdown.page` makes a link to its line."""
        found = self.cite(key)
        return f'[{markdown(found.value, printed(found.value, form))}]({found} "{form} {key}")'

    def md_run(self) -> str:
        """The file's path as `[file](file#run)`, which `markdown.page` makes a link to the file's run."""
        return f"[{self.file}]({self.file}#{self.run})"


def label(file: str, key: str, form: int | str) -> str:
    """The label of a number in a report, "mcs.mean-3f2a9c": the end of its key, and six digits of what it cites.

    It depends on nothing else of the report, so that one number more or less leaves the others' labels as they are; it
    is in lower case, for in Markdown labels that differ in case alone are the same.
    """
    words = re.sub(r"[^a-z0-9_.]+", "-", ".".join(key.split(".")[-2:]).lower())
    return f"{words}-{hashlib.sha256(f'{file}#{key}#{form}'.encode()).hexdigest()[:6]}"


def _lines(data: Any, prefix: str = "", line: int = 1) -> Generator[tuple[str, int, Scalar], None, int]:
    """(key, line, value) of every scalar of a container that opens at `line`; returns the line on which it closes."""
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        line += 1
        if not isinstance(value, dict | list):
            yield f"{prefix}{key}", line, value
        elif value:  # an empty container closes on its own line
            line = yield from _lines(value, f"{prefix}{key}.", line)
    return line + 1


def _fixed(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text


def printed(value: Scalar, form: int | str) -> str:
    """A value for print, in plain signs: 0.740, -1.5, 90.2 %, <0.001, <10^-137, yes; undefined as `--`.

    Raises
    ------
    DataError
        The form is none of those above, or does not suit the value.
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return DASH
    match = re.fullmatch(r"(percent|rest)?([0-9])|p|log10p|text", str(form))
    if not match or isinstance(value, bool | str) != (form == "text"):
        raise DataError(
            f"{value!r} in the form {form!r}", expected="a form of report/evidence.py", remedy="correct the form"
        )
    if isinstance(value, bool | str):
        return value if isinstance(value, str) else "yes" if value else "no"
    if form == "log10p":
        return _fixed(10**value, 3) if value >= -3 else f"<10^{max(math.ceil(value), -300)}"
    if form == "p":
        return "<0.001" if value < 0.001 else _fixed(value, 3)
    if match[1]:
        return f"{_fixed(100 * (value if match[1] == 'percent' else 1 - value), int(match[2]))} %"
    return f"{value}" if isinstance(value, int) else _fixed(value, int(match[2]))


def markdown(value: Scalar, plain: str) -> str:
    """What `printed` gave for a value, as Markdown."""
    if isinstance(value, str):
        return re.sub(r"([\\\[\]|*`<])", r"\\\1", plain)
    if plain == DASH:
        return "–"
    return plain.replace("<10^", "<1e").replace("<", r"\<").replace("-", "−")
