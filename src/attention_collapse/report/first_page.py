"""`index.md`: what was asked, on what, what was found, what it does not show; other reports hold the details."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

from attention_collapse.report.markdown import Sources, code, exists, figure, interval, level, number, table, text

QUESTION = """\
Do these models use both the picture and the text, or have they quietly stopped using one of them (*attention
collapse*)? Collapse is often read off a score of attention, the **MCS**: vision's share of attention entropy. So a
second question comes with it: does that score answer the first one?
"""
PICTURES = {
    "embedded": "The pictures are drawings that this project renders itself, and no photographs: what holds for them "
    "need not hold for photographs.",
    "val2017": "The pictures are photographs of COCO's validation set.",
}
DECISIONS = {
    "GO": "several models from the field are shown to lean on one input severely, and their accuracy confirms it: "
    "collapse is worth a study of its own.",
    "PIVOT": "only models made here are severe, and every model from the field is shown not to be: look for the cause "
    "in our own models.",
    "NO_GO": "every model is shown not to be severe.",
    "NEED_MORE_DATA": "neither is shown yet. It is no result for either side.",
}
THREE_NUMBERS = """\
- **MCS** beside its **null**: what attention that looks at nothing in particular would score with the same numbers of
  tokens. An MCS near its null is a statement about token counts.
- **Reliance**: how far the model's score moves when one input is another pair's, over how far it moves when both are.
  `0` means that the input is not used. Its **share** is the image's part of the two: `0.5` is balance.
- **Accuracy against hard foils**: how often the true text beats one with a single thing changed. `0.5` is guessing.
"""
STANDINGS = """\
*In-house* models were made for this project, *external* ones come from the field, and a *control* is an architecture
with random weights: it is shown beside the others and never counted.
"""
NOT_SHOWN = (
    "Attention says where a model looks, and not what its answer depends on: the two may disagree.",
    "Reliance is about these pairs: a model that uses both inputs here may drop one elsewhere.",
    "A model that cannot tell matching pairs from others has no reliance, and counts for nothing.",
)


def _found(sources: Sources) -> str:
    statistics, rows = sources.statistics, []
    for model in sources.measured:
        at = f"models.{model}"
        rows.append([
            code(model), sources.standing[model],
            _short(sources, f"{at}.mcs"), number(statistics, f"{at}.mcs_null.mean"),
            text(statistics, f"{at}.reading_original"), _short(sources, f"{at}.reliance_image"),
            _short(sources, f"{at}.reliance_text"), _short(sources, f"{at}.reliance_share"),
            _short(sources, f"{at}.accuracy_hard"),
        ])  # fmt: skip
    columns = [
        ("l", "Model"), ("l", "what it is"), ("r", "MCS"), ("r", "null"), ("l", "by the reported cut-offs"),
        ("r", "reliance on the image"), ("r", "on the text"), ("l", f"share ({level(statistics)})"),
        ("r", "accuracy, hard foils"),
    ]  # fmt: skip
    return table(columns, rows)


def _short(sources: Sources, key: str) -> str:
    """A mean, with its interval where it is a share; a dash where it is not defined: other reports say why."""
    mean = number(sources.statistics, f"{key}.mean")
    if key.endswith("_share") and exists(sources.statistics, f"{key}.ci_low"):
        return f"{mean} ({interval(sources.statistics, f'{key}.')})"
    return mean


def _verdicts(sources: Sources) -> str:
    """A sentence for each model under test, as the decision has it."""
    decision = sources.decision
    if decision is None:
        return ""
    measure = decision.data["measure"]
    found, lines = decision.data["measures"][measure], []
    for model, judged in found["models"].items():
        at = f"measures.{measure}.models.{model}"
        if judged["not_severe"]:
            said = "is shown **not** to lean on one input severely"
        elif judged["severe"]:
            said = f"is shown to lean on one input severely; what it uses less is {text(decision, f'{at}.ignored')}"
        else:
            said = "is undecided: its interval holds both a severe and a harmless imbalance"
        reading = str(sources.results(model)["reading_original"])
        but = (
            f" By the reported cut-offs of the MCS it would be a {code(reading)}."
            if reading.endswith("collapse")
            else ""
        )
        lines.append(
            f"- {code(model)} {said}: the larger share of the two is {number(decision, f'{at}.mean')} on average "
            f"({interval(decision, f'{at}.')}), where `0.5` is balance.{but}"
        )
    lines += [
        f"- {code(model)} is not judged: {text(decision, f'measures.{measure}.not_judged.{model}')}."
        for model in found["not_judged"]
    ]
    return "\n".join([*lines, ""])


def _figures(sources: Sources) -> list[str]:
    """Two figures with what to look for."""
    captions = {
        "cross_model_comparison": "Every model and measure. The grey bar is what it would be under its null, chance or "
        "balance; hollow marks are controls.",
        "separation": "Does a measure tell models that were trained to ignore one input from those that use both? "
        "Blue: as it claims; orange: the reverse.",
    }
    return [part for path in sources.overview for part in (figure(path), captions[PurePosixPath(path).stem] + "\n")]


def _limits(sources: Sources) -> str:
    lines = list(NOT_SHOWN)
    if "external" not in sources.standing.values():
        lines.insert(0, "No model from the field was measured: nothing here is a claim about such models.")
    if sources.validity is None:
        lines.append("The measures were not held against models with a planted answer.")
    else:
        lines.append(
            f"With {number(sources.validity, 'seeds_a_side')} planted models on each side, no measure's verdict "
            "reaches beyond the models that were tried."
        )
    return "\n".join(f"- {line}" for line in lines) + "\n"


def _next(sources: Sources) -> str:
    decision = sources.decision
    if decision is None:
        return ""
    lines = [f"The decision is **{text(decision, 'decision')}**: {DECISIONS[decision.data['decision']]}", ""]
    needed = [
        f"{number(decision, key)} more {what}"
        for key, what in (
            ("images_needed", "images for each undecided model"),
            ("models_needed", "model(s) under test"),
        )
        if decision.data[key]
    ]
    if needed:
        lines += [f"What would settle it: {' and '.join(needed)}.", ""]
    others = [f"- {code(name)}: {meaning}" for name, meaning in DECISIONS.items() if name != decision.data["decision"]]
    return "\n".join([*lines, "The other decisions that the rule knows:", "", *others, ""])


def first_page(sources: Sources, files: Mapping[str, str]) -> str:
    """The page that a reader opens first; `files`: file name -> what it is, of the reports that were written."""
    details = table([("l", "Report"), ("l", "what it holds")],
                    [[f"[{name.removesuffix('.md')}]({name})", about] for name, about in files.items()])  # fmt: skip
    title = f"# Study {code(sources.study)} on one page"
    if not sources.measured:
        nothing = "This study has not run: it has no results, and nothing is claimed."
        return "\n".join([title, "", nothing, "", "## Details", "", details])
    pairs = sources.pairs
    source = str(pairs.data["source"]) if pairs else ""
    measured = (
        f"{number(pairs, 'n_images')} images with {number(pairs, 'n_captions')} captions; "
        f"{number(pairs, 'n_skipped')} items could not be used and are named in the manifest. "
        + PICTURES.get(source, "What the pictures show, this report does not know.")
    )
    return "\n".join([
        title, "", "## What was asked", "", QUESTION, "## On what", "", measured, "",
        "## What was found", "", THREE_NUMBERS, STANDINGS, _found(sources), _verdicts(sources), *_figures(sources),
        "## What it does not show", "", _limits(sources), "## What to do next", "", _next(sources),
        "## Details", "", details,
    ])  # fmt: skip
