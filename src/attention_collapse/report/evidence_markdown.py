"""The check of the reports: every link, every reference, the run of each source, and numbers typed by hand."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from attention_collapse.report.evidence import Citation, Evidence, label
from attention_collapse.report.evidence_findings import Findings, Place, blank, line_at, typed_numbers
from attention_collapse.report.markdown import SOURCES

LINK = re.compile(r"\[((?:\\.|[^\[\]\\])*)\]\[([^\[\]\n]+)\]")
RUN = re.compile(r"\[([^\[\]]*)\]\(#sources\)")
REFERENCE = re.compile(r'\[([^\[\]]+)\]: (\S+)#L([0-9]+) "(\S+) ([^"]+)"')
SOURCE = re.compile(r"- \[([^\[\]]+)\]\((\S+)\): run `([^`]*)`")
STRAY = re.compile(r"(?m)^[ \t>*+-]*(?:[0-9]+[.)][ \t]+)?\[(?:\\.|[^\[\]\\])+\]:")  # a reference in a report's text

UNSEEN = (r"(?s)<!--.*?-->", r"(?ms)^(`{3,}|~{3,}).*?^\1")
UNPRINTED = (r"(`+)(?!`).*?(?<!`)\1(?!`)", r"(?<=\])\([^)]*\)", r"https?://\S+", r"(?m)^\s*[0-9]+[.)]\s")


@dataclass
class Reference:
    """What a label stands for; `found` is None after a failure."""

    place: Place
    cited: str
    form: str
    found: Citation | None
    used: bool = False


@dataclass
class Source:
    """A file with its run; `found` is None after a failure."""

    place: Place
    found: Evidence | None
    used: bool = False


def folded(name: str) -> str:
    """A label as Markdown compares it."""
    return " ".join(name.split()).casefold()


@dataclass
class MarkdownCheck:
    """The check of one report; `run` does it.

    Attributes
    ----------
    findings, path
        Where failures go, and the report.
    sources
        What the report names with its run: by path below the repository's root.
    references
        What its labels stand for: by `folded` label.
    """

    findings: Findings
    path: Path
    sources: dict[str, Source] = field(default_factory=dict)
    references: dict[str, Reference] = field(default_factory=dict)

    def run(self) -> None:
        """Read what stands under "Sources", then the text above it."""
        self.findings.files += 1
        text = blank(self.findings.text(self.path), *UNSEEN)
        heading = re.search(rf"(?m)^{SOURCES}$", text)
        body = text[: heading.start()] if heading else text
        if heading:
            self._listed(text[heading.end() :].split("\n"), line_at(text, heading.start()))
        self._links(body)
        self._unused()
        self._typed(body)

    def _target(self, target: str) -> str:
        """The file, below the root, that a link of the report leads to."""
        path, root = (self.path.parent / target).resolve(), self.findings.root.resolve()
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else target

    def _listed(self, lines: list[str], first: int) -> None:
        references = []
        for number, text in enumerate(lines, first):
            place = self.findings.at(self.path, number)
            if match := SOURCE.fullmatch(text):
                self._source(place, *match.groups())
            elif match := REFERENCE.fullmatch(text):
                references.append((place, match))
            elif text.strip():
                place.fail(f"{text.strip()!r} stands under Sources", "a file with its run, or a reference")
        for place, match in references:  # after every source
            self._reference(place, match)

    def _source(self, place: Place, cited: str, target: str, run: str) -> None:
        if self._target(target) != cited:
            place.fail(f"the link leads to {target}", cited)
        if cited in self.sources:
            place.fail(f"{cited} is named twice", "one run a file")
        self.sources[cited] = Source(place, place.source(cited, run))

    def _reference(self, place: Place, match: re.Match[str]) -> None:
        name, target, number, form, key = match.groups()
        cited, found = self._target(target), None
        if source := self.sources.get(cited):
            source.used = True
            found = place.scalar(source.found, number, key) if source.found else None
        else:
            place.fail(f"{name} leads to {cited}, which has no run here", "the file with its run, under Sources")
        if name != label(cited, key, form):
            place.fail(f"the label {name}", f"{label(cited, key, form)}, which is that of {form} {key} of {cited}")
        if folded(name) in self.references:
            place.fail(f"the label {name} is defined twice", "one reference a label")
        else:
            self.references[folded(name)] = Reference(place, cited, form, found)

    def _links(self, body: str) -> None:
        for match in LINK.finditer(body):
            place = self.findings.at(self.path, line_at(body, match.start()))
            self.findings.citations += 1
            reference = self.references.get(folded(match[2]))
            if reference is None:
                place.fail(f"no reference is named {match[2]}", "one, under Sources")
                continue
            reference.used = True
            if reference.found:
                place.printed(reference.found, reference.form, match[1], markup="md")
        for match in RUN.finditer(body):
            if source := self.sources.get(match[1]):
                source.used = True
            else:
                self.findings.at(self.path, line_at(body, match.start())).fail(
                    f"{match[1]} has no run here", "the file with its run, under Sources"
                )

    def _unused(self) -> None:
        for name, reference in self.references.items():
            if not reference.used:
                reference.place.fail(f"nothing cites {name}", "references that are used")
        for cited, source in self.sources.items():
            if not source.used:
                source.place.fail(f"nothing cites {cited}", "files that are cited")

    def _typed(self, body: str) -> None:
        for match in STRAY.finditer(body):
            self.findings.at(self.path, line_at(body, match.end())).fail(
                f"{match[0].strip()} in the text", "references under Sources alone"
            )
        for line, word in typed_numbers(blank(body, LINK, *UNPRINTED)):
            self.findings.at(self.path, line).fail(
                f"{word} is typed by hand", "a number with evidence",
                "print a result by Evidence.md; a definition or a threshold in a code span",
            )  # fmt: skip
