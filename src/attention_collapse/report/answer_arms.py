"""Ways to train models that answer questions: what each gains where the prior of the answers is another, and what the
monitor saw while they were trained."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attention_collapse.engine.answer_cells import PLAIN, Prior, parts
from attention_collapse.registry import kind_label
from attention_collapse.report.answers import cell, cited
from attention_collapse.report.evidence import DASH, Evidence
from attention_collapse.report.figures import BOTH_COLUMNS, CALIBRATED, CAUSAL, NULL, SCORE, number
from attention_collapse.report.latex import escape, table

DRAWN = {  # prior, arm -> colour, line
    ("published", PLAIN): (NULL, ":"), ("shifted", PLAIN): (SCORE, "-"), ("shifted", "image-choice"): (CALIBRATED, "-"),
    ("shifted", "learned-mixin"): (CAUSAL, "--"),
}  # fmt: skip
ROWS = (("accuracy", "accuracy"), ("perceptual_score_image", "accuracy lost with\nanother image"))
CAPTION = (
    "What the monitor saw of models in training, on held-out questions whose answers have the prior of the training. A "
    "line is one model. Triangles: the alarm that the image is unused rings (filled) and ends (hollow)."
)
ARM_COLUMNS = (
    ("own_training", "accuracy, its own training"), ("test", "test as published"),
    ("test_shifted", "test with shifted prior"), ("gain", "gain on that"), ("change_trained", "change on its own"),
    ("reliance_image", "reliance on the image"), ("flips", "flips with another image"),
)  # fmt: skip


def label_of(prior: str, arm: str) -> str:
    """A way to train in words."""
    return "plain, prior as published" if prior == "published" else f"{_words(arm)}, shifted prior"


def _words(arm: str) -> str:
    return "plain" if arm == PLAIN else arm.replace("-", " ")


def answer_arms_table(kinds: Mapping[str, Mapping[str, Any]]) -> str:
    """A Markdown table, a row for each kind and arm: means over seeds with their t intervals, and the verdict.

    Parameters
    ----------
    kinds
        Kind -> what `engine.answer_arms.arms` gives.
    """
    heads = ["model", "training, shifted prior", "seeds", *(head for _, head in ARM_COLUMNS), "verdict"]
    rows = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for kind, named in kinds.items():
        for arm, found in named.items():
            cells = [kind_label(kind), _words(arm), str(found["n_seeds"])]
            cells += [cell(found[key]) if key in found else "–" for key, _ in ARM_COLUMNS]
            rows.append("| " + " | ".join([*cells, found.get("verdict", "–")]) + " |")
    return "\n".join(rows) + "\n"


def at_inference_table(kinds: Mapping[str, Mapping[str, Any]]) -> str:
    """A Markdown table, a row for each kind, prior and remedy at inference, as of `answer_arms_table`.

    Parameters
    ----------
    kinds
        Kind -> what `engine.answer_contrast.at_inference` gives.
    """
    columns = (
        ("own_training", "accuracy, its own training"), ("change_trained", "change on that"),
        ("test", "test as published"), ("gain_test", "gain on that"),
        ("test_shifted", "test with shifted prior"), ("gain", "gain on that"),
    )  # fmt: skip
    heads = ["model", "prior in training", "contrast with", *(head for _, head in columns), "verdict"]
    rows = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for kind, priors in kinds.items():
        for prior, named in priors.items():
            for remedy, found in named.items():
                said = [kind_label(kind), "as published" if prior == "published" else prior, remedy]
                rows.append(
                    "| " + " | ".join([*said, *(cell(found[key]) for key, _ in columns), found["verdict"]]) + " |"
                )
    return "\n".join(rows) + "\n"


def answer_arms_latex(source: Evidence) -> str:
    """The same as a table for the supplement, every number with its evidence."""
    shown = ("own_training", "test", "test_shifted", "gain", "change_trained")
    heads = dict(ARM_COLUMNS) | {"own_training": "own training", "gain": "gain there", "change_trained": "own, change"}
    rows = []
    for kind, named in source.data["arms"].items():
        for arm, found in named.items():
            at = f"arms.{kind}.{arm}"
            cells = [cited(source, f"{at}.{key}") if key in found else DASH for key in shown]
            rows.append([kind_label(kind), escape(_words(arm)), *cells, found.get("verdict", DASH)])
    columns = [("l", "model"), ("l", "training"), *[("l", heads[key]) for key in shown], ("l", "verdict")]
    return table(columns, rows)


def alarms_table(kinds: Mapping[str, Mapping[str, Any]]) -> str:
    """A Markdown table of the alarms that the image is unused, a row for each way to train.

    Parameters
    ----------
    kinds
        Kind -> name of a cell -> what `engine.answer_arms.rang` gives.
    """
    heads = ("model", "training", "models", "rang", "first at step", "still rings at the end")
    rows = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for kind, named in kinds.items():
        ways: dict[tuple[Prior, str], list[Mapping[str, Any]]] = {}
        for name, found in named.items():
            prior, arm, _ = parts(name)
            ways.setdefault((prior, arm), []).append(found["image"])
        for (prior, arm), seen in ways.items():
            rang = [one for one in seen if one["times"]]
            steps = ", ".join(f"{one['rang_at']:g}" for one in rang) or "–"
            still = sum(bool(one["rings_at_end"]) for one in seen)
            about = (kind_label(kind), label_of(prior, arm), len(seen), len(rang), steps, still)
            rows.append("| " + " | ".join(map(str, about)) + " |")
    return "\n".join(rows) + "\n"


def watched_figure(curves: Mapping[str, Mapping[str, pd.DataFrame]], alarms: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Accuracy, and what it loses with another image, against the step; a column for each kind.

    Parameters
    ----------
    curves, alarms
        Kind -> name of a cell -> what `engine.answer_arms.watched`, `rang` give.
    """
    figure = Figure(figsize=(BOTH_COLUMNS, 4.2), layout="constrained")
    panels = figure.subplots(len(ROWS), len(curves), sharex=True, sharey="row", squeeze=False)
    for column, (kind, named) in enumerate(curves.items()):
        for name, seen in named.items():
            _line(panels[:, column], parts(name), seen, alarms[kind][name]["image"])
        panels[0, column].set_title(kind_label(kind), loc="left")
        panels[-1, column].set_xlabel("step")
    for axes, (_, label) in zip(panels[:, 0], ROWS, strict=True):
        axes.set_ylabel(label)
    found = {label: line for axes in panels[0] for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(found.values(), found.keys(), loc="outside upper center", ncols=len(found), fontsize=7)
    figure.supxlabel(textwrap.fill(CAPTION, int(19 * BOTH_COLUMNS)), fontsize=7, x=0.01, ha="left")
    return figure


def _line(panels: np.ndarray, about: tuple[str, str, int], seen: pd.DataFrame, alarm: Mapping[str, float]) -> None:
    """One model in every row, with the marks of its first alarm in the last."""
    prior, arm, _ = about
    colour, style = DRAWN.get((prior, arm), ("0.6", "-"))
    for axes, (name, _) in zip(panels, ROWS, strict=True):
        label = label_of(prior, arm) if label_of(prior, arm) not in axes.get_legend_handles_labels()[1] else None
        axes.plot(seen["step"], seen[name], style, color=colour, linewidth=1, label=label)
    for key, face in (("rang_at", colour), ("ended_at", "none")):
        if np.isfinite(at := number(alarm, key)):
            _mark(panels[-1], seen, at, colour, face)


def _mark(axes: Axes, seen: pd.DataFrame, step: float, colour: str, face: str) -> None:
    height = float(seen.loc[seen["step"] == step, ROWS[-1][0]].iloc[0])
    axes.plot(step, height, "^", color=colour, markerfacecolor=face, markersize=5, zorder=4)
