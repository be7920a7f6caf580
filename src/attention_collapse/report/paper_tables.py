"""The paper's tables of a study, as LaTeX whose numbers carry their evidence."""

from __future__ import annotations

from collections.abc import Mapping

from attention_collapse.measures.catalogue import HYPOTHESES
from attention_collapse.measures.contribution import CONTRIBUTION_MEASURES
from attention_collapse.report.evidence import Evidence
from attention_collapse.report.latex import escape, given, interval, table, value
from attention_collapse.report.measures import tex

READ_FIRST = ("reliance_image", "reliance_text", "reliance_share")
ABOVE = f"$>{given('0.7')}$"


def _stacked(heading: str) -> str:
    """A heading of several words on two lines."""
    words = heading.split()
    half = (len(words) + 1) // 2
    first, second = " ".join(words[:half]), " ".join(words[half:])
    return rf"\shortstack[r]{{{first}\\{second}}}" if second else first


def _shown(name: str, *, control: bool) -> str:
    return escape(name) + (r"$^\ast$" if control else "")


def scores_table(statistics: Evidence) -> str:
    """Each model's score with its interval, beside its null and its untrained prior."""
    columns = [
        ("l", "Model"), ("r", "$n$"), ("r", "MCS"), ("c", value(statistics, "confidence", "percent0") + " CI"),
        ("r", "null"), ("r", "untrained"), ("r", "calibrated"), ("r", ABOVE), ("r", f"null {ABOVE}"),
    ]  # fmt: skip
    rows = []
    for name, result in statistics.data["models"].items():
        model = f"models.{name}"
        rows.append([
            _shown(name, control=result["control"]),
            value(statistics, f"{model}.mcs.n"),
            value(statistics, f"{model}.mcs.mean"),
            interval(statistics, f"{model}.mcs"),
            value(statistics, f"{model}.mcs_null.mean"),
            value(statistics, f"{model}.mcs_untrained.mean"),
            value(statistics, f"{model}.mcs_calibrated.mean"),
            value(statistics, f"{model}.share_of_pairs_above_0_7", "percent1"),
            value(statistics, f"{model}.share_of_nulls_above_0_7", "percent1"),
        ])  # fmt: skip
    return table(columns, rows)


def tests_table(statistics: Evidence) -> str:
    """The tests of each model under test and each control."""
    columns = [
        ("l", "Model"),
        ("l", "Hypothesis"),
        ("r", "$t$"),
        ("r", "$d$"),
        ("r", "$p$"),
        ("r", r"$p_\mathrm{Holm}$"),
    ]
    rows = []
    for name, result in statistics.data["models"].items():
        for position, (key, label) in enumerate(HYPOTHESES.items()):
            test = f"models.{name}.tests.{key}"
            rows.append([
                _shown(name, control=result["control"]) if position == 0 else "",
                given(tex(label)),
                value(statistics, f"{test}.t", 2),
                value(statistics, f"{test}.cohen_d", 2),
                value(statistics, f"{test}.log10_p", "log10p"),
                value(statistics, f"{test}.p_holm", "p"),
            ])  # fmt: skip
    return table(columns, rows)


def contribution_table(causal: Mapping[str, Evidence], controls: set[str]) -> str:
    """What each model's score depends on, by causal measures; those that no model has are left out."""

    def exists(source: Evidence, key: str) -> bool:
        return source.data.get(key, {}).get("mean") is not None

    names = dict.fromkeys([*READ_FIRST, *CONTRIBUTION_MEASURES])
    shown = {
        name: CONTRIBUTION_MEASURES[name]
        for name in names
        if CONTRIBUTION_MEASURES[name].heading and any(exists(source, name) for source in causal.values())
    }

    def cell(source: Evidence, key: str) -> str:
        mean = value(source, f"{key}.mean")
        return f"{mean} {interval(source, key)}" if key == READ_FIRST[-1] and exists(source, key) else mean

    rows = [
        [_shown(name, control=name in controls), *[cell(source, key) for key in shown]]
        for name, source in causal.items()
    ]
    columns = [("l", "Model"), *[("r", _stacked(measure.heading)) for measure in shown.values()]]
    return table(columns, rows)


def null_table(reference: Evidence) -> str:
    """What uniform attention scores on COCO's captions, by vision tower."""
    columns = [("l", "Vision tower"), ("r", "tokens"), ("r", "null MCS"), ("r", "sd"), ("r", ABOVE)]
    towers = reference.data["towers"]
    rows = [
        [
            given(escape(name)),
            value(reference, f"towers.{name}.image_tokens"),
            value(reference, f"towers.{name}.mean", 4),
            value(reference, f"towers.{name}.sd", 4),
            value(reference, f"towers.{name}.share_above_0_7", "percent2"),
        ]
        for name in sorted(towers, key=lambda name: int(towers[name]["image_tokens"]))
    ]
    return table(columns, rows)
