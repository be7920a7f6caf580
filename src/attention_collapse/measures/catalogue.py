"""Every measure there is, by name."""

from attention_collapse.measures.attention import ATTENTION_MEASURES
from attention_collapse.measures.contribution import CONTRIBUTION_MEASURES
from attention_collapse.measures.record import Measure, using

MEASURES = ATTENTION_MEASURES | CONTRIBUTION_MEASURES
SEVERITY_MEASURES = using(MEASURES, "severity")  # the shares that a decision can be taken by

RELATION = {"two-sided": "≠", "greater": ">"}
HYPOTHESES = {  # key of a test in the metrics -> its alternative in words
    tested.name: f"{measure.label} {RELATION[tested.alternative]} {tested.value:g}"
    for measure in MEASURES.values()
    for tested in measure.hypotheses
}


def split_rows(column: str) -> tuple[Measure, str]:
    """The measure of a column, and the rows of one of attention ("" otherwise): "mcs_all" is MCS over all rows."""
    if column in MEASURES:
        return MEASURES[column], ""
    name, _, rows = column.rpartition("_")
    return MEASURES[name], rows


def label(column: str) -> str:
    """The name of a column's measure for print, with its rows if it has any."""
    measure, rows = split_rows(column)
    return f"{measure.label} · {rows} rows" if rows else measure.label
