"""`decision.md`: the decision by every measure side by side, and its gates with their numbers."""

from __future__ import annotations

from attention_collapse.report.evidence import Evidence
from attention_collapse.report.markdown import code, interval, number, run, table, text

GATES = {
    "models_tested": "models tested, at least",
    "models_severe": "external models severe, at least",
    "p": "p (Holm) of that many models, below",
    "imbalance": "imbalance of that many models, above",
    "confirmed": "of them confirmed by accuracy, at least",
}


def _measures(decision: Evidence) -> str:
    rows = []
    for measure in decision.data["measures"]:
        at = f"measures.{measure}"
        rows.append([
            code(measure), f"**{text(decision, f'{at}.decision')}**", text(decision, f"{at}.severe_two_of_three"),
            text(decision, f"{at}.severe_all"), number(decision, f"{at}.n_tested"), text(decision, f"{at}.severe"),
            text(decision, f"{at}.undecided"), number(decision, f"{at}.images_needed"),
            number(decision, f"{at}.models_needed"),
        ])  # fmt: skip
    columns = [
        ("l", "Measure"), ("l", "decision"), ("l", "if two must be severe"), ("l", "if all must be severe"),
        ("r", "models tested"), ("l", "severe"), ("l", "undecided"), ("r", "images needed"), ("r", "models needed"),
    ]  # fmt: skip
    return table(columns, rows)


def _gates(decision: Evidence, measure: str) -> str:
    at = f"measures.{measure}.gates"
    rows = [
        [name, number(decision, f"{at}.{gate}.required"), number(decision, f"{at}.{gate}.found", _form(gate)),
         "met" if decision.data["measures"][measure]["gates"][gate]["met"] else "**unmet**"]
        for gate, name in GATES.items()
    ]  # fmt: skip
    return table([("l", "Gate of GO"), ("r", "required"), ("r", "found"), ("l", "")], rows)


def _form(gate: str) -> int | str:
    return "p" if gate == "p" else 3


def _models(decision: Evidence, measure: str) -> str:
    found, rows = decision.data["measures"][measure], []
    for model in found["models"]:
        at = f"measures.{measure}.models.{model}"
        rows.append([
            code(model), number(decision, f"{at}.n"), number(decision, f"{at}.mean"),
            interval(decision, f"{at}."), text(decision, f"{at}.ignored"), number(decision, f"{at}.p_holm", "p"),
            number(decision, f"{at}.p_balanced_holm", "p"), number(decision, f"{at}.lost"),
            text(decision, f"{at}.severe"), text(decision, f"{at}.not_severe"),
            number(decision, f"{at}.n_to_settle"), text(decision, f"{at}.reason"),
        ])  # fmt: skip
    columns = [
        ("l", "Model under test"), ("r", "images"), ("r", "imbalance"), ("l", "CI"), ("l", "used less"),
        ("r", "p severe (Holm)"), ("r", "p not severe (Holm)"), ("r", "accuracy lost without it"), ("l", "severe"),
        ("l", "not severe"), ("r", "images to settle it"), ("l", "why not tested"),
    ]  # fmt: skip
    lacking = [f"- {code(model)}: {text(decision, f'measures.{measure}.not_judged.{model}')}"
               for model in found["not_judged"]]  # fmt: skip
    parts = [table(columns, rows)] if rows else ["No model under test defines this measure.\n"]
    return "\n".join([*parts, *(["Not judged:", "", *lacking, ""] if lacking else [])])


def headline(decision: Evidence) -> str:
    """The decision, both readings of "how many models", and DIAGNOSTIC_SUCCESS, as a list."""
    success = "yes" if decision.data["diagnostic_success"] else "no"
    return "\n".join([
        f"- decision: **{text(decision, 'decision')}**: {text(decision, 'reason')}",
        f"- if two external models must be severe (two of three): {text(decision, 'severe_two_of_three')}",
        f"- if all must be (three of three): {text(decision, 'severe_all')}",
        f"- the measure that counts: {text(decision, 'measure')}; a severe model counts for a GO if its accuracy "
        "confirms it",
        *_needed(decision),
        f"- DIAGNOSTIC_SUCCESS: {success} (failed: {text(decision, 'diagnostic_failures')})", "",
    ])  # fmt: skip


def _needed(decision: Evidence) -> list[str]:
    """What would settle a decision that waits; nothing where nothing would."""
    lines = []
    if decision.data["images_needed"]:
        lines.append(f"- images that would settle every undecided model: {number(decision, 'images_needed')} for each")
    if decision.data["models_needed"]:
        lines.append(f"- further models needed: {number(decision, 'models_needed')}")
    return lines


def decision_report(decision: Evidence, study: str) -> str:
    """The whole report."""
    parts = [
        f"# Decision of study {code(study)}", "", f"From {run(decision)}.", "", headline(decision),
        "The measure that counts is named in the parameters, and their history in git says when. The Shapley share was "
        "chosen after the planted models had first been measured; the reliance share replaced it after a review showed "
        "that the mean Shapley share of a dual encoder is one half by construction. So neither choice was blind to the "
        "embedded study. Controls are no models under test, and neither is a model whose score "
        "tells matching pairs from others no better than chance.", "",
        "## By every measure", "", _measures(decision),
    ]  # fmt: skip
    for measure in decision.data["measures"]:
        parts += [f"## {code(measure)}", "", text(decision, f"measures.{measure}.reason") + ".", "",
                  _gates(decision, measure), _models(decision, measure)]  # fmt: skip
    return "\n".join(parts)
