"""`progress_update.md`: what ran, what came out, what is in the way, what to do."""

from __future__ import annotations

from collections.abc import Mapping

from attention_collapse.report.evidence import Evidence
from attention_collapse.report.markdown import Sources, code, estimate, level, number, run, table, text
from attention_collapse.report.model_report import trust
from attention_collapse.report.verdict import headline


def _runs(sources: Sources) -> str:
    whole: dict[str, Evidence | None] = {
        "fetch_coco": sources.pairs, "stats": sources.statistics, "decision": sources.decision,
        "audit": sources.audit, "validity": sources.validity,
    }  # fmt: skip
    rows = [[code(stage), "all", run(found) if found else "has not run"]
            for stage, found in whole.items()]  # fmt: skip
    for stage, files in (("compute_mcs", sources.scores), ("contribution", sources.causal)):
        rows += [[code(stage), code(model), run(files[model]) if model in files else "has not run"]
                 for model in sources.models]  # fmt: skip
    return table([("l", "Stage"), ("l", "model"), ("l", "metrics file (its run: see Sources)")], rows)


def _results(sources: Sources) -> str:
    statistics, rows = sources.statistics, []
    for model in sources.measured:
        at = f"models.{model}"
        rows.append([
            code(model), sources.standing[model], number(statistics, f"{at}.mcs.n"),
            estimate(statistics, f"{at}.mcs"), number(statistics, f"{at}.mcs_null.mean"),
            estimate(statistics, f"{at}.mcs_calibrated"), estimate(statistics, f"{at}.reliance_share"),
            text(statistics, f"{at}.reading_original"), text(statistics, f"{at}.reading_null"),
        ])  # fmt: skip
    columns = [
        ("l", "Model"), ("l", "standing"), ("r", "images"), ("l", f"MCS ({level(statistics)})"), ("r", "null"),
        ("l", "calibrated"), ("l", "reliance share of the image"), ("l", "original reading"), ("l", "null reading"),
    ]  # fmt: skip
    return table(columns, rows) if rows else "No model of this study has results: nothing is claimed.\n"


def missing(sources: Sources) -> Mapping[str, str]:
    """Model of the parameters without results -> the first thing that is absent."""
    reasons = {}
    for model in sources.models:
        if model in sources.measured:
            continue
        command = (
            f"`python -m attention_collapse.stages.extract_attention --params {sources.params_file} --model {model}`"
        )
        if model not in sources.checkpoints:
            reasons[model] = (
                f"its weights have not been loaded (no `data/{sources.study}/checkpoints/{model}.json`); "
                f"{command} loads them or says why it cannot"
            )
        elif model not in sources.scores:
            reasons[model] = "loaded, but without scores: the stage compute_mcs has not run"
        elif model not in sources.causal:
            reasons[model] = "scored, but without causal measures: the stage contribution has not run"
        else:
            reasons[model] = "measured, but not in the statistics: the stage stats has not run since"
    return reasons


def _blockers(sources: Sources) -> str:
    lines = [f"- {code(model)} has no results: {reason}" for model, reason in missing(sources).items()]
    statistics, decision, validity = sources.statistics, sources.decision, sources.validity
    if statistics is None:
        lines.insert(0, f"- study {code(sources.study)} has not run: there are no statistics, and nothing is filled in")
    for model in sources.measured:
        if not sources.results(model)["mcs"]["n"]:
            lines.append(f"- {code(model)} has no MCS: {text(statistics, f'models.{model}.mcs.reason')}")
    if decision and not decision.data["diagnostic_success"]:
        lines.append(f"- measures that did not come out whole: {text(decision, 'diagnostic_failures')}")
    if sources.pairs and sources.pairs.data.get("n_skipped"):
        lines.append(f"- pairs skipped: {number(sources.pairs, 'n_skipped')} (the manifest says why)")
    if validity is None:
        lines.append("- the planted models have not been measured, so no measure is known to be trustworthy")
    else:
        lines += [
            f"- planted model {code(f'{kind} {name}')} is excluded by rule: "
            f"{text(validity, f'kinds.{kind}.excluded.{name}')}"
            for kind, found in validity.data["kinds"].items()
            for name in found["excluded"]
        ]
    return "\n".join(lines) + "\n" if lines else "None.\n"


def _recommendation(sources: Sources) -> str:
    decision = sources.decision
    if decision is None:
        return "None: a study that has not run decides nothing.\n"
    advice = {
        "GO": "Go on: several external models are severe by the measure that counts, and their accuracy confirms it.",
        "PIVOT": "Turn to the in-house models: only they are severe, and every external one is shown not to be.",
        "NO_GO": "Stop: every model is shown not to be severe.",
        "NEED_MORE_DATA": "Decide nothing yet. What would settle it stands below: images, models, or both.",
    }[decision.data["decision"]]
    return f"{advice}\n\n{headline(decision)}"


def progress_update(sources: Sources) -> str:
    """What ran, results, blockers, recommendation."""
    pairs = sources.pairs
    data = (
        f"{number(pairs, 'n_images')} images with {number(pairs, 'n_captions')} captions from "
        f"{text(pairs, 'source')}; {number(pairs, 'n_skipped')} skipped."
        if pairs
        else "No pairs yet."
    )
    return "\n".join([
        f"# Progress of study {code(sources.study)}", "",
        "This speaks of one study; each has a folder beside this one, and a study without a folder has not run.", "",
        "## What ran", "", data, "", _runs(sources),
        "## Results", "", _results(sources), trust(sources),
        "## Blockers", "", _blockers(sources),
        "## Recommendation", "", _recommendation(sources),
    ])  # fmt: skip
