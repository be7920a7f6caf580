"""The audit of the reported claims as a table: reported, implied, measured here, consistent or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from attention_collapse.report.latex import escape, number, table

HEADINGS = ("Claim", "Reported", "Implied", "Implied by", "Measured here", "Consistent")

ORDER = (
    "mcs", "sd", "cohen_d_if_sd", "cohen_d_if_half_width", "ci_low", "ci_high", "power", "middle_third", "seconds",
    "planned_n",
)  # fmt: skip


def _rows(audit: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str, str, str]]:
    for claim in (audit["claims"][name] for name in ORDER):
        numbers = [number(claim[key]) for key in ("reported", "implied", "measured")]
        yield claim["about"], numbers[0], numbers[1], claim["from"], numbers[2], "yes" if claim["consistent"] else "no"


def audit_table(audit: Mapping[str, Any]) -> str:
    """The audit as a LaTeX tabular; `audit` is the content of `audit.json`, a dash stands for what does not exist."""
    columns = [*zip("lrrlrl", HEADINGS, strict=True)]
    rows = [
        (escape(about).replace("±", r"$\pm$"), reported, implied, escape(source).replace("±", r"$\pm$"), measured, same)
        for about, reported, implied, source, measured, same in _rows(audit)
    ]
    return table(columns, rows)


def audit_markdown(audit: Mapping[str, Any]) -> str:
    """The same table in Markdown, with the reason below for each claim that was not measured here."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---|---:|---:|---|---:|---|"]
    lines += ["| " + " | ".join(row).replace("$-$", "−").replace("--", "–") + " |" for row in _rows(audit)]
    lines += ["", f"Measured here: {audit['measured_in']}."]
    lines += [
        f"- {claim['about']}: {claim['reason']}"
        for claim in (audit["claims"][name] for name in ORDER)
        if "reason" in claim
    ]
    return "\n".join(lines) + "\n"
