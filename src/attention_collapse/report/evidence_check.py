r"""Does every printed number resolve to its line, and is none typed by hand?

A number is a word that begins with a digit; a word that begins with a letter, such as ViT-B/32, CI95 or val2017, is a
name. A number may stand

- in `paper/generated/**/*.tex`, if it is a citation (`\acdef`, `\acval`);
- in `paper/` otherwise as `\ac{key}` or `\acval`, or as `\given{0.7}`: a definition or a threshold, no result; digits
  of LaTeX itself count for nothing: lengths, options, labels, cite keys, paths, single indices and exponents ($H_0$);
- in `reports/**/*.md` as a citation, or in a code span (`0.7`): a definition, no result.
"""

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

GROUP = r"\{((?:\\.|[^{}\\]|\{(?:\\.|[^{}\\])*\})*)\}"  # {…} with one level of braces inside
PLAIN = r"\{([^{}]*)\}"
ACDEF = re.compile(rf"\\acdef{PLAIN}{PLAIN}{GROUP}{PLAIN}{PLAIN}{PLAIN}")
ACVAL = re.compile(rf"\\acval{PLAIN}{PLAIN}{GROUP}")
AC = re.compile(rf"\\ac{PLAIN}")
LINK = re.compile(r'\[((?:\\.|[^\[\]\\])*)\]\(((?:[^()\s]|\([^()]*\))*)#L([0-9]+) "([^"]*)"\)')
TITLE = re.compile(r"([^#]*)#([^#]*)#([0-9]+) (\S+) (.*)")

OPTION = r"(?:\[[^\]]*\])"
UNPRINTED_TEX = (
    r"(?<!\\)%.*",
    r"(?s)\\documentclass.*?(?=\\title\{)",  # the preamble
    rf"\\given{GROUP}",
    rf"\\begin{{[a-zA-Z]*tabular[*x]?}}{OPTION}?{GROUP}",
    rf"\\(?:label|\w*ref|\w*cite\w*|input|includegraphics|bibliography\w*|begin|end|IfFileExists|InputIfFileExists|url|href"
    rf"|usepackage|documentclass|multicolumn|multirow|cmidrule|hypersetup)\*?{OPTION}*(?:\([^)]*\))?{GROUP}",
    rf"\\(?:\w*newcommand|providecommand|DeclareRobustCommand){PLAIN}{OPTION}+",
    rf"\\begin{PLAIN}{OPTION}+",
    rf"\\(?:(?!item\b)[a-zA-Z@]+\*?|\\){OPTION}+",
    r"-?[0-9]*\.?[0-9]+\s?(?:(?:pt|em|ex|cm|mm|in|bp)\b|\\[a-z]*(?:width|height|sep|skip)\b)",  # a length
    r"#[0-9]",
    r"[_^](?:[0-9]|\{[0-9]\})",
    r"\\[a-zA-Z@]+",
)
UNPRINTED_MD = (
    r"(?s)<!--.*?-->",
    r"(?ms)^(`{3,}|~{3,}).*?^\1",
    r"(`+)(?!`).*?(?<!`)\1(?!`)",
    r"(?<=\])\([^)]*\)",
    r"https?://\S+",
    r"(?m)^\s*[0-9]+[.)]\s",
)
WORD = re.compile(r"[0-9A-Za-z_.+/@'-]*[0-9][0-9A-Za-z_.+/@'-]*")


@dataclass(frozen=True)
class Failure:
    """One thing that is wrong, at a line of a file."""

    file: str
    line: int
    got: str
    expected: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.got}\n  expected: {self.expected}\n  what to do: {self.remedy}"


def _blank(text: str, *patterns: str | re.Pattern[str]) -> str:
    """`text` without every match; its lines stay."""
    for pattern in patterns:
        text = re.sub(pattern, lambda match: " " + "\n" * match[0].count("\n"), text)
    return text


@lru_cache(maxsize=4)
def _line_ends(text: str) -> list[int]:
    return [match.start() for match in re.finditer("\n", text)]


def _line(text: str, position: int) -> int:
    return bisect_left(_line_ends(text), position) + 1


def typed_numbers(text: str) -> Iterator[tuple[int, str]]:
    """(line, word) of every word that begins with a digit."""
    text = text.replace("--", "  ")
    for match in WORD.finditer(text):
        word = match[0].strip(".+/@'_-")
        if word[0].isdigit():
            yield _line(text, match.start()), word


@dataclass
class Check:
    """The check of one working tree; `run` fills it.

    Attributes
    ----------
    failures
        What is wrong, in the order found.
    citations, files
        How many citations were looked at, in how many files.
    """

    root: Path
    failures: list[Failure] = field(default_factory=list)
    citations: int = 0
    files: int = 0
    _sources: dict[str, Evidence | DataError] = field(default_factory=dict)
    _defined: dict[str, Citation | None] = field(default_factory=dict)
    _said: set[tuple[str, str]] = field(default_factory=set)

    def run(self) -> Check:
        """Look at the generated LaTeX, the paper's own files and the reports."""
        paper = self.root / "paper"
        generated = sorted((paper / "generated").rglob("*.tex"))
        texts = {file: file.read_text("utf-8") for file in [*generated, *self._own(paper)]}
        for file in generated:
            self._definitions(self._name(file), texts[file])
        for file, text in texts.items():
            self._latex(self._name(file), text)
        for file in sorted((self.root / "reports").rglob("*.md")):
            self._markdown(file, file.read_text("utf-8"))
        return self

    @staticmethod
    def _own(paper: Path) -> list[Path]:
        return [*sorted(paper.glob("*.tex")), *sorted((paper / "sections").rglob("*.tex"))]

    def _name(self, file: Path) -> str:
        return file.relative_to(self.root).as_posix()

    def _fail(self, file: str, line: int, got: str, expected: str, remedy: str) -> None:
        self.failures.append(Failure(file, line, got, expected, remedy))

    def _resolve(self, file: str, line: int, cited: str, run: str, number: int) -> Citation | None:
        """The scalar at a cited line; None after a failure. What is wrong with a whole file is said once."""
        if cited not in self._sources:
            try:
                self._sources[cited] = Evidence.read(self.root, cited)
            except DataError as error:
                self._sources[cited] = error
        source = self._sources[cited]
        if isinstance(source, DataError):
            if (file, cited) not in self._said:
                self._fail(file, line, source.got, source.expected, source.remedy)
            self._said.add((file, cited))
            return None
        if run != source.run:
            if (file, cited + run) not in self._said:
                self._fail(file, line, f"run {run} of {cited}", f"its evidence_id, {source.run}", "run `dvc repro`")
            self._said.add((file, cited + run))
            return None
        found = source.by_line.get(number)
        if found is None:
            self._fail(file, line, f"line {number} of {cited} holds no scalar", "the number's line", "run `dvc repro`")
        return found

    def _printed(self, file: str, line: int, found: Citation, form: str, text: str, *, markup: str) -> None:
        """Is `text` the value in this form?"""
        try:
            plain = printed(found.value, form)
        except DataError as error:
            return self._fail(file, line, error.got, error.expected, error.remedy)
        right = tex(found.value, plain) if markup == "tex" else markdown(found.value, plain)
        if text != right:
            self._fail(
                file, line, f"printed {text}", f"{right}, for {found.key} is {found.value} ({found})", "run `dvc repro`"
            )
        return None

    def _definitions(self, file: str, text: str) -> None:
        for match in ACDEF.finditer(text):
            key, form, shown, cited, run, number = match.groups()
            line = _line(text, match.start())
            self.citations += 1
            if key in self._defined:
                self._fail(file, line, f"{key} is defined twice", "one definition", "give the sources different names")
            found = self._resolve(file, line, cited, run, int(number) if number.isdigit() else 0)
            self._defined[key] = found
            if found is None:
                continue
            own = found.key.removesuffix("log10_p") + "p_text" if form == "log10p" else found.key
            if not key.endswith(f".{own}"):
                self._fail(
                    file, line, f"{key} cites {found}, which is {found.key}", f"the line of {key}", "run `dvc repro`"
                )
            self._printed(file, line, found, form, shown, markup="tex")

    def _latex(self, file: str, text: str) -> None:
        self.files += 1
        absent = {
            study
            for study in re.findall(r"\\IfFileExists\{generated/([^/}]+)/", text)
            if not (self.root / "paper" / "generated" / study).is_dir()
        }
        code = _blank(text, r"(?<!\\)%.*")
        for match in [*AC.finditer(code), *ACVAL.finditer(code)]:
            key, line = match[1], _line(code, match.start())
            if "#" in key or "\\" in key or key.split(".")[0] in absent:  # within a macro; of a study that has not run
                continue
            self.citations += 1
            if key not in self._defined:
                self._fail(file, line, f"no number is named {key}", "a key of paper/generated", "correct the key")
            elif match.re is ACVAL and (found := self._defined[key]):
                self._printed(file, line, found, match[2], match[3], markup="tex")
        code = _blank(text.replace(r"\_", "__"), ACDEF, ACVAL, AC, *UNPRINTED_TEX)
        for line, word in typed_numbers(code):
            self._fail(
                file, line, f"{word} is typed by hand", "a number with evidence",
                r"print a result by \ac{key}; a definition or a threshold by \given{…}",
            )  # fmt: skip

    def _markdown(self, path: Path, text: str) -> None:
        file = self._name(path)
        self.files += 1
        for match in LINK.finditer(text):
            shown, target, anchor, title = match.groups()
            line = _line(text, match.start())
            self.citations += 1
            parts = TITLE.fullmatch(title)
            if not parts:
                self._fail(file, line, f"the link's title is {title!r}", "file#run#line form key", "run `dvc repro`")
                continue
            cited, run, number, form, key = parts.groups()
            if (path.parent / target).resolve() != (self.root / cited).resolve() or anchor != number:
                self._fail(
                    file, line, f"the link leads to {target}#L{anchor}", f"{cited}, line {number}", "run `dvc repro`"
                )
            found = self._resolve(file, line, cited, run, int(number))
            if found and found.key != key:
                self._fail(
                    file, line, f"{key} cites {found}, which is {found.key}", f"the line of {key}", "run `dvc repro`"
                )
            elif found:
                self._printed(file, line, found, form, shown, markup="md")
        for line, word in typed_numbers(_blank(text, LINK, *UNPRINTED_MD)):
            self._fail(
                file, line, f"{word} is typed by hand", "a number with evidence",
                "print a result by Evidence.md; a definition or a threshold in a code span",
            )  # fmt: skip
