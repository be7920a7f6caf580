"""Contrastive decoding of models that are kept as scores: known answers, and laws of the log-odds it rests on."""

import math

import numpy as np
import pytest
import statsmodels.api as sm
from test_prevention import models, section

from attention_collapse.engine.arm_summary import remedied
from attention_collapse.engine.at_inference import (
    COLUMNS,
    LOG_ODDS,
    PAPER,
    REMEDIES,
    UNCUT,
    at_inference,
    contrasted,
    to_log_odds,
)

N = 400
LABEL = np.arange(N) % 2
SIGN = 2.0 * LABEL - 1


def scores(cue, content, other, seed=0):
    """Scores of a model that adds what its cue says and what its content says; the cue is in the text.

    `other`: what it says of another pair's image.
    """
    rng = np.random.default_rng(seed)
    trained, neutral = SIGN.copy(), rng.permutation(SIGN)
    trained[rng.choice(N, N // 20, replace=False)] *= -1  # right in 95 %
    found = {"label": LABEL.astype(float)}
    for condition, says in (("trained", trained), ("uninformative", neutral)):
        found[f"intact.{condition}"] = cue * says + content * SIGN
        found[f"image.{condition}"] = (cue * says + other)[:, None]
        found[f"text.{condition}"] = found[f"both.{condition}"] = np.zeros((N, 1))
    return found


def test_a_model_that_ignores_its_image_is_helped_by_nothing():
    kept = scores(cue=2.0, content=0.0, other=0.0)
    found = at_inference(kept, "text")
    plain = {condition: found[f"{LOG_ODDS}_{condition}"] for condition in ("trained", "uninformative")}
    assert plain["trained"] == 0.95 and abs(plain["uninformative"] - 0.5) < 0.06
    assert all(found[f"{PAPER}_{condition}"] == right for condition, right in plain.items())
    assert contrasted(kept, "text")["contrasted_gain_uninformative"] == 0


def test_a_model_that_weighs_its_image_too_little_is_helped_by_doubling_it():
    """The cue weighs 1.5 and the content 1: alone the cue decides, and with the contrast twice the content does."""
    kept = scores(cue=1.5, content=1.0, other=0.0)
    found = at_inference(kept, "text")
    assert abs(found[f"{LOG_ODDS}_uninformative"] - 0.5) < 0.06
    assert found[f"{UNCUT}_uninformative"] == found[f"{UNCUT}_trained"] == 1.0
    gain = contrasted(kept, "text")
    assert gain["contrasted_uninformative"] == 1.0
    assert gain["contrasted_gain_uninformative"] == pytest.approx(1 - found[f"{LOG_ODDS}_uninformative"])


def test_it_is_the_modality_without_the_cue_that_is_taken_off():
    kept = scores(cue=1.5, content=1.0, other=0.0)
    swapped = kept | {
        f"{a}.{c}": kept[f"{b}.{c}"]
        for c in ("trained", "uninformative")
        for a, b in (("image", "text"), ("text", "image"))
    }
    assert at_inference(swapped, "image") == at_inference(kept, "text") == at_inference(kept, "none")
    assert at_inference(swapped, "image") != at_inference(kept, "image")


def test_the_cut_off_keeps_what_the_model_is_sure_of():
    """The cue is right in 19 of 20 pairs and decides every score, so that the model is surer than 10 to 1 of each."""
    kept = scores(cue=40.0, content=1.0, other=-50.0)  # uncut, every pair would match
    found = at_inference(kept, "text")
    for condition in ("trained", "uninformative"):
        assert found[f"{PAPER}_{condition}"] == found[f"{LOG_ODDS}_{condition}"]


def test_log_odds_are_those_of_a_logistic_regression_on_smoothed_targets():
    rng = np.random.default_rng(1)
    label = rng.random(300) < 0.4
    given = 3 + 0.2 * (label + rng.normal(size=300))
    scale, offset = to_log_odds(given, label)
    right, wrong = label.sum(), (~label).sum()
    target = np.where(label, (right + 1) / (right + 2), 1 / (wrong + 2))
    fitted = sm.GLM(target, sm.add_constant(given), family=sm.families.Binomial()).fit(tol=1e-12)
    assert [offset, scale] == pytest.approx(fitted.params.tolist(), rel=1e-6)
    assert to_log_odds(5 * given - 2, label)[0] == pytest.approx(scale / 5)


def test_scores_that_never_err_have_finite_log_odds_and_constant_ones_none():
    scale, _ = to_log_odds(SIGN, LABEL == 1)
    assert 0 < scale < math.inf
    assert scale == pytest.approx(math.log(N / 2 + 1))  # of a target of (N/2 + 1)/(N/2 + 2)
    still = scores(cue=0.0, content=0.0, other=0.0)
    assert np.isnan(list(at_inference(still, "text").values())).all()


def test_gains_are_over_the_same_models_and_judged_by_the_rule_s_limits():
    plain = [(0.5 + 0.01 * seed, 0.95) for seed in range(6)]
    table = models({"erm": plain, "a": plain})
    wobble = 0.01 * np.array([1, -1, 1, -1, 1, -1] * 2)
    table[list(COLUMNS)] = np.nan
    for name, gain, change in ((LOG_ODDS, 0.0, 0.0), (PAPER, 0.2, 0.0), (UNCUT, 0.2, -0.1)):
        table[f"{name}_uninformative"] = table["accuracy_uninformative"] + gain + wobble
        table[f"{name}_trained"] = table["accuracy_trained"] + change
    found = remedied(table, section(range(6)), 0.95)["vilt"]["text_reliability_95"]
    assert found[PAPER]["gain"]["mean"] == pytest.approx(0.2) and found[PAPER]["n_seeds"] == 6
    assert [found[name].get("verdict") for name in REMEDIES] == [None, "prevents", "costs accuracy"]
    assert [found[name]["passes"] for name in REMEDIES] == [1, 2, 2]
    assert found[PAPER]["p_gain_holm"] == pytest.approx(2 * found[PAPER]["p_gain"])
    assert found[UNCUT]["change_trained"]["mean"] == pytest.approx(-0.1)
