"""From the statistics of a study's models to their severity, as the decision and the user's gate read it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from attention_collapse.errors import ParamsError
from attention_collapse.files import need
from attention_collapse.measures.catalogue import SEVERITY_MEASURES
from attention_collapse.params import Params
from attention_collapse.stats.decision import Gates, Severity, combine, decide, named

READINGS = ("decision", "severe_two_of_three", "severe_all")


def severity_entry(statistics: Any, model: str, measure: str, file: str) -> Mapping[str, Any]:
    """What the statistics say of one model's severity by one measure, as it stands in the file."""
    where = f"{file}: models"
    entry = need(need(statistics, "models", str(file)), model, where)
    entry = need(need(entry, "severity", f"{where}.{model}"), measure, f"{where}.{model}.severity")
    where = f"{where}.{model}.severity.{measure}"
    for key in ("n", "mean", "p"):
        need(entry, key, where)
    if entry["n"] == 0 or entry["p"] is None:
        need(entry, "reason", where)
    found: Mapping[str, Any] = entry
    return found


def read_severity(statistics: Any, model: str, measure: str, file: str, *, in_house: bool) -> Severity:
    """The severity of one model under test; PipelineError names a missing key."""
    entry = severity_entry(statistics, model, measure, file)
    where = f"{file}: models.{model}.severity.{measure}"
    keys = ("n", "mean", "ci_low", "ci_high", "p_holm", "power", "n_needed")
    values = {key: need(entry, key, where) for key in keys}
    return Severity(in_house=in_house, reason=entry.get("reason", ""), **values)


def require_severity_measure(name: str, where: str) -> None:
    """ParamsError unless a decision can be taken by the measure."""
    if name not in SEVERITY_MEASURES:
        near = difflib.get_close_matches(name, SEVERITY_MEASURES, n=1)
        raise ParamsError(
            f"{where} is {name!r}",
            expected=f"one of {', '.join(SEVERITY_MEASURES)}",
            remedy=f"did you mean {near[0]!r}?" if near else "correct the name",
        )


def diagnostic_failures(statistics: Any, scores: Mapping[str, Mapping[str, Any]], file: str) -> list[str]:
    """Every model and measure that its kind defines and that did not come out whole, with the reason.

    Controls are included: the question is whether the instrument works. A measure came out whole if every image of
    the study has a defined value and the test of these values exists.
    """
    failures = []
    for model, about in scores.items():
        for measure in SEVERITY_MEASURES:
            if measure in about["reasons"]:
                continue
            entry = severity_entry(statistics, model, measure, file)
            if entry["n"] < about["n_images"]:
                failures.append(f"{model} {measure} ({about['n_images'] - entry['n']} images undefined)")
            elif entry["p"] is None:
                failures.append(f"{model} {measure} ({entry['reason']})")
    return failures


def decide_study(params: Params, statistics: Any, scores: Mapping[str, Mapping[str, Any]], file: str) -> dict[str, Any]:
    """The decision of a study by the measure that counts, confirmed by another, and by every measure side by side.

    Parameters
    ----------
    statistics, file
        Content and name of the study's statistics.
    scores
        model -> its metrics, which say what its kind does not define.
    """
    chosen, stats, models = params.decision, params.stats, params.models
    for key in ("measure", "confirm_with"):
        require_severity_measure(getattr(chosen, key), f"decision.{key}")
    gates = Gates(
        chosen.models_tested, chosen.models_severe, alpha=stats.alpha, imbalance=stats.severe, power=stats.power
    )
    measures: dict[str, dict[str, Any]] = {}
    for measure in SEVERITY_MEASURES:
        under_test = [name for name, spec in models.items() if spec.standing != "control"]
        lacking = {name: scores[name]["reasons"][measure] for name in under_test if measure in scores[name]["reasons"]}
        measures[measure] = decide(
            {
                name: read_severity(statistics, name, measure, file, in_house=models[name].standing == "in-house")
                for name in under_test
                if name not in lacking
            },
            gates,
        )
        measures[measure]["not_defined_for"] = lacking
    counts, confirms = measures[chosen.measure], measures[chosen.confirm_with]
    combined = {name: combine(counts[name], confirms[name]) for name in READINGS}
    # A GO that waits for its confirmation waits for what the confirming measure needs.
    waiting = confirms if counts["decision"] == "GO" else counts
    failures = diagnostic_failures(statistics, scores, file)
    return {
        **combined,
        "measure": chosen.measure,
        "confirm_with": chosen.confirm_with,
        "confirmed": confirms["decision"] == "GO",
        "reason": f"{chosen.measure} says {counts['decision']} ({counts['reason']}); "
        f"{chosen.confirm_with} says {confirms['decision']} ({confirms['reason']})",
        "images_needed": waiting["images_needed"],
        "models_needed": waiting["models_needed"],
        "diagnostic_success": not failures,
        "diagnostic_failures": named(failures),
        "measures": measures,
    }
