"""The measures as people read of them: names in LaTeX and Markdown, and the table of them all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from math import inf
from pathlib import Path
from textwrap import fill

from attention_collapse.errors import ParamsError
from attention_collapse.files import write_text
from attention_collapse.measures import answers, usable_information
from attention_collapse.measures.catalogue import MEASURES, label
from attention_collapse.measures.record import CONTRIBUTION, Measure, records
from attention_collapse.report.latex import escape
from attention_collapse.report.markdown import code, table

TEX = {"÷": r"$\div$", "·": "--", "≠": r"$\neq$", "φ": r"$\varphi$", "−": "$-$", ">": "$>$"}
BEGIN, END = "<!-- measures: begin -->", "<!-- measures: end -->"
DOCUMENTS = ("docs/measures.md",)
WITH_LABELS = MEASURES | records(answers, usable_information)  # also what takes labels, which no pair has
DIRECTION = {-1: "falls", 0: "–", 1: "rises"}


def tex(words: str) -> str:
    """A name of a measure, or a hypothesis on it, in LaTeX."""
    return "".join(TEX.get(sign, escape(sign)) for sign in words)


def tex_label(column: str) -> str:
    """A measure's name in LaTeX; `column` as of `measures.catalogue.label`."""
    return tex(label(column))


def words(text: str) -> str:
    """Prose for a cell of a Markdown table: its digits are definitions and no results."""
    return re.sub(r"[−-]?\d[\d.]*", lambda found: code(found[0]), text).replace("|", r"\|")


def _range(measure: Measure) -> str:
    low, high = (words(f"{value:g}".replace("-", "−")) for value in (measure.low, measure.high))
    if measure.low == -inf:
        return "any"
    return f"{low} and more" if measure.high == inf else f"{low} to {high}"


def _null(measure: Measure) -> str:
    return (
        "–" if measure.null is None else code(f"{measure.null:g}" if isinstance(measure.null, float) else measure.null)
    )


def _bounds(measure: Measure) -> str:
    if measure.bounds == "severe":
        return "imbalance above the study's bound"
    if measure.bounds is None:
        return "–"
    low, high = (f"{value:g}" for value in measure.bounds)
    both = f"below {low}" + (f", above {high}" if measure.bounds[1] < inf else "")
    return words(f"{both} ({measure.bounds_source})")


def measures_table(measures: Mapping[str, Measure] = MEASURES) -> str:
    """Each measure: name, meaning, unit, range, null, which way it is said to go, reported bounds, who lacks it."""
    columns = [
        ("l", "Measure"), ("l", "what it is"), ("l", "unit"), ("l", "range"), ("l", "null"),
        ("l", "image ignored"), ("l", "text ignored"), ("l", "called collapse"), ("l", "not defined for"),
    ]  # fmt: skip
    rows = [
        [
            f"{words(measure.label)}, {code(name)}",
            words(measure.definition) + (" (causal)" if measure.about == CONTRIBUTION else ""),
            measure.unit,
            _range(measure),
            _null(measure),
            DIRECTION[measure.image_ignored],
            DIRECTION[measure.text_ignored],
            _bounds(measure),
            "; ".join(measure.undefined) or "–",
        ]
        for name, measure in measures.items()
    ]
    return table(columns, rows)


def named(part: str) -> dict[str, Measure]:
    """The measures whose name or label holds some text, capitals or not.

    Raises
    ------
    ParamsError
        There is none.

    Examples
    --------
    >>> list(named("emap")), list(named("MCS minus"))
    (['emap_gap'], ['mcs_minus_null'])
    """
    wanted, known = part.casefold(), WITH_LABELS.items()
    found = {name: one for name, one in known if wanted in name.casefold() or wanted in one.label.casefold()}
    if not found:
        labels = {word.casefold(): word for name, one in known for word in (name, one.label)}
        near = get_close_matches(wanted, labels, n=1)
        raise ParamsError(
            f"no measure has {part!r} in its name" + (f"; did you mean {labels[near[0]]!r}?" if near else ""),
            expected="a part of a measure's name or label",
            remedy="list them all: attention-collapse measures",
        )
    return found


def listing(measures: Mapping[str, Measure] = WITH_LABELS) -> str:
    """Measures for a terminal: name, label, unit and range, and in an indented line what each is."""
    lines = []
    for name, measure in measures.items():
        high = "" if measure.high == inf else f" to {measure.high:g}"
        span = "any value" if measure.low == -inf else f"{measure.low:g}{high or ' and more'}"
        lines.append(f"{name}: {measure.label} ({measure.unit}, {span}; {measure.about})")
        lines.append(fill(measure.definition, 110, initial_indent="    ", subsequent_indent="    "))
    return "\n".join(lines)


def write_tables(root: Path) -> list[str]:
    """Put the table into the documentation, between its marks; returns the files that changed."""
    changed = []
    for name in DOCUMENTS:
        text = (root / name).read_text("utf-8")
        before, rest = text.split(BEGIN)
        whole = f"{before}{BEGIN}\n\n{measures_table(WITH_LABELS)}\n{END}{rest.split(END)[1]}"
        if whole != text:
            write_text(root / name, whole)
            changed.append(name)
    return changed
