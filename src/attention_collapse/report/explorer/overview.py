"""What the overview of a study shows: models by measures beside nulls and verdicts, the decision, and what it means."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from attention_collapse.engine.validity import SIDES
from attention_collapse.families import DUAL_ENCODER
from attention_collapse.measures.catalogue import MEASURES, label, split_rows
from attention_collapse.measures.mcs import VISION_COLLAPSE
from attention_collapse.measures.record import CONTRIBUTION, Measure
from attention_collapse.registry import kind_label
from attention_collapse.report.evidence import Evidence
from attention_collapse.report.explorer import charts
from attention_collapse.report.explorer.charts import Strip
from attention_collapse.report.explorer.cited import Cited, cited, estimate
from attention_collapse.report.markdown import Sources
from attention_collapse.report.verdict import GATES

UNBOUNDED = {"ratio": 1.5}  # unit -> as far as a measure without an upper end is drawn; others are not
DRAWINGS = "embedded"  # source of pairs that this package draws
IGNORED = {"image_ignored": "image ignored", "text_ignored": "text ignored"}


def overview(sources: Sources, doses: Evidence | None) -> dict[str, Any]:
    """Everything that the template of the overview is filled with."""
    return {
        "study": sources.study,
        "pictures": pictures(sources),
        "lead": _lead(sources),
        "models": {name: sources.standing[name] for name in sources.measured},
        "absent": [name for name in sources.models if name not in sources.measured],
        "rows": [row for model in sources.measured for row in _rows(sources, model)],
        "decision": _decision(sources.decision),
        "belief": _belief(sources.validity, doses),
        "confidence": cited(sources.statistics, "confidence", "percent0"),
    }


def pictures(sources: Sources) -> dict[str, Any]:
    """How many pairs there are, and whether their pictures are drawings or photographs."""
    source = cited(sources.pairs, "source", "text")
    drawn = source is not None and source.value == DRAWINGS
    return {
        "images": cited(sources.pairs, "n_images", 0), "captions": cited(sources.pairs, "n_captions", 0),
        "skipped": cited(sources.pairs, "n_skipped", 0), "source": source, "drawn": drawn,
    }  # fmt: skip


def _rows(sources: Sources, model: str) -> list[dict[str, Any]]:
    """A row per measure of a model."""
    found, statistics, kind = sources.results(model), sources.statistics, sources.models[model]
    rows = []
    for name, measure in MEASURES.items():
        if not isinstance(found.get(name), Mapping) or "mean" not in found[name]:
            continue
        at = f"models.{model}.{name}"
        value, null = estimate(statistics, at), _null(statistics, model, measure)
        low, high = measure.low, UNBOUNDED.get(measure.unit, 0.0) if math.isinf(measure.high) else measure.high
        rows.append({
            "id": f"{model}.{name}", "model": model, "standing": sources.standing[model], "kind": kind_label(kind),
            "measure": name, "label": measure.label, "definition": measure.definition, "unit": measure.unit,
            "causal": measure.about == CONTRIBUTION, "claims": measure.claims, "value": value, "null": null,
            "plot": charts.interval(value.point, value.bounds, low, high, _as_number(null)) if low > -math.inf else "",
            "n": cited(statistics, f"{at}.n", 0),
            "untrained": cited(statistics, f"models.{model}.mcs_untrained.mean") if name == "mcs" else None,
            "verdict": _verdict(sources.validity, kind, _column(name, measure, str(found["rows"])), measure),
        })  # fmt: skip
    return rows


def _null(statistics: Evidence | None, model: str, measure: Measure) -> Cited | str | None:
    """What nothing would give: another measure's mean, or a number by definition."""
    if isinstance(measure.null, str):
        return cited(statistics, f"models.{model}.{measure.null}.mean")
    return None if measure.null is None else f"{measure.null:g}"


def _as_number(null: Cited | str | None) -> float | None:
    value = null.value if isinstance(null, Cited) else null
    return None if value is None else float(value)


def _column(name: str, measure: Measure, rows: str) -> str:
    """The column of a measure in the test with planted answers."""
    return name if measure.about == CONTRIBUTION else f"{name}_{rows}"


def _verdict(validity: Evidence | None, kind: str, column: str, measure: Measure) -> dict[str, Any]:
    """What the planted models of this kind say of a measure, and in how many other kinds it went as it claims."""
    if validity is None or not measure.claims:
        return {"word": "claims nothing" if not measure.claims else "not tested"}
    kinds = validity.data["kinds"]
    if kind in kinds and column in kinds[kind]["measures"]:
        return {"word": "tested", "sides": _sides(validity, kind, column)}
    told = {
        side: (
            sum(other.get("auroc") == 1.0 for other in others), sum(other.get("auroc") == 0.0 for other in others),
            len(others),
        )
        for side in SIDES
        if (others := [f["measures"][column][side] for f in kinds.values() if side in f["measures"].get(column, {})])
    }  # fmt: skip
    return {"word": "no planted model", "elsewhere": {IGNORED[side]: counts for side, counts in told.items()}}


def _sides(validity: Evidence, kind: str, column: str) -> list[dict[str, Any]]:
    """AUROC and verdict of each contrast that a measure claims something of."""
    found = validity.data["kinds"][kind]["measures"][column]
    return [
        _contrast(validity, f"kinds.{kind}.measures.{column}.{side}") | {"side": IGNORED[side]}
        for side in SIDES
        if side in found
    ]


def _contrast(source: Evidence, at: str) -> dict[str, Any]:
    """One contrast: its AUROC with its interval, and the verdict; `look`: "as", "against" or "between"."""
    auroc = cited(source, f"{at}.auroc", 2)
    value = auroc.value if auroc else None
    look = "as" if value == 1.0 else "against" if value == 0.0 else "between"
    return {
        "auroc": auroc, "low": cited(source, f"{at}.ci_low", 2), "high": cited(source, f"{at}.ci_high", 2),
        "verdict": cited(source, f"{at}.verdict", "text"), "look": look,
    }  # fmt: skip


def _belief(validity: Evidence | None, doses: Evidence | None) -> dict[str, Any] | None:
    """Measures by kinds with planted answers; then those trained dose by dose, of which there are more seeds."""
    if validity is None:
        return None
    kinds = validity.data["kinds"]
    columns = [{"label": kind_label(kind), "n": cited(validity, f"kinds.{kind}.n_models", 0)} for kind in kinds]
    rows = []
    names = dict.fromkeys(name for found in kinds.values() for name in found["measures"])
    for column in sorted(names, key=lambda name: split_rows(name)[0].about != CONTRIBUTION):  # causal ones first
        cells = [_sides(validity, kind, column) if column in found["measures"] else [] for kind, found in kinds.items()]
        rows.append({"label": label(column), "causal": split_rows(column)[0].about == CONTRIBUTION, "cells": cells})
    graded = [
        {
            "label": f"{kind_label(kind)}, cue in the {cue}",
            "low": cited(doses, f"kinds.{kind}.{cue}.n_balanced", 0),
            "high": cited(doses, f"kinds.{kind}.{cue}.n_collapsed", 0),
            "rows": [
                {"label": _dose_label(name), **_contrast(doses, f"kinds.{kind}.{cue}.measures.{name}")}
                for name in found["measures"]
                if not name.endswith(("_uninformative", "_readout"))
            ],
        }
        for kind, cues in (doses.data["kinds"].items() if doses else ())
        for cue, found in cues.items()
        if doses
    ]
    return {
        "columns": columns, "rows": rows, "graded": graded,
        "seeds": cited(validity, "seeds_a_side", 0), "needed": cited(validity, "seeds_needed", 0),
        "perfect_low": cited(validity, "perfect_ci_low", 2), "all": cited(validity, "as_claimed_in_words", "text"),
    }  # fmt: skip


def _dose_label(column: str) -> str:
    """A measure's name, of a column of the doses."""
    name = column.removesuffix("_trained").removesuffix("_all")
    return MEASURES[name].label if name in MEASURES else name.replace("_", " ")


def _decision(decision: Evidence | None) -> dict[str, Any] | None:
    if decision is None:
        return None
    measure = decision.data["measure"]
    at = f"measures.{measure}.gates"
    gates = [
        {
            "label": words, "required": cited(decision, f"{at}.{gate}.required", 3),
            "found": cited(decision, f"{at}.{gate}.found", "p" if gate == "p" else 3),
            "met": decision.data["measures"][measure]["gates"][gate]["met"],
        }
        for gate, words in GATES.items()
    ]  # fmt: skip
    by_measure = [
        {
            "label": MEASURES[name].label, "decision": cited(decision, f"measures.{name}.decision", "text"),
            "severe": cited(decision, f"measures.{name}.severe", "text"), "counts": name == measure,
            "n": cited(decision, f"measures.{name}.n_tested", 0),
            "reason": cited(decision, f"measures.{name}.reason", "text"),
        }
        for name in decision.data["measures"]
    ]  # fmt: skip
    return {
        "decision": cited(decision, "decision", "text"), "reason": cited(decision, "reason", "text"),
        "measure": MEASURES[measure].label, "gates": gates, "by_measure": by_measure,
        "models_needed": cited(decision, "models_needed", 0), "images_needed": cited(decision, "images_needed", 0),
    }  # fmt: skip


def _lead(sources: Sources) -> dict[str, Any] | None:
    """The numbers of the first paragraph: a model that MCS calls collapsed, and that by the decision's rule is not.

    None where the study has no such model; nothing is claimed then.
    """
    statistics, decision, validity = sources.statistics, sources.decision, sources.validity
    if statistics is None or decision is None:
        return None
    measure = decision.data["measure"]
    judged = decision.data["measures"][measure]["models"]
    for model in sources.measured:
        found = sources.results(model)
        collapsed = str(found.get("reading_original", "")).endswith(" collapse") and not str(
            found["reading_original"]
        ).startswith("no ")
        if sources.standing[model] == "control" or not collapsed or not judged.get(model, {}).get("not_severe"):
            continue
        at = f"models.{model}"
        return {
            "model": model, "reading": cited(statistics, f"{at}.reading_original", "text"),
            "measure": MEASURES[measure].label, "mcs": estimate(statistics, f"{at}.mcs"),
            "null": cited(statistics, f"{at}.mcs_null.mean"),
            "untrained": cited(statistics, f"{at}.mcs_untrained.mean"),
            "seeds": cited(statistics, f"{at}.mcs_untrained.n_seeds", 0),
            "reliance_image": estimate(statistics, f"{at}.reliance_image", 2),
            "reliance_text": estimate(statistics, f"{at}.reliance_text", 2),
            "choice_image": cited(statistics, f"{at}.choice_image.mean", "percent0"),
            "hard": cited(statistics, f"{at}.accuracy_hard.mean", "percent0"),
            "blind": cited(statistics, f"{at}.blind_accuracy.mean", "percent0"),
            "p": cited(decision, f"measures.{measure}.models.{model}.p_balanced_holm", "p"),
            "strips": _strips(found), "dual": found.get("family") == DUAL_ENCODER,
            "rule": {name: _found(validity, name) for name in ("mcs", measure)},
            "other": {name: MEASURES[name].label for name in ("mcs", measure)},
        }  # fmt: skip
    return None


def _strips(found: Mapping[str, Any]) -> list[Markup]:
    """MCS beside what it is without training and without looking; and reliance."""
    mcs = {
        "this model": found["mcs"],
        "before training": found.get("mcs_untrained"),
        "looking nowhere": found["mcs_null"],
    }
    reliance = {"on the image": found.get("reliance_image"), "on the text": found.get("reliance_text")}
    points = [
        [(name, value["mean"]) for name, value in some.items() if value and value["mean"] is not None]
        for some in (mcs, reliance)
    ]
    shown = (
        Strip("MCS: where the model looks", points[0], 0.0, 1.0, VISION_COLLAPSE, "“vision collapse”"),
        Strip("Reliance: what its score depends on", points[1], 0.0, 1.5),
    )
    return [charts.strip(strip) for strip in shown if strip.points]


def _found(validity: Evidence | None, measure: str) -> dict[str, Cited | None]:
    """Of the planted models that ignore a modality: how many the decision's rule finds by a measure, of how many."""
    at = f"rule_over_all_kinds.{measure}"
    return {
        "right": cited(validity, f"{at}.ignoring_right", 0), "wrong": cited(validity, f"{at}.ignoring_wrong", 0),
        "n": cited(validity, f"{at}.ignoring_n_models", 0),
    }  # fmt: skip
