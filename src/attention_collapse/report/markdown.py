"""Markdown of the reports: numbers and texts that carry their evidence, tables, figures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from attention_collapse.errors import DataError
from attention_collapse.report.evidence import Evidence, label

CITATION = re.compile(  # of Evidence.md, or of Evidence.md_run
    r'\[((?:\\.|[^\[\]\\])*)\]\(((?:[^()\s#]|\([^()\s#]*\))+)#([^#\s"()]+)(?:#([0-9]+) "(\S+) ([^"\n]*)")?\)'
)
SOURCES = "## Sources"
DEPTH = 2  # a report is reports/<study>/<report>.md
DASH = "–"


@dataclass(frozen=True)
class Sources:
    """What the reports of one study are made of; None and absent keys are files that do not exist.

    Attributes
    ----------
    study, params_file
        The study's name, and the file that defines it.
    models
        Every model of the parameters -> its kind.
    standing
        Model -> control, in-house or external.
    definitions
        What the parameters fix and no metrics file holds: name -> value.
    pairs, statistics, decision, audit, validity
        Manifest of the pairs and metrics; `validity` is that of the planted models.
    scores, causal
        Metrics of each model.
    checkpoints
        Models whose weights were loaded at some time.
    figures
        Model -> paths of its figures below the repository's root.
    overview, planted
        Paths of the figures of all models, and of the models whose answer was planted.
    """

    study: str
    params_file: str
    models: Mapping[str, str]
    standing: Mapping[str, str]
    definitions: Mapping[str, object] = field(default_factory=dict)
    pairs: Evidence | None = None
    statistics: Evidence | None = None
    decision: Evidence | None = None
    audit: Evidence | None = None
    validity: Evidence | None = None
    scores: Mapping[str, Evidence] = field(default_factory=dict)
    causal: Mapping[str, Evidence] = field(default_factory=dict)
    checkpoints: frozenset[str] = frozenset()
    figures: Mapping[str, Sequence[str]] = field(default_factory=dict)
    overview: Sequence[str] = ()
    planted: Sequence[str] = ()

    @property
    def measured(self) -> list[str]:
        """Models with scores, causal measures and statistics, in the order of the parameters."""
        if self.statistics is None:
            return []
        known = self.statistics.data["models"]
        return [name for name in self.models if name in known and name in self.scores and name in self.causal]

    def results(self, model: str) -> Mapping[str, Any]:
        """What the statistics hold of a measured model."""
        found: Mapping[str, Any] = self.statistics.data["models"][model] if self.statistics else {}
        return found


def number(source: Evidence | None, key: str, form: int | str = 3) -> str:
    """A number (or a text, in the form "text") with its citation; a dash if the file does not have it."""
    return DASH if source is None or key not in source else source.md(key, form)


def text(source: Evidence | None, key: str) -> str:
    """A text or a truth value with its citation; a dash if the file does not have it."""
    return number(source, key, "text")


def run(source: Evidence | None) -> str:
    """The path of a file whose run stands under "Sources"; a dash if there is no such file."""
    return DASH if source is None else source.md_run()


def exists(source: Evidence | None, key: str) -> bool:
    """Whether the file has the scalar and it is not undefined."""
    return source is not None and key in source and source.scalars[key].value is not None


def interval(source: Evidence | None, prefix: str, form: int | str = 3) -> str:
    """ "low to high", from `<prefix>ci_low` and `<prefix>ci_high`; brackets would end a link."""
    ends = [f"{prefix}{end}" for end in ("ci_low", "ci_high")]
    if str(form).startswith("rest"):  # one minus the value: the ends change places
        ends.reverse()
    found = [number(source, end, form) for end in ends]
    return " to ".join(found) if exists(source, ends[0]) else found[0]


def estimate(source: Evidence | None, key: str, form: int | str = 3) -> str:
    """The mean of a summary with its interval, or a dash and the reason why there is none."""
    mean, reason = number(source, f"{key}.mean", form), text(source, f"{key}.reason")
    if not exists(source, f"{key}.mean"):
        return mean if reason == DASH else f"{DASH} ({reason})"
    if exists(source, f"{key}.ci_low"):
        return f"{mean} ({interval(source, f'{key}.', form)})"
    return f"{mean} (no interval: {reason})"


def level(statistics: Evidence | None) -> str:
    """ "95 % CI", with the level cited."""
    return f"{number(statistics, 'confidence', 'percent0')} CI"


def code(name: object) -> str:
    """A name or a definition: a code span, in which digits are no result."""
    return f"`{name}`"


def table(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]]) -> str:
    """A table; `columns`: (l or r, heading); cells are Markdown already."""
    lines = ["| " + " | ".join(line) + " |" for line in ([heading for _, heading in columns], *rows)]
    lines.insert(1, "|" + "|".join("---:" if align == "r" else "---" for align, _ in columns) + "|")
    return "\n".join(lines) + "\n"


def figure(path: str) -> str:
    """A figure, named as its file."""
    words = path.rsplit("/", 1)[-1].removesuffix(".png").replace("_", " ")
    return f"![{words}]({'../' * DEPTH}{path})\n"


def page(text: str) -> str:
    """A report whose citations are links, with their references and, under "Sources", the run of each file at its end.

    A citation `[0.740](file#run#line "form key")` becomes `[0.740][label]`; all that cite the same share one reference,
    `[label]: ../../file#Lline "form key"`. `[file](file#run)` becomes a link to "Sources". Other text stays as it is.

    Raises
    ------
    DataError
        Two numbers have one label.
    """
    runs: dict[str, str] = {}
    references: dict[str, tuple[str, int, str]] = {}  # label -> file, line, "form key"

    def moved(match: re.Match[str]) -> str:
        shown, file, run_id, line, form, key = match.groups()
        if line is None and shown != file:
            return match[0]  # a link to another page's heading
        runs[file] = run_id
        if line is None:
            return f"[{file}](#sources)"
        name, found = label(file, key, form), (file, int(line), f"{form} {key}")
        if references.setdefault(name, found) != found:
            raise DataError(
                f"{key} and {references[name][2]} have the label {name}",
                expected="one label for each",
                remedy="rename a key",
            )
        return f"[{shown}][{name}]"

    body, up = CITATION.sub(moved, text), "../" * DEPTH
    if not runs:
        return body
    sources = [f"- [{file}]({up}{file}): run `{run_id}`\n" for file, run_id in sorted(runs.items())]
    links = [
        f'[{name}]: {up}{file}#L{line} "{about}"\n'
        for name, (file, line, about) in sorted(references.items(), key=lambda item: item[1])
    ]
    return "".join([body.rstrip("\n"), "\n\n", SOURCES, "\n\n", *sources, *(["\n", *links] if links else [])])
