"""The figure of models trained on questions: what they answer right, and what is left without the image."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attention_collapse.registry import kind_label
from attention_collapse.report.figures import BOTH_COLUMNS, CAUSAL, NULL, SCORE, error_bar, number

SETS = {"train": "its own\ntraining", "test": "test as\npublished", "test_shifted": "test with\nshifted prior"}
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
        Kind -> "<prior>-<seed>" -> set -> measure -> its summary.
    """
    panels = [(kind, prior) for kind in models for prior in ("published", "shifted")]
    panels = [(kind, prior) for kind, prior in panels if any(name.startswith(prior) for name in models[kind])]
    figure = Figure(figsize=(BOTH_COLUMNS, 3.3), layout="constrained")
    drawn = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (kind, prior) in zip(drawn, panels, strict=True):
        seeds = {name: one for name, one in models[kind].items() if name.startswith(prior)}
        _panel(axes, seeds)
        axes.set_title(f"{kind_label(kind)},\ntrained {prior if prior == 'shifted' else 'as published'}", loc="left")
        axes.set_xticks(range(len(SETS)), list(SETS.values()))
    drawn[0].set(ylabel="accuracy of answers", ylim=(-0.02, 1.02))
    handles, labels = drawn[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    text = CAPTION.format(favoured=100 * favoured, confidence=100 * confidence)
    figure.supxlabel(textwrap.fill(text, int(19 * BOTH_COLUMNS)), fontsize=7, x=0.01, ha="left")
    return figure


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
