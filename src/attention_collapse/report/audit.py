"""The audit of the reported claims as a table: reported, implied, measured here, consistent or not."""

from __future__ import annotations

from attention_collapse.report import markdown
from attention_collapse.report.evidence import Evidence
from attention_collapse.report.latex import escape, given, table, value

HEADINGS = ("Claim", "Reported", "Implied", "Implied by", "Measured here", "Consistent")
KEYS: dict[str, int | str] = {
    "about": "text",
    "reported": 3,
    "implied": 3,
    "from": "text",
    "measured": 3,
    "consistent": "text",
}

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
        reported, implied, measured = (value(audit, f"{where}.{key}") for key in ("reported", "implied", "measured"))
        rows.append((about, reported, implied, source, measured, value(audit, f"{where}.consistent", "text")))
    return table([*zip("lrrlrl", HEADINGS, strict=True)], rows)


def audit_markdown(audit: Evidence) -> str:
    """The same table in Markdown, with the reason below for each claim that was not measured here."""
    rows = [[markdown.number(audit, f"claims.{claim}.{key}", form) for key, form in KEYS.items()] for claim in ORDER]
    reasons = [
        f"- {markdown.text(audit, f'claims.{claim}.about')}: {markdown.text(audit, f'claims.{claim}.reason')}"
        for claim in ORDER
        if f"claims.{claim}.reason" in audit
    ]
    return "\n".join([
        "# Audit of the reported claims", "",
        f"What was claimed: {markdown.text(audit, 'claimed')}. Of {markdown.number(audit, 'n_claims')} claims, "
        f"{markdown.number(audit, 'n_consistent')} agree with what the others imply. Measured here: "
        f"{markdown.text(audit, 'measured_in')}.", "",
        markdown.table([*zip("lrrlrl", HEADINGS, strict=True)], rows),
        "Not measured here:", "", *reasons, "",
        "Only a study with the claimed model on the claimed images can confirm or refute a claim; what the reported "
        "values imply of one another is the same in every study.", "",
    ])  # fmt: skip
