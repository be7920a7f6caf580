"""What a model's score depends on, image or text, for every kind of model, attention or not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from attention_collapse.engine.alike import same_pairs
from attention_collapse.engine.hard import Hard
from attention_collapse.engine.pieces import Runner, here
from attention_collapse.engine.scoring import Cells, score_cells
from attention_collapse.identity.settle import with_slack
from attention_collapse.measures.contribution import CONTRIBUTION_MEASURES
from attention_collapse.measures.matching import (
    Grid,
    accuracy,
    accuracy_additive,
    accuracy_without_image,
    accuracy_without_text,
    won,
)
from attention_collapse.measures.reliance import LOST, NO_DECISION, RELIANCE, squared_slack, term_slack
from attention_collapse.measures.sobol import sobol_parts
from attention_collapse.models.interface import Model, is_likelihood
from attention_collapse.params import Stats
from attention_collapse.stats import ties
from attention_collapse.stats.of_means import describe_of_means
from attention_collapse.stats.one_sample import describe
from attention_collapse.stats.partners import IN_ROLES, in_both_roles

if TYPE_CHECKING:
    from datasets import Dataset

BASELINES = {
    "": "another pair's image, another pair's caption",
    "_mean_image": "the data set's mean image, another pair's caption",
}
OF_MEANS = {name: measure for name, measure in CONTRIBUTION_MEASURES.items() if measure.level == "means"}
OF_PAIRS = {name: measure for name, measure in CONTRIBUTION_MEASURES.items() if measure.level == "pair"}
OF_TOKENS = tuple(name for name, found in CONTRIBUTION_MEASURES.items() if found.level == "token" and not found.formula)
INCOMPETENT = "its score does not tell matching pairs from others"
COMPETENCE = ("accuracy", "accuracy_hard")  # by which a score means something
AT_CHANCE = "its score does not tell captions from their hard foils"
STANDS_IN = {"lost_image": ("image",), "lost_text": ("text",), "lost_both": ("image", "text")}  # what is a partner's
FEWEST = 3  # different images: a partner of the image and one of the text, from two other pairs


def draws(
    n: int, partners: int, seed: int, same: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whose image and whose text stand for absent ones, (pair, partner) each, and whose text is the foil, (pair, 1).

    Never the pair's own, and never image and text of one pair. They repeat where partners outnumber the other pairs.

    Parameters
    ----------
    same
        (pair,) numbers, `FEWEST` different ones or more: pairs with one number count as one (`alike.same_pairs`).
        None: all are different.
    """
    rng, own = np.random.default_rng(seed), np.arange(n) if same is None else same

    def others(i: int) -> np.ndarray:  # made when it is needed: of all pairs at once they would be N × N
        return np.flatnonzero(own != own[i])

    def two(some: np.ndarray) -> np.ndarray:
        while True:
            image, text = chosen = rng.choice(some, 2, replace=False)
            if own[image] != own[text]:
                return np.asarray(chosen)

    drawn = np.array([[two(some) for _ in range(partners)] for some in map(others, range(n))])
    foil = np.array([rng.choice(others(i)) for i in range(n)])[:, None]
    return drawn[..., 0], drawn[..., 1], foil


def coalitions(image: np.ndarray, text: np.ndarray) -> Cells:
    """The cells of each pair's four coalitions, for both baselines; `image` and `text` stand for absent ones."""
    n = len(image)
    own, mean = np.arange(n)[:, None], np.full((n, 1), n)
    return {
        "both": (own, own), "image": (own, text), "text": (image, own), "neither": (image, text),
        "text_mean_image": (mean, own), "neither_mean_image": (mean, text),
    }  # fmt: skip


def wanted_cells(drawn: tuple[np.ndarray, np.ndarray, np.ndarray], hard: Hard, *, likelihood: bool) -> Cells:
    """Every cell that `contributions` has scored; many of them are one pass.

    Parameters
    ----------
    drawn
        As of `draws`.
    likelihood
        Whether the score is one, so that hard foils are scored in the coalitions too.
    """
    image, text, foil = drawn
    own = np.arange(len(image))[:, None]
    cells = coalitions(image, text) | {"foil": (own, foil), "text_foil": (image, foil)} | hard.cells(image)
    return cells | hard.decision_cells(image, text) if likelihood else cells


def columns_of(
    cells: Mapping[str, np.ndarray], slack: Mapping[str, np.ndarray], error: float,
    decided: Mapping[str, np.ndarray] | None = None, partners: Mapping[str, np.ndarray] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Every measure that a model's cells give, a row per pair, with its slack (see `settle.settle_frame`).

    With `partners` also a column `<column>_in_roles` of each that reliance is made of: `stats.partners.in_both_roles`.

    Parameters
    ----------
    cells
        Name -> scores of `coalitions` (pair, partner), or of `_right` and `Hard.right` (pair,).
    slack
        Name -> how far errors of the score may move a cell, where that is more than the error itself.
    error
        Of the model's score.
    decided
        Of a likelihood, what reliance is of in place of the score: `Hard.decided`, each the difference of two scores.
    partners
        "image", "text" -> (pair, partner) positions of the pairs whose image, whose text stands in.
    """
    found: dict[str, np.ndarray] = dict(cells)
    moved = dict(slack)
    for name, measure in OF_PAIRS.items():
        if not measure.is_possible("", found):
            continue
        if measure in LOST:
            given, off = (found, error) if decided is None else (decided, 2 * error)
            found[name], (own, swapped) = measure.of(given), (given[key] for key in measure.inputs)
            moved[name] = np.nan_to_num(squared_slack(own, swapped, off))
            if partners is not None:
                roles, terms = [partners[what] for what in STANDS_IN[name]], (own - swapped) ** 2
                both = in_both_roles(terms, roles, term_slack(own, swapped, off))
                found[name + IN_ROLES], moved[name + IN_ROLES] = both
            continue
        found[name] = measure.of(found)
        if measure.slack is not None:
            moved[name] = measure.slack(*(found[key] for key in measure.inputs), error)
        elif inexact := [moved[key] for key in measure.inputs if key in moved and key not in OF_PAIRS]:
            moved[name] = np.sum(inexact, axis=0)
    names = [name for key in OF_PAIRS for name in (key, key + IN_ROLES) if name in found]
    return with_slack(
        pd.DataFrame({name: found[name] for name in names}), {name: moved[name] for name in names if name in moved}
    )


def contributions(
    model: Model, pairs: Dataset, *, partners: int, seed: int, batch_size: int, work: Path | None = None,
    identity: str = "", run: Runner = here,
) -> pd.DataFrame:  # fmt: skip
    """What the score of each image with its first caption, and the choice of that caption over a foil, depend on.

    The baseline of an absent image is another pair's image, or (columns ending in _mean_image) the data set's mean
    image; that of an absent text is another pair's caption. Partners of image and text come from two different pairs,
    so that nothing ablated matches. The foil is another pair's caption; hard foils are the data's own. All are drawn by
    `seed`; values are averaged over `partners` draws, and for dual encoders accuracies without a modality are exact
    expectations over all pairs. A pair with the same caption or file is never another (`alike.same_pairs`).

    Where the score is a likelihood, reliance is of the score against the caption's first hard foil, over the partners
    that have one; undefined where the pair has none.

    Parameters
    ----------
    pairs
        The table of `data.pairs.table`.
    work
        Folder for finished batches; those found there are not run again if they were written for the same `identity`,
        `partners`, `seed` and `batch_size`.
    run
        Who makes the batches that are missing.

    Returns
    -------
    DataFrame
        One row per image: image_id, caption_id, and every measure of `OF_PAIRS`; NaN where the model has none (the EMAP
        gap of a model whose grid of scores takes N × N passes) or the pair no hard foil, and everywhere with fewer than
        3 different images. Columns `<column>_in_roles`: see `columns_of`; `<column>_slack`: see `settle.settle_frame`.

    Raises
    ------
    DataError
        If a score is NaN or infinite.
    """
    n = len(pairs)
    ids = {"image_id": pairs["image_id"], "caption_id": [captions[0] for captions in pairs["caption_ids"]]}
    same = same_pairs(pairs)
    if len(np.unique(same)) < FEWEST:
        return pd.DataFrame(ids | {name: np.full(n, np.nan) for name in OF_PAIRS})
    image, text, foil = drawn = draws(n, partners, seed, same)
    hard, likelihood = Hard.of(pairs, same), is_likelihood(model)
    cells = wanted_cells(drawn, hard, likelihood=likelihood)
    found = score_cells(
        model, pairs, cells, batch_size=batch_size, work=work, identity=f"{identity} partners={partners} seed={seed}",
        run=run,
    )  # fmt: skip
    v, grid, error = found.cells, found.grid, found.error
    right, more, less = (
        _right(v, grid, foil[:, 0], same, lead) | hard.right(v, grid, lead)
        for lead in (0.0, 2 * error, -2 * error)  # of both scores
    )
    slack = {name: np.nan_to_num(more[name] - less[name]) for name in right}
    parts = {} if grid is None else {f"{name}_of_pair": part for name, part in sobol_parts(grid, same).items()}
    decided = hard.decided(v, text) if likelihood else None
    return pd.concat(
        [pd.DataFrame(ids), columns_of(v | right | parts, slack, error, decided, {"image": image, "text": text})],
        axis=1,
    )


def _right(
    v: Mapping[str, np.ndarray], grid: Grid | None, foil: np.ndarray, same: np.ndarray, lead: float
) -> dict[str, np.ndarray]:
    """Accuracy against the foil (pair,): with both, without the image, without the text, of the additive projection.

    Exactly from a grid, else over the partners drawn and without the projection; `lead` as of `measures.matching.won`.
    """
    if grid is not None:
        return {
            "right": accuracy(grid, foil, lead),
            "right_without_image": accuracy_without_image(grid, foil, lead, same),
            "right_without_text": accuracy_without_text(grid, foil, lead, same),
            "right_additive": accuracy_additive(grid, foil, lead),
        }
    right = won(v["both"], v["foil"], lead)[:, 0]
    return {
        "right": right,
        "right_without_image": won(v["text"], v["text_foil"], lead).mean(1),
        "right_without_text": won(v["image"], v["foil"], lead).mean(1),
        "right_additive": np.full(len(right), np.nan),
    }


def spread(values: pd.DataFrame, name: str) -> pd.Series:
    """The column that an interval of a function of its mean is made of: the one ending in `IN_ROLES`, if there is one.

    Examples
    --------
    >>> values = pd.DataFrame({"lost_image": [4.0, 0.0], "lost_image_in_roles": [3.0, 1.0], "score": [1.0, 2.0]})
    >>> spread(values, "lost_image").tolist(), spread(values, "score").tolist()
    ([3.0, 1.0], [1.0, 2.0])
    """
    return values[name + IN_ROLES if name + IN_ROLES in values else name]


def described(values: pd.Series, stats: Stats) -> dict[str, Any]:
    """Mean over images with its interval, see `stats.one_sample.describe`."""
    rng = np.random.default_rng(stats.seed)
    return dict(describe(values, confidence=stats.confidence, n_resamples=stats.n_resamples, rng=rng))


def summarise(values: pd.DataFrame, stats: Stats, *, likelihood: bool = False) -> dict[str, Any]:
    """Mean and interval over images of each measure of `contributions`.

    A model whose accuracy against a foil is not shown to be above chance has no share of what its score depends on: the
    score means nothing. A `likelihood` has no reliance either unless its accuracy against hard foils is: reliance is of
    that very choice.
    """
    settings: dict[str, Any] = {
        "confidence": stats.confidence, "n_resamples": stats.n_resamples, "rng": stats.seed,
    }  # fmt: skip
    known = {name: measure for name, measure in OF_PAIRS.items() if name in values}
    result: dict[str, Any] = {name: described(spread(values, name), stats) for name in known}
    for name, measure in OF_MEANS.items():
        if all(key in values for key in measure.inputs):
            columns = [spread(values, key) for key in measure.inputs]
            result[name] = describe_of_means(columns, measure.of_means, **settings)
    if len(values) < FEWEST:
        reason = f"{len(values)} images: nothing to draw ablation partners from, {FEWEST} or more needed"
        return {name: summary | {"reason": reason} for name, summary in result.items()}
    if values["score"].isna().all():
        reason = f"{len(values)} images, fewer than {FEWEST} of them different in file and caption: no partners to draw"
        return {name: summary | {"reason": reason} for name, summary in result.items()}
    for name, summary in result.items():
        measure = CONTRIBUTION_MEASURES[name]
        made_of = measure.inputs if measure.level == "means" else (name,)
        if measure.absent and any(values[key].isna().all() for key in made_of):
            summary["reason"] = measure.absent
    if reason := incompetence(result):
        result |= {name: void(summary, reason) for name, summary in result.items() if needs_competence(name)}
    elif likelihood and (reason := at_chance(AT_CHANCE, result["accuracy_hard"])):
        result |= {measure.name: void(result[measure.name], reason) for measure in RELIANCE}
    return result


def incompetence(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Why a model's score is not worth taking apart; "" if it is.

    Its accuracy against random foils or against hard ones must be shown to be above chance: a model that never looks
    can tell hard foils by its language prior alone, and then there is something to take apart. Without an interval
    (all right, say) the mean itself must be above chance.
    """
    known = [found for name in COMPETENCE if (found := results.get(name)) and found["n"]]
    reasons = [at_chance(INCOMPETENT, found) for found in known]
    return reasons[0] if reasons and all(reasons) else ""


def at_chance(what: str, accuracy: Mapping[str, Any]) -> str:
    """`what`, with the accuracy, unless that is shown to be above chance; "" too where there is none."""
    low, mean, high = accuracy["ci_low"], accuracy["mean"], accuracy["ci_high"]
    if not accuracy["n"] or ties.above(low if np.isfinite(low) else mean, 0.5):
        return ""
    return f"{what}: accuracy {mean:.3f}{f' [{low:.3f}, {high:.3f}]' if np.isfinite(high) else ''}"


def is_not_judged(reason: str) -> bool:
    """Whether a measure has no value for a reason that no number of images would mend: what was scored means nothing.

    `reason`: of its summary, "" if it has none.
    """
    return reason.startswith((INCOMPETENT, AT_CHANCE, NO_DECISION))


def needs_competence(name: str) -> bool:
    """Whether the measure of that name is void for a model at chance."""
    return CONTRIBUTION_MEASURES[name].needs_competence


def void(summary: Mapping[str, Any], reason: str) -> dict[str, Any]:
    """A summary without values, and why."""
    undefined = {"mean": np.nan, "sd": np.nan, "ci_low": np.nan, "ci_high": np.nan}
    return dict(summary) | undefined | {"n": 0, "n_undefined": summary["n"] + summary["n_undefined"], "reason": reason}
