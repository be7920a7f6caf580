"""`<model>_diagnostic_results.md`: everything the study found about one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attention_collapse.measures.attention import ATTENTION_MEASURES
from attention_collapse.measures.catalogue import HYPOTHESES, MEASURES
from attention_collapse.measures.contribution import CONTRIBUTION_MEASURES
from attention_collapse.measures.record import Measure
from attention_collapse.report.evidence import Evidence
from attention_collapse.report.markdown import (
    Sources,
    code,
    estimate,
    exists,
    figure,
    interval,
    level,
    number,
    run,
    table,
    text,
)
from attention_collapse.report.measures import words

HOW_TO_READ = """\
**Two questions.** Attention measures say where the model looks; measures that swap an input say what its answer depends
on. Only the second is a contribution, and the two may disagree. Read reliance on the image and on the text first, then
the share: `0.5` is two equal reliances. Read the choices beside it, which a language prior does not move for two images
of one text. The mean Shapley share of a dual encoder is `0.5` by construction. A model at chance has none of these.

**The original reading** takes MCS below `0.3` for collapse of the text and above `0.7` for collapse of vision, and an
imbalance max(s, `1` − s) above `0.8` for severe. **The null reading** asks what attention that looks at nothing in
particular would score with the same numbers of tokens: a calibrated MCS of `0.5` is no departure from that. An MCS
above `0.7` with a null near it is a statement about token counts. Untrained models leave the null too, so a departure
is no sign of collapse either: hold it beside the untrained controls.
"""


def trust(sources: Sources) -> str:
    """Which measures the planted models support, in one paragraph."""
    validity = sources.validity
    if validity is None:
        return (
            "No measure is supported by planted models yet: `metrics/embedded/validity.json`, the test on models whose "
            "answer is known, does not exist.\n"
        )
    kinds = validity.data["kinds"]
    counts = ", ".join(f"{code(kind)} ({number(validity, f'kinds.{kind}.n_models')} models)" for kind in kinds)
    return (
        f"On models whose answer was planted ({counts}), these measures placed every model that ignores a modality on "
        f"the side that they claim, in every kind: {text(validity, 'as_claimed_in_words')}. Every other measure did "
        "not for at least one kind, or does not exist there, and supports no claim by itself. A kind that is not named "
        "here was not tested.\n\n"
        f"Of other models of a kind this says little: with {number(validity, 'seeds_a_side')} seeds on each side "
        f"an AUROC of one has the interval [{number(validity, 'perfect_ci_low', 2)}, `1`], and a verdict takes "
        f"{number(validity, 'seeds_needed')} or more. Measures whose interval lies above chance in every kind: "
        f"{text(validity, 'separates_in_words')}.\n"
    )


def figures(paths: Sequence[str]) -> list[str]:
    """A chapter of figures; nothing where there is none."""
    return ["## Figures", "", *map(figure, paths)] if paths else []


def effect(statistics: Evidence | None, key: str) -> str:
    """An effect size with its interval, where there is one."""
    found = number(statistics, key, 2)
    return f"{found} ({interval(statistics, f'{key}_', 2)})" if exists(statistics, f"{key}_ci_low") else found


def standing(sources: Sources, model: str) -> str:
    """What the model is to the decision, in a sentence."""
    return {
        "control": "> **Control.** The weights are untrained. This is no result about a trained model, and it is not "
        "counted in the decision.",
        "in-house": "An in-house model under test: it alone supports no claim about models in the field.",
        "external": "An external model under test.",
    }[sources.standing[model]]


def _about(sources: Sources, model: str) -> str:
    scores, causal, statistics = sources.scores[model], sources.causal[model], sources.statistics
    rows = [
        ["kind", f"{code(sources.models[model])}, {text(scores, 'family')}"],
        ["weights", text(scores, "weights")],
        ["revision", text(scores, "weights_revision")],
        ["sha256 of the weights", text(scores, "weights_sha256")],
        ["parameters", number(scores, "parameters")],
        ["control", "yes" if sources.standing[model] == "control" else "no"],
        ["images, pairs", f"{number(scores, 'n_images')}, {number(scores, 'n_pairs')}"],
        ["captions cut to the context", f"{number(scores, 'n_truncated_captions')} of {number(scores, 'n_pairs')}"],
        ["caption tokens unknown to it", number(scores, "captions.unknown_share", "percent1")],
        ["query rows", text(scores, "rows")],
        *([["reliance is of", text(causal, "reliance_of")]] if exists(causal, "reliance_of") else []),
        ["metrics", f"{run(scores)}, {run(causal)}, {run(statistics)}"],
    ]  # fmt: skip
    notes = [f"- {text(scores, key)}" for key in scores.scalars if key.startswith("notes.")]
    return "\n".join([table([("l", "The model"), ("l", "")], rows), *notes])


def _shares(sources: Sources, model: str) -> str:
    statistics, rows = sources.statistics, []
    for name, measure in MEASURES.items():
        if not measure.share_of:
            continue
        at = f"models.{model}.{name}"
        forms = ("rest1", "percent1") if measure.of_text else ("percent1", "rest1")
        image, text_share = (number(statistics, f"{at}.mean", form) for form in forms)
        side = "text" if measure.of_text else "image"
        rows.append([words(measure.label), image, text_share, f"{side}: {interval(statistics, f'{at}.', 'percent1')}",
                     measure.share_of])  # fmt: skip
    columns = [
        ("l", "Share"), ("r", "vision %"), ("r", "text %"), ("l", level(statistics)), ("l", "a share …"),
    ]  # fmt: skip
    return table(columns, rows)


def _estimates(sources: Sources, model: str, measures: Mapping[str, Measure]) -> str:
    rows = [
        [f"{words(measure.label)} ({measure.unit})", estimate(sources.statistics, f"models.{model}.{name}"),
         number(sources.statistics, f"models.{model}.{name}.n")]
        for name, measure in measures.items() if name in sources.results(model)
    ]  # fmt: skip
    return table([("l", "Measure"), ("l", f"mean ({level(sources.statistics)})"), ("r", "images")], rows)


def _severity(sources: Sources, model: str) -> str:
    statistics, decision, rows = sources.statistics, sources.decision, []
    for measure in sources.results(model)["severity"]:
        at = f"models.{model}.severity.{measure}"
        rows.append([
            code(measure), number(statistics, f"{at}.n"), estimate(statistics, at),
            number(statistics, f"{at}.share_severe", "percent1"), number(statistics, f"{at}.log10_p", "log10p"),
            number(statistics, f"{at}.p_holm", "p"), effect(statistics, f"{at}.cohen_d"),
            number(statistics, f"{at}.p_balanced_holm", "p"), number(statistics, f"{at}.n_to_settle"),
            text(decision, f"measures.{measure}.models.{model}.severe"),
            text(decision, f"measures.{measure}.models.{model}.not_severe"),
        ])  # fmt: skip
    columns = [
        ("l", "Measure"), ("r", "images"), ("l", f"imbalance ({level(statistics)})"), ("r", "severe images"),
        ("r", "p"), ("r", "p severe (Holm)"), ("l", "Cohen's d"), ("r", "p not severe (Holm)"),
        ("r", "images to settle it"), ("l", "severe"), ("l", "not severe"),
    ]  # fmt: skip
    return table(columns, rows)


def _tests(sources: Sources, model: str) -> str:
    statistics, rows = sources.statistics, []
    for key, hypothesis in HYPOTHESES.items():
        at = f"models.{model}.tests.{key}"
        rows.append([
            words(hypothesis), number(statistics, f"{at}.t", 2), number(statistics, f"{at}.log10_p", "log10p"),
            number(statistics, f"{at}.p_holm", "p"), number(statistics, f"{at}.wilcoxon_p", "p"),
            number(statistics, f"{at}.permutation_p", "p"), effect(statistics, f"{at}.cohen_d"),
            effect(statistics, f"{at}.hedges_g"),
        ])  # fmt: skip
    columns = [
        ("l", "Hypothesis"), ("r", "t"), ("r", "p"), ("r", "p (Holm)"), ("r", "p (Wilcoxon)"), ("r", "p (permutation)"),
        ("l", "Cohen's d"), ("l", "Hedges' g"),
    ]  # fmt: skip
    return table(columns, rows)


def _undefined(sources: Sources, model: str) -> str:
    statistics, found = sources.statistics, sources.results(model)
    lines = [
        f"- {code(name)}: {text(statistics, f'models.{model}.{name}.reason')}"
        for name in MEASURES
        if isinstance(found.get(name), dict) and not found[name]["n"]
    ]
    return "\n".join(dict.fromkeys(lines)) + "\n" if lines else "None: the model defines every measure.\n"


def diagnostic_results(sources: Sources, model: str) -> str:
    """The report of one model that has results."""
    statistics = sources.statistics
    at = f"models.{model}"
    readings = (
        f"By the original thresholds: {text(statistics, f'{at}.reading_original')}; "
        f"{number(statistics, f'{at}.share_of_pairs_above_0_7', 'percent1')} of the pairs lie above `0.7`, and uniform "
        f"attention already has {number(statistics, f'{at}.share_of_nulls_above_0_7', 'percent1')} there. Against the "
        f"null: {text(statistics, f'{at}.reading_null')}."
    )
    untrained = f"{at}.mcs_untrained"
    if statistics is not None and f"{untrained}.mean" in statistics:
        readings += (
            f" The same architecture untrained scores {number(statistics, f'{untrained}.mean')} "
            f"(seeds: {number(statistics, f'{untrained}.n_seeds')})."
        )
    return "\n".join([
        f"# {code(model)}: diagnostic results", "", f"Study {code(sources.study)}.", "", standing(sources, model), "",
        _about(sources, model), "",
        "## Where it looks, and what it uses", "", _shares(sources, model), readings, "",
        "## Attention", "", _estimates(sources, model, ATTENTION_MEASURES),
        "## Contribution", "", _estimates(sources, model, CONTRIBUTION_MEASURES),
        "## Imbalance and severity", "",
        f"The null hypothesis is a mean imbalance of at most {number(statistics, 'severe', 2)}; controls are not "
        "corrected and decide nothing.", "",
        _severity(sources, model),
        "## Tests", "", _tests(sources, model),
        "## Undefined measures", "", _undefined(sources, model),
        *figures(sources.figures.get(model, ())),
        "## How to read this", "", HOW_TO_READ, trust(sources),
    ])  # fmt: skip
