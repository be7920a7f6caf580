"""From the statistics of a study's models to their severity, as the decision and the user's gate read it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from attention_collapse.engine.contribution import is_not_judged
from attention_collapse.errors import ParamsError
from attention_collapse.files import need
from attention_collapse.measures.catalogue import SEVERITY_MEASURES
from attention_collapse.params import Params
from attention_collapse.stats.decision import Gates, Severity, decide, named
from attention_collapse.stats.severity import IMAGE, TEXT

CONFIRMED_BY = {  # the modality that is ignored -> the accuracy that swapping it costs, the strictest first
    IMAGE: ("perceptual_image_hard", "perceptual_score_image"),
    TEXT: ("perceptual_score_text",),
}
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
    keys = ("n", "mean", "ci_low", "ci_high", "p_holm", "p_balanced_holm", "n_to_settle", "ignored")
    values = {key: need(entry, key, where) for key in keys}
    lost = lost_accuracy(statistics["models"][model], str(entry["ignored"]))
    return Severity(in_house=in_house, lost=lost, reason=entry.get("reason", ""), **values)


def lost_accuracy(results: Mapping[str, Any], ignored: str) -> float | None:
    """Accuracy lost with the ignored modality swapped: against hard foils, where there are any, of the image."""
    for name in CONFIRMED_BY.get(ignored, ()):
        if (found := results.get(name)) and found["mean"] is not None:
            return float(found["mean"])
    return None


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
            if is_not_judged(entry.get("reason", "")):
                continue
            if entry["n"] < about["n_images"]:
                failures.append(f"{model} {measure} ({about['n_images'] - entry['n']} images undefined)")
            elif entry["p"] is None:
                failures.append(f"{model} {measure} ({entry['reason']})")
    return failures


def gates_of(params: Params) -> Gates:
    """The bounds of a study's decision."""
    chosen, stats = params.decision, params.stats
    return Gates(
        chosen.models_tested, chosen.models_severe, alpha=stats.alpha, imbalance=stats.severe,
        confirm_margin=chosen.confirm_margin,
    )  # fmt: skip


def decide_study(params: Params, statistics: Any, scores: Mapping[str, Mapping[str, Any]], file: str) -> dict[str, Any]:
    """The decision of a study by the measure that counts, and by every measure side by side.

    Parameters
    ----------
    statistics, file
        Content and name of the study's statistics.
    scores
        model -> its metrics, which say what its kind does not define.
    """
    chosen, models, gates = params.decision, params.models, gates_of(params)
    require_severity_measure(chosen.measure, "decision.measure")
    under_test = [name for name, spec in models.items() if spec.standing != "control"]
    measures: dict[str, dict[str, Any]] = {}
    for measure in SEVERITY_MEASURES:
        lacking = _lacking(statistics, scores, measure, under_test, file)
        measures[measure] = decide(
            {
                name: read_severity(statistics, name, measure, file, in_house=models[name].standing == "in-house")
                for name in under_test
                if name not in lacking
            },
            gates,
        )
        measures[measure]["not_judged"] = lacking
    counts = measures[chosen.measure]
    failures = diagnostic_failures(statistics, scores, file)
    return {
        **{name: counts[name] for name in READINGS},
        "measure": chosen.measure,
        "reason": f"{chosen.measure}: {counts['reason']}",
        "images_needed": counts["images_needed"],
        "models_needed": counts["models_needed"],
        "diagnostic_success": not failures,
        "diagnostic_failures": named(failures),
        "measures": measures,
    }


def _lacking(
    statistics: Any, scores: Mapping[str, Mapping[str, Any]], measure: str, under_test: list[str], file: str
) -> dict[str, str]:
    """Model -> why it is no model under test for a measure: its kind does not define it, its score means nothing, or it
    is a likelihood without hard foils."""
    found = {}
    for name in under_test:
        entry = severity_entry(statistics, name, measure, file)
        if measure in scores[name]["reasons"]:
            found[name] = scores[name]["reasons"][measure]
        elif is_not_judged(entry.get("reason", "")):
            found[name] = entry["reason"]
    return found
