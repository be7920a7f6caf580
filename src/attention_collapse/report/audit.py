"""The audit of the reported claims as a table: reported, implied, measured here, consistent or not."""

from __future__ import annotations

from attention_collapse.report import markdown
from attention_collapse.report.evidence import Evidence
from attention_collapse.report.latex import escape, given, table, value
from attention_collapse.stats.claims import READINGS

HEADINGS = ("Claim", "Reported", "Implied", "Implied by", "Measured here", "Consistent")
ORDER = ("mcs", "cohen_d", "interval", "power", "middle_third", "seconds", "planned_n")
ENDS = ("low", "high")


def _rows(audit: Evidence) -> list[tuple[str, str, str]]:
    """Claim, where what it implies stands, and the reading of ± ("" if the claim does not turn on it); a row each."""
    rows = []
    for claim in ORDER:
        at, found = f"claims.{claim}", audit.data["claims"][claim]
        readings = [name for name in READINGS if name in found.get("readings", {})]
        rows += [(claim, f"{at}.readings.{name}", name) for name in readings] or [(claim, at, "")]
    return rows


def audit_table(audit: Evidence) -> str:
    """The audit as a LaTeX tabular; a dash stands for what does not exist."""

    def shown(claim: str, key: str) -> str:
        if claim != "interval":
            return value(audit, key)
        return f"[{', '.join(value(audit, f'{key}_{end}') for end in ENDS)}]"

    def plain(text: str) -> str:
        return given(escape(text).replace("±", r"$\pm$"))

    rows, before = [], ""
    for claim, at, reading in _rows(audit):
        found, where, again = audit.data["claims"][claim], f"claims.{claim}", claim == before
        source = found["from"] + (f"; {READINGS[reading]}" if reading else "")
        measured = shown(claim, f"{where}.measured") if "reason" not in found else value(audit, f"{where}.measured")
        rows.append((
            "" if again else plain(found["about"]), "" if again else shown(claim, f"{where}.reported"),
            shown(claim, f"{at}.implied"), plain(source), "" if again else measured,
            value(audit, f"{at}.consistent", "text"),
        ))  # fmt: skip
        before = claim
    return table([*zip("lrrlrl", HEADINGS, strict=True)], rows)


def audit_markdown(audit: Evidence) -> str:
    """The same table in Markdown, with the reason below for each claim that was not measured here."""

    def shown(claim: str, key: str) -> str:
        if claim != "interval":
            return markdown.number(audit, key)
        return " to ".join(markdown.number(audit, f"{key}_{end}") for end in ENDS)

    rows, before = [], ""
    for claim, at, reading in _rows(audit):
        where, again = f"claims.{claim}", claim == before
        measured = markdown.number(audit, f"{where}.measured")
        if f"{where}.reason" not in audit:
            measured = shown(claim, f"{where}.measured")
        source = markdown.text(audit, f"{where}.from") + (f"; {READINGS[reading]}" if reading else "")
        rows.append([
            "" if again else markdown.text(audit, f"{where}.about"),
            "" if again else shown(claim, f"{where}.reported"), shown(claim, f"{at}.implied"), source,
            "" if again else measured, markdown.text(audit, f"{at}.consistent"),
        ])  # fmt: skip
        before = claim
    reasons = [
        f"- {markdown.text(audit, f'claims.{claim}.about')}: {markdown.text(audit, f'claims.{claim}.reason')}"
        for claim in ORDER
        if f"claims.{claim}.reason" in audit
    ]
    by_reading = "; ".join(
        f"{markdown.number(audit, f'n_consistent_if_{name}')} if {words}" for name, words in READINGS.items()
    )
    return "\n".join([
        "# Audit of the reported claims", "",
        "The claims come from an internal progress report of the team, not from a publication.", "",
        f"What was claimed: {markdown.text(audit, 'claimed')}. Of {markdown.number(audit, 'n_claims')} claims, "
        f"{markdown.number(audit, 'n_consistent')} agree with what the others imply at best ({by_reading}; no more "
        f"than one of the two can be meant). Measured here: {markdown.text(audit, 'measured_in')}.", "",
        markdown.table([*zip("lrrlrl", HEADINGS, strict=True)], rows),
        "Not measured here:", "", *reasons, "",
        "Only a study with the claimed model on the claimed images can confirm or refute a claim; what the reported "
        "values imply of one another is the same in every study.", "",
    ])  # fmt: skip
