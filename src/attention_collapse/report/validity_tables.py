"""LaTeX tables of the test with planted answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attention_collapse.engine.validity import SIDES
from attention_collapse.measures.catalogue import MEASURES, SEVERITY_MEASURES
from attention_collapse.registry import kind_label
from attention_collapse.report.evidence import DASH, Evidence
from attention_collapse.report.latex import table, value
from attention_collapse.report.measures import tex_label

MARKS = {"separates": r"$^\star$", "reversed": r"$^\dagger$"}


def validity_table(kinds: Mapping[str, Any], source: Evidence) -> str:
    """AUROC of models where the image, and where the text, is ignored, by measure and kind, and its verdict if any: a
    star where it separates, a dagger where it is reversed."""
    columns = [("l", "Measure"), *[("r", f"{kind_label(kind)}: image") if i == 0 else ("r", "text")
                                   for kind in kinds for i in range(2)]]  # fmt: skip
    rows = []
    for name in dict.fromkeys(name for found in kinds.values() for name in found["measures"]):
        row = [tex_label(name)]
        for kind, found in kinds.items():
            for side in SIDES:
                verdict = found["measures"].get(name, {}).get(side, {}).get("verdict")
                mark = MARKS.get(verdict, "")
                row.append(value(source, f"kinds.{kind}.measures.{name}.{side}.auroc", 2) + mark)
        rows.append(row)
    return table(columns, rows)


def alarms_table(kinds: Mapping[str, Any], source: Evidence) -> str:
    """Share of images that a threshold calls collapse: of balanced models / image ignored / text ignored, by kind."""
    columns = [("l", "Measure"), *[("c", kind_label(kind)) for kind in kinds]]
    rows: list[list[str]] = []
    for name, measure in MEASURES.items():
        if measure.bounds is None:
            continue
        row = [tex_label(name)]
        for kind, found in kinds.items():
            column = f"{name}_all" if f"{name}_all" in found["measures"] else name
            at = f"kinds.{kind}.measures.{column}"
            keys = [f"{at}.false_alarms_published", *[f"{at}.{side}.hits_published" for side in SIDES]]
            there = column in found["measures"]
            row.append(" / ".join(value(source, key, "percent0") for key in keys) if there else DASH)
        if any(cell != DASH for cell in row[1:]):
            rows.append(row)
    return table(columns, rows)


def rule_table(kinds: Mapping[str, Any], source: Evidence) -> str:
    """The decision's rule on planted models: found of those that ignore the image / the text / balanced ones that it
    calls severe, each of how many, by kind."""
    columns = [("l", "Measure"), *[("c", kind_label(kind)) for kind in kinds]]
    rows: list[list[str]] = []
    for measure in SEVERITY_MEASURES:
        row = [tex_label(measure)]
        for kind, found in kinds.items():
            at = f"kinds.{kind}.rule.{measure}"
            parts = [(side, "right") for side in SIDES] + [("balanced", "wrong")]
            counts = [
                f"{value(source, f'{at}.{side}.{outcome}', 0)} of {value(source, f'{at}.{side}.n_models', 0)}"
                for side, outcome in parts
            ]
            row.append(" / ".join(counts) if measure in found["rule"] else DASH)
        rows.append(row)
    return table(columns, rows)
