"""The audit of the reported claims as a table: reported, implied, measured here, consistent or not."""

from __future__ import annotations

from attention_collapse.report.evidence import Evidence
from attention_collapse.report.latex import escape, given, table, value

HEADINGS = ("Claim", "Reported", "Implied", "Implied by", "Measured here", "Consistent")
NUMBERS = ("reported", "implied", "measured")
ORDER = (
    "mcs", "sd", "cohen_d_if_sd", "cohen_d_if_half_width", "ci_low", "ci_high", "power", "middle_third", "seconds",
    "planned_n",
)  # fmt: skip


def audit_table(audit: Evidence) -> str:
    """The audit as a LaTeX tabular; a dash stands for what does not exist."""
    rows = []
    for name in ORDER:
        claim, where = audit.data["claims"][name], f"claims.{name}"
        about, source = (given(escape(claim[key]).replace("±", r"$\pm$")) for key in ("about", "from"))
        reported, implied, measured = (value(audit, f"{where}.{key}") for key in NUMBERS)
        rows.append((about, reported, implied, source, measured, value(audit, f"{where}.consistent", "text")))
    return table([*zip("lrrlrl", HEADINGS, strict=True)], rows)


def audit_markdown(audit: Evidence, depth: int = 1) -> str:
    """The same table in Markdown, with the reason below for each claim that was not measured here.

    `depth`: folders between the report and the repository's root.
    """
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---|---:|---:|---|---:|---|"]
    reasons = []
    for name in ORDER:
        claim, where = audit.data["claims"][name], f"claims.{name}"
        about, source = (audit.md(f"{where}.{key}", "text", depth) for key in ("about", "from"))
        reported, implied, measured = (audit.md(f"{where}.{key}", 3, depth) for key in NUMBERS)
        row = (about, reported, implied, source, measured, audit.md(f"{where}.consistent", "text", depth))
        lines.append("| " + " | ".join(row) + " |")
        if "reason" in claim:
            reasons.append(f"- {about}: {audit.md(f'{where}.reason', 'text', depth)}")
    return "\n".join([*lines, "", f"Measured here: {audit.md('measured_in', 'text', depth)}.", *reasons]) + "\n"
