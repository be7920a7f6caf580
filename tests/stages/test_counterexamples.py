"""What fooled the Shapley share, tried on what decides now: noise, a language prior, and a prior that is gamed."""

import numpy as np
import pandas as pd
import pytest

from attention_collapse.engine import statistics
from attention_collapse.engine.contribution import INCOMPETENT, _right, coalitions, columns_of, draws, summarise
from attention_collapse.measures.sobol import sobol_parts
from attention_collapse.params import Stats
from attention_collapse.stats.decision import Gates, Severity, is_confirmed, is_severe

N, PARAMS = 200, Stats(n_resamples=1000)
GATES = Gates(3, 2, alpha=PARAMS.alpha, imbalance=PARAMS.severe, confirm_margin=0.05)


def results(grid, **hard):
    """What a study's stages find for a model that gives this grid of scores (image, text)."""
    image, text, foil = draws(N, 8, 0, np.arange(N))
    own = np.arange(N)[:, None]
    places = coalitions(image, text) | {"foil": (own, foil), "text_foil": (image, foil)}
    whole = np.vstack([grid, grid.mean(0)])
    v = {name: whole[tuple(np.broadcast_arrays(*cell))] for name, cell in places.items()}
    right = _right(v, grid, foil[:, 0], np.arange(N), 0.0)
    parts = {f"{name}_of_pair": part for name, part in sobol_parts(grid).items()}
    table = columns_of(v | right | parts | hard, {}, 1e-9).assign(image_id=np.arange(N))
    causal = summarise(table, PARAMS)
    images = pd.DataFrame({"image_id": np.arange(N)})
    found = statistics.judge(statistics.columns_of(images, table, "all", {}), causal, PARAMS, {}, tested=1)
    return causal, found["severity"], table


def severity(entry, lost):
    keys = ("n", "mean", "ci_low", "ci_high", "n_to_settle", "ignored")
    values = {key: entry[key] for key in keys}
    return Severity(False, p_holm=entry["p"], p_balanced_holm=entry["p_balanced"], lost=lost, **values)


def test_noise_is_not_judged_though_its_shapley_imbalance_is_severe():
    rng = np.random.default_rng(2)
    grid = rng.normal(size=(N, N)) + 6 * rng.normal(size=(1, N))  # random scores that mostly follow the caption
    causal, found, table = results(grid)
    share = table["shapley_share"]
    assert np.maximum(share, 1 - share).mean() > 0.8  # what was called severe
    for name, entry in found.items():
        assert np.isnan(entry["p"]) and entry["n"] == 0, name
    assert INCOMPETENT in found["reliance_share"]["reason"] and np.isnan(causal["shapley_share"]["mean"])
    assert causal["choice_image"]["mean"] == pytest.approx(0.5, abs=0.05)


def test_a_language_prior_is_no_collapse_its_accuracy_says_so():
    rng = np.random.default_rng(3)
    grid = rng.normal(size=(N, N)) + 8 * np.eye(N) + 16 * rng.normal(size=(1, N))
    causal, found, _ = results(grid)
    entry = found["reliance_share"]
    assert entry["ignored"] == "the image" and causal["choice_image"]["mean"] > 0.99  # it looks, at every image
    model = severity(entry, causal["choice_image"]["mean"] - 0.5)
    assert is_severe(model, GATES) and not is_confirmed(model, GATES)


def test_a_score_that_reads_both_is_shown_not_to_be_severe():
    rng = np.random.default_rng(4)
    causal, found, _ = results(rng.normal(size=(N, N)) + 8 * np.eye(N))
    model = severity(found["reliance_share"], causal["perceptual_score_image"]["mean"])
    assert not is_severe(model, GATES) and model.p_balanced_holm < 0.001
    assert causal["reliance_share"]["mean"] == pytest.approx(0.5, abs=0.03)


def test_a_score_that_never_reads_the_image_is_judged_where_a_prior_tells_hard_foils():
    """Against random foils a blind model is at chance, and has no share; with a language prior it has one: 0."""
    rng = np.random.default_rng(5)
    grid = np.broadcast_to(rng.normal(size=N), (N, N)).copy()
    _, found, _ = results(grid)
    assert INCOMPETENT in found["reliance_share"]["reason"]
    told = (rng.random(N) < 0.8).astype(float)  # hard foils that read worse than captions, with the image or without
    causal, found, _ = results(grid, right_hard=told, right_hard_without_image=told)
    entry = found["reliance_share"]
    assert entry["reason"] == "no variance" and causal["reliance_share"]["mean"] == 0
    causal, found, _ = results(grid + 0.01 * rng.normal(size=(N, N)), right_hard=told, right_hard_without_image=told)
    model = severity(found["reliance_share"], causal["perceptual_image_hard"]["mean"])
    assert model.ignored == "the image" and is_severe(model, GATES) and is_confirmed(model, GATES)
