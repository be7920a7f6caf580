"""Models trained on questions: what they answer right, and what is left without the image, as figure and as table."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attention_collapse.engine.answer_cells import PRIORS, plain
from attention_collapse.registry import kind_label
from attention_collapse.report.evidence import DASH, Evidence
from attention_collapse.report.figures import BOTH_COLUMNS, CAUSAL, NULL, SCORE, error_bar, number
from attention_collapse.report.latex import given, interval, table, value

SETS = {"train": "its own training", "test": "test as published", "test_shifted": "test with shifted prior"}
TICKS = ("own\ntraining", "test", "shifted\ntest")
LINES = (
    ("answer_accuracy", "accuracy", CAUSAL, "o"),
    ("answer_accuracy_blind", "blind: another image", SCORE, "s"),
    ("answer_accuracy_image_only", "image only: another question", "#009E73", "^"),
)
LEVELS = (("accuracy_question_only", "best question-only answer", "-"), ("accuracy_constant", "best constant", ":"))
CAPTION = (
    "easy-VQA: accuracy of answers on questions of the model's own training, on the published test, and on a test with "
    "rare favoured answers. Models were trained as published, or where one answer to each wording is right for "
    "{favoured:g} % of its questions. Marks: one model each, with {confidence:g} % intervals over images."
)


def answers_figure(models: Mapping[str, Mapping[str, Any]], favoured: float, confidence: float) -> Figure:
    """Accuracies by set, a panel for each kind and prior of the answers in training.

    Parameters
    ----------
    models
        Kind -> name of a cell -> set -> measure -> its summary; those that were trained plainly are shown.
    """
    of = {kind: {name: prior for name, (prior, _) in plain(named).items()} for kind, named in models.items()}
    panels = [(kind, prior) for kind in models for prior in PRIORS if prior in of[kind].values()]
    figure = Figure(figsize=(BOTH_COLUMNS, 3.3), layout="constrained")
    drawn = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (kind, prior) in zip(drawn, panels, strict=True):
        seeds = {name: one for name, one in models[kind].items() if of[kind].get(name) == prior}
        _panel(axes, seeds)
        axes.set_title(f"{kind_label(kind)},\ntrained {prior if prior == 'shifted' else 'as published'}", loc="left")
        axes.set_xticks(range(len(SETS)), TICKS)
    drawn[0].set(ylabel="accuracy of answers", ylim=(-0.02, 1.02))
    handles, labels = drawn[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    text = CAPTION.format(favoured=100 * favoured, confidence=100 * confidence)
    figure.supxlabel(textwrap.fill(text, int(19 * BOTH_COLUMNS)), fontsize=7, x=0.01, ha="left")
    return figure


COLUMNS = (
    ("answer_accuracy", "accuracy"), ("answer_accuracy_blind", "blind"), ("answer_accuracy_image_only", "image only"),
    ("accuracy_constant", "best constant"), ("accuracy_question_only", "best by the question"),
    ("gain_over_question_only", "gain over that"), ("reliance_image", "reliance on the image"),
    ("answer_flip_image", "flips with another image"),
)  # fmt: skip


def answers_table(models: Mapping[str, Mapping[str, Any]]) -> str:
    """A Markdown table of every plainly trained model on every set, with intervals where there are any."""
    heads = ["model", "seed", "trained", "answers", *(head for _, head in COLUMNS)]
    rows = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for kind, named in models.items():
        for name, (prior, seed) in plain(named).items():
            for key, label in SETS.items():
                cells = [kind_label(kind), str(seed), "shifted" if prior == "shifted" else "as published"]
                cells += [label, *(cell(named[name][key][column]) for column, _ in COLUMNS)]
                rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


PAPER = ("answer_accuracy", "answer_accuracy_blind", "accuracy_constant", "accuracy_question_only", "reliance_image",
         "answer_flip_image")  # fmt: skip


def answers_latex(source: Evidence) -> str:
    """The same as a table for the supplement, every number with its evidence and fewer columns."""
    heads = dict(COLUMNS) | {"accuracy_question_only": "by the question", "reliance_image": "reliance, image"}
    rows = []
    for kind, named in source.data["models"].items():
        for name, (prior, seed) in plain(named).items():
            about = [kind_label(kind), given(str(seed)), "shifted" if prior == "shifted" else "as published"]
            for key, label in SETS.items():
                at = f"models.{kind}.{name}.{key}"
                rows.append([*about, label, *(cited(source, f"{at}.{column}") for column in PAPER)])
                about = ["", "", ""]
    columns = [("l", "model"), ("l", "seed"), ("l", "trained"), ("l", "asked"), *[("l", heads[key]) for key in PAPER]]
    return table(columns, rows)


def cited(source: Evidence, at: str) -> str:
    """The mean of the summary `at` with its interval, if there is one, as a table's cell with their evidence."""
    shown, bounds = value(source, f"{at}.mean", 2), interval(source, at, 2)
    return shown if bounds == DASH else f"{shown} {bounds}"


def cell(summary: Mapping[str, Any]) -> str:
    """A mean with its interval, if there is one; a dash for what is undefined."""
    if not np.isfinite(mean := number(summary)):
        return "–"
    low, high = (number(summary, end) for end in ("ci_low", "ci_high"))
    bounds = f" [{low:.3f}, {high:.3f}]" if np.isfinite([low, high]).all() else ""
    return f"{mean:.3f}{bounds}".replace("-", "−")


def _panel(axes: Axes, seeds: Mapping[str, Mapping[str, Any]]) -> None:
    for key, label, style in LEVELS:
        for place, name in enumerate(SETS):
            level = float(np.mean([number(one[name][key]) for one in seeds.values()]))
            axes.plot([place - 0.38, place + 0.38], [level] * 2, style, color=NULL, label=label if not place else None)
    for index, (key, label, colour, marker) in enumerate(LINES):
        for place, name in enumerate(SETS):
            for order, one in enumerate(seeds.values()):
                x = place + 0.22 * (index - 1) + 0.06 * (order - (len(seeds) - 1) / 2)
                mean = number(one[name][key])
                named = label if not place and not order else None
                axes.plot(x, mean, marker, color=colour, label=named, markersize=3.5, linestyle="none")
                if bar := error_bar(one[name][key]):
                    axes.errorbar(x, mean, bar, color=colour, capsize=1.5, linewidth=0.8)
