"""Against metafor's published output, formulas worked by hand, and by simulation."""

import math

import numpy as np
import pytest

from attention_collapse.stats.meta import random_effects

# BCG vaccine against tuberculosis, 13 trials (Colditz et al. 1994; metadat::dat.bcg): TB positive and negative among
# the vaccinated, and among the others.
BCG = np.array([
    (4, 119, 11, 128), (6, 300, 29, 274), (3, 228, 11, 209), (62, 13536, 248, 12619), (33, 5036, 47, 5761),
    (180, 1361, 372, 1079), (8, 2537, 10, 619), (505, 87886, 499, 87892), (29, 7470, 45, 7232), (17, 1699, 65, 1600),
    (186, 50448, 141, 27197), (5, 2493, 3, 2338), (27, 16886, 29, 17825),
])  # fmt: skip
A, B, C, D = BCG.T.astype(float)
LOG_RISK = np.log(A / (A + B)) - np.log(C / (C + D))
ERROR = np.sqrt(1 / A - 1 / (A + B) + 1 / C - 1 / (C + D))


def test_the_bcg_trials_by_metafor():
    """metafor's own tests (test_misc_metan_vs_rma.uni_with_dat.bcg): rma(method = "DL") gives -0.7141, by the normal
    distribution [-1.0644, -0.3638], so se 0.1787; Q 152.2330. I² is (Q − 12)/Q. With test = "knha", as W. Viechtbauer's
    code for Borenstein et al. (2009) is quoted elsewhere: [-1.1078, -0.3204], tau² 0.3088."""
    result = random_effects(LOG_RISK, ERROR)
    published = {"mean": -0.7141, "se": 0.1787, "tau2": 0.3088, "ci_low": -1.1078, "ci_high": -0.3204, "i2": 0.9212}
    assert {key: round(result[key], 4) for key in published} == published
    assert result["mean"] - 1.959964 * result["se"] == pytest.approx(-1.0644, abs=5e-5)
    assert result["mean"] + 1.959964 * result["se"] == pytest.approx(-0.3638, abs=5e-5)
    assert result["q"] == pytest.approx(152.2330, abs=5e-5) and result["q_p"] < 1e-4
    # Higgins, Thompson & Spiegelhalter (2009), from the published numbers and t(11) = 2.201 of a printed table
    half = 2.201 * math.sqrt(0.3088 + 0.1787**2)
    assert result["prediction_low"] == pytest.approx(-0.7141 - half, abs=5e-4)
    assert result["prediction_high"] == pytest.approx(-0.7141 + half, abs=5e-4)
    assert (result["k"], result["n_undefined"], result["ci"]) == (13, 0, "Hartung-Knapp")


def test_trials_that_agree_have_no_variance_between_them():
    # Three means within one standard error: Q = 2 · 0.5² = 0.5 < 2, so tau² and I² are 0, the weights equal.
    result = random_effects([0.9, 1.0, 1.1], [0.2, 0.2, 0.2])
    assert result["q"] == pytest.approx(0.5) and (result["tau2"], result["i2"]) == (0, 0)
    assert result["mean"] == pytest.approx(1.0) and result["se"] == pytest.approx(0.2 / math.sqrt(3))
    # Hartung-Knapp: Σw(y − μ)² / (k − 1) / Σw = 0.25 · 0.04 / 3, times t(2) = 4.303
    assert result["ci_high"] - 1 == pytest.approx(4.303 * math.sqrt(0.25 * 0.04 / 3), rel=2e-4)
    assert result["prediction_high"] - 1 == pytest.approx(12.706 * 0.2 / math.sqrt(3), rel=1e-4)  # t(1)


@pytest.mark.parametrize(
    ("means", "errors", "reason"),
    [
        ([0.5], [0.1], "1 model, 2 or more"),
        ([], [], "0 models"),
        ([0.5, math.nan], [0.1, math.nan], "1 model"),
        ([0.5, 0.6, 0.7], [0.1, 0.0, 0.1], "no sampling variance"),
    ],
)
def test_what_cannot_be_combined_gives_a_reason(means, errors, reason):
    result = random_effects(means, errors)
    assert reason in result["reason"] and math.isnan(result["mean"]) and math.isnan(result["tau2"])


def test_two_models_have_a_mean_but_no_prediction():
    result = random_effects([0.5, 0.6], [0.01, 0.02])
    assert result["ci_low"] < result["mean"] < result["ci_high"]
    assert math.isnan(result["prediction_low"]) and "3 or more" in result["reason"]


def test_a_model_without_a_value_is_left_out_and_counted():
    with_hole = random_effects([*LOG_RISK, math.nan], [*ERROR, 0.1])
    whole = random_effects(LOG_RISK, ERROR)
    assert with_hole["n_undefined"] == 1 and with_hole["mean"] == whole["mean"]


def test_coverage():
    """Of 2,000 sets of 8 models, 95 % of the intervals hold the mean and of the prediction intervals a ninth model."""
    generator = np.random.default_rng(5)
    hits, predicted = [], []
    for _ in range(2000):
        true = generator.normal(0.6, 0.1, 9)
        found = random_effects(generator.normal(true[:8], 0.03), np.full(8, 0.03))
        hits.append(found["ci_low"] <= 0.6 <= found["ci_high"])
        predicted.append(found["prediction_low"] <= true[8] <= found["prediction_high"])
    assert np.mean(hits) == pytest.approx(0.95, abs=0.015) and np.mean(predicted) == pytest.approx(0.95, abs=0.02)
