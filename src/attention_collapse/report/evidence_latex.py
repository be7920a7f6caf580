r"""The check of the paper: every `\acfile`, `\acdef`, `\ac` and `\acval`, and numbers typed by hand."""

from __future__ import annotations

import re
from pathlib import Path

from attention_collapse.report.evidence import Citation, Evidence
from attention_collapse.report.evidence_findings import Findings, Place, blank, line_at, typed_numbers

GROUP = r"\{((?:\\.|[^{}\\]|\{(?:\\.|[^{}\\])*\})*)\}"  # {…} with one level of braces inside
PLAIN = r"\{([^{}]*)\}"
ACFILE = re.compile(rf"\\acfile{PLAIN}{PLAIN}{PLAIN}{PLAIN}")
ACDEF = re.compile(rf"\\acdef{PLAIN}{PLAIN}{GROUP}{PLAIN}")
ACVAL = re.compile(rf"\\acval{PLAIN}{PLAIN}{GROUP}")
AC = re.compile(rf"\\ac{PLAIN}")

COMMENT = r"(?<!\\)%.*"
OPTION = r"(?:\[[^\]]*\])"
UNPRINTED = (
    COMMENT,
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


class LatexCheck:
    """The check of a tree's LaTeX: first what the generated files define, then what every file prints."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.defined: dict[str, Citation | None] = {}  # None: the definition failed

    def run(self) -> None:
        """Look at `paper/generated/**/*.tex` and at the paper's own files."""
        paper = self.findings.root / "paper"
        generated = {path: self.findings.text(path) for path in sorted((paper / "generated").rglob("*.tex"))}
        own = [*sorted(paper.glob("*.tex")), *sorted((paper / "sections").rglob("*.tex"))]
        for path, text in generated.items():
            self._definitions(path, blank(text, COMMENT))
        for path, text in generated.items():
            self._uses(path, text)
            self._typed(path, text, ACFILE, ACDEF)
        for path in own:  # where a definition would be one that nothing checks
            text = self.findings.text(path)
            self._uses(path, text)
            self._typed(path, text)

    def _definitions(self, path: Path, code: str) -> None:
        name, source = "", None
        for match in sorted([*ACFILE.finditer(code), *ACDEF.finditer(code)], key=re.Match.start):
            place = self.findings.at(path, line_at(code, match.start()))
            if match.re is ACFILE:
                name, cited, run, number = match.groups()
                source = place.source(cited, run)
                self._define(place, source, name, (f"{name}.evidence_id", "text", run, number))
            else:
                if not name:
                    place.fail(f"{match[1]} follows no \\acfile", "its file and run before it")
                self._define(place, source, name, match.groups())

    def _define(self, place: Place, source: Evidence | None, name: str, parts: tuple[str, ...]) -> None:
        """`parts`: key, form, text, line."""
        key, form, shown, number = parts
        self.findings.citations += 1
        if key in self.defined:
            place.fail(f"{key} is defined twice", "one definition", "give the sources different names")
        self.defined[key] = None
        if source is None:
            return
        if not key.startswith(f"{name}."):
            place.fail(f"{key} follows the \\acfile of {name}", f"a key that begins with {name}.")
            return
        own = key.removeprefix(f"{name}.")
        found = place.scalar(source, number, own.removesuffix("p_text") + "log10_p" if form == "log10p" else own)
        self.defined[key] = found
        if found:
            place.printed(found, form, shown, markup="tex")

    def _uses(self, path: Path, text: str) -> None:
        self.findings.files += 1
        absent = {
            study
            for study in re.findall(r"\\IfFileExists\{generated/([^/}]+)/", text)
            if not (self.findings.root / "paper" / "generated" / study).is_dir()
        }
        code = blank(text, COMMENT)
        for match in [*AC.finditer(code), *ACVAL.finditer(code)]:
            key, place = match[1], self.findings.at(path, line_at(code, match.start()))
            if "#" in key or "\\" in key or key.split(".")[0] in absent:  # within a macro; of a study that has not run
                continue
            self.findings.citations += 1
            if key not in self.defined:
                place.fail(f"no number is named {key}", "a key of paper/generated", "correct the key")
            elif match.re is ACVAL and (found := self.defined[key]):
                place.printed(found, match[2], match[3], markup="tex")

    def _typed(self, path: Path, text: str, *allowed: re.Pattern[str]) -> None:
        for line, word in typed_numbers(blank(text.replace(r"\_", "__"), *allowed, ACVAL, AC, *UNPRINTED)):
            self.findings.at(path, line).fail(
                f"{word} is typed by hand", "a number with evidence",
                r"print a result by \ac{key}; a definition or a threshold by \given{…}",
            )  # fmt: skip
