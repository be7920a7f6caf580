"""What the checks of LaTeX and of Markdown share: words that are numbers, failures, and the lines of metrics files."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from attention_collapse.errors import DataError
from attention_collapse.report.evidence import Citation, Evidence, markdown, printed
from attention_collapse.report.latex import tex

WORD = re.compile(r"[0-9A-Za-z_.+/@'-]*[0-9][0-9A-Za-z_.+/@'-]*")


@dataclass(frozen=True)
class Failure:
    """One thing that is wrong, at a line of a file; line 0 is the whole of it."""

    file: str
    line: int
    got: str
    expected: str
    remedy: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.got}\n  expected: {self.expected}\n  what to do: {self.remedy}"


def blank(text: str, *patterns: str | re.Pattern[str]) -> str:
    """`text` without every match; its lines stay."""
    for pattern in patterns:
        text = re.sub(pattern, lambda match: " " + "\n" * match[0].count("\n"), text)
    return text


@lru_cache(maxsize=4)
def _line_ends(text: str) -> list[int]:
    return [match.start() for match in re.finditer("\n", text)]


def line_at(text: str, position: int) -> int:
    """The line, from 1, of a position in a text."""
    return bisect_left(_line_ends(text), position) + 1


def typed_numbers(text: str) -> Iterator[tuple[int, str]]:
    """(line, word) of every word that begins with a digit."""
    text = text.replace("--", "  ")
    for match in WORD.finditer(text):
        word = match[0].strip(".+/@'_-")
        if word[0].isdigit():
            yield line_at(text, match.start()), word


@dataclass
class Findings:
    """What was found in one working tree.

    Attributes
    ----------
    root
        The repository's root.
    failures
        What is wrong, in the order found.
    citations, files
        How many citations were looked at, in how many files.
    """

    root: Path
    failures: list[Failure] = field(default_factory=list)
    citations: int = 0
    files: int = 0
    _read: dict[str, Evidence | DataError] = field(default_factory=dict)

    def at(self, path: Path, line: int = 0) -> Place:
        """A line of a file, to look at what is cited there."""
        return Place(self, path.relative_to(self.root).as_posix(), line)

    def text(self, path: Path) -> str:
        """A file that is checked, as text; a failure and "" if it is not UTF-8."""
        try:
            return path.read_text("utf-8")
        except UnicodeDecodeError as error:
            self.at(path).fail(f"not UTF-8 ({error})", "text in UTF-8", "restore the file, or save it as UTF-8")
            return ""

    def read(self, cited: str) -> Evidence | DataError:
        """A metrics file, read once; the error, if it cannot be cited."""
        if cited not in self._read:
            try:
                self._read[cited] = Evidence.read(self.root, cited)
            except DataError as error:
                self._read[cited] = error
        return self._read[cited]


@dataclass(frozen=True)
class Place:
    """A line of a file that is checked; what is wrong there goes to the findings."""

    findings: Findings
    file: str
    line: int

    def fail(self, got: str, expected: str, remedy: str = "run `dvc repro`") -> None:
        """One failure more."""
        self.findings.failures.append(Failure(self.file, self.line, got, expected, remedy))

    def source(self, cited: str, run: str) -> Evidence | None:
        """The metrics file that the line names with its run; None after a failure."""
        found = self.findings.read(cited)
        if isinstance(found, Evidence) and found.run == run:
            return found
        if isinstance(found, Evidence):
            self.fail(f"run {run} of {cited}", f"its evidence_id, {found.run}")
        else:
            self.fail(found.got, found.expected, found.remedy)
        return None

    def scalar(self, source: Evidence, number: str, key: str) -> Citation | None:
        """The scalar on line `number` of a source, if it is `key`; None after a failure."""
        found = source.by_line.get(int(number) if number.isdecimal() else 0)
        if found is not None and found.key == key:
            return found
        if found is None:
            self.fail(f"line {number} of {source.file} holds no scalar", "the number's line")
        else:
            self.fail(f"{key} cites {found}, which is {found.key}", f"the line of {key}")
        return None

    def printed(self, found: Citation, form: str, text: str, *, markup: str) -> None:
        """Is `text` the value in this form, in LaTeX ("tex") or in Markdown ("md")?"""
        try:
            plain = printed(found.value, form)
        except DataError as error:
            self.fail(error.got, error.expected, error.remedy)
            return
        right = tex(found.value, plain) if markup == "tex" else markdown(found.value, plain)
        if text != right:
            self.fail(f"printed {text}", f"{right}, for {found.key} is {found.value} ({found})")
