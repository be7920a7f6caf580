"""Against R's output for Student's sleep data, definitions, and by simulation."""

import math

import numpy as np
import pytest
from scipy import stats as sp

from attention_collapse.stats.one_sample import describe
from attention_collapse.stats.paired import paired, paired_columns

# R's data set `sleep` (Student 1908): extra hours of sleep of ten patients under two drugs.
FIRST = np.array([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
SECOND = np.array([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])


def compare(a, b, margin=0.5, **options):
    return paired(a, b, margin=margin, **{"n_resamples": 2000, "rng": 0} | options)


def test_students_sleep_data():
    # t.test(extra ~ group, data = sleep, paired = TRUE), as printed by Meys & de Vries, R For Dummies: t = -4.0621,
    # df = 9, p-value = 0.002833, mean of the differences -1.58
    result = compare(FIRST, SECOND)
    assert (result["mean"], result["df"]) == (pytest.approx(-1.58), 9)
    assert result["t"] == pytest.approx(-4.0621, abs=5e-5) and result["p"] == pytest.approx(0.002833, abs=5e-7)
    assert result["d_z"] == pytest.approx(-4.0621 / math.sqrt(10), abs=2e-5)
    assert result["d_z_ci_low"] < result["d_z"] < result["d_z_ci_high"] < 0
    assert abs(result["hedges_g"]) < abs(result["d_z"])
    # Nine differences of one sign and a 0: 2 of 2^9 patterns are as extreme.
    assert compare(FIRST, SECOND, n_resamples=100_000)["permutation_p"] == pytest.approx(2 / 512, abs=0.0008)


def test_the_order_of_the_two_decides_the_sign_alone():
    one, other = compare(FIRST, SECOND), compare(SECOND, FIRST)
    for key in ("mean", "t", "d_z", "hedges_g"):
        assert one[key] == pytest.approx(-other[key])
    for key in ("p", "wilcoxon_p", "permutation_p", "tost_p"):
        assert one[key] == pytest.approx(other[key])
    assert one["d_z_ci_low"] == pytest.approx(-other["d_z_ci_high"], abs=1e-6)


def test_the_interval_is_that_of_the_differences():
    expected = describe(FIRST - SECOND, n_resamples=2000, rng=0)
    assert expected.items() <= compare(FIRST, SECOND).items()


@pytest.mark.parametrize("margin", [1.0, 2.2, 2.6])
def test_tost_by_its_definition_and_by_the_90_percent_interval(margin):
    """Schuirmann (1987): both one-sided tests reject at α exactly if the 1 − 2α interval lies within the margin."""
    d = FIRST - SECOND
    t = [(d.mean() + sign * margin) / (d.std(ddof=1) / math.sqrt(10)) for sign in (1, -1)]
    result = compare(FIRST, SECOND, margin=margin)
    assert result["tost_p"] == pytest.approx(max(sp.t.sf(t[0], 9), sp.t.cdf(t[1], 9)))
    half = 1.833 * d.std(ddof=1) / math.sqrt(10)  # t(9) at 0.95 of any printed table
    assert (result["tost_p"] <= 0.05) == (-margin <= d.mean() - half and d.mean() + half <= margin)
    assert result["margin"] == margin


def test_an_image_that_either_leaves_undefined_is_left_out_of_both():
    a, b = np.append(FIRST, [math.nan, 1.0]), np.append(SECOND, [2.0, math.nan])
    result = compare(a, b)
    assert (result["n"], result["n_undefined"]) == (10, 2) and result["t"] == compare(FIRST, SECOND)["t"]


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        ([0.5], [0.4], "1 defined value"),
        ([math.nan] * 3, [0.1, 0.2, 0.3], "0 defined values"),
        ([0.1, 0.2, 0.3], [0.1, 0.2, 0.3], "no variance"),
        ([0.3, 0.4], [0.2, 0.3], "no variance"),
    ],
)
def test_degenerate_pairs_give_a_reason(a, b, reason):
    result = compare(a, b)
    assert reason in result["reason"]
    names = ("ci_low", "t", "p", "d_z", "d_z_ci_low")
    assert all(math.isnan(result[name]) for name in names)
    alone = "variance" not in reason
    assert math.isnan(result["permutation_p"]) is math.isnan(result["tost_p"]) is alone


def test_a_model_and_its_copy_are_equivalent_and_a_constant_shift_is_none():
    """Without variance there is no t, but signs flip: 2 of 2^n patterns are as extreme as a shift of all images."""
    values = np.linspace(0.2, 0.7, 12)
    same, shifted = (paired(a, values, margin=0.05, n_resamples=2000, rng=0) for a in (values, values + 0.3))
    assert same["tost_p"] < 0.01 and same["permutation_p"] == 1
    assert shifted["permutation_p"] < 0.01 and shifted["tost_p"] == 1 and "no variance" in shifted["reason"]


def test_ties_are_tested():
    result = compare([1, 1, 1, 0, 1, 1, 0, 1], [0, 0, 1, 0, 0, 0, 1, 0])
    assert 0 < result["p"] < 1 and 0 < result["wilcoxon_p"] < 1 and 0 < result["permutation_p"] <= 1


def test_pairs_together_are_as_pairs_alone():
    third = np.append(FIRST[1:], math.nan)
    together = paired_columns({"x": (FIRST, SECOND), "y": (FIRST, third)}, margin=0.5, n_resamples=2000, rng=0)
    for name, other in (("x", SECOND), ("y", third)):
        alone = compare(FIRST, other)
        assert together[name] == {key: pytest.approx(value, nan_ok=True) for key, value in alone.items()}


def test_the_level_of_tost():
    """At a true difference equal to the margin, equivalence is claimed in 5 % of samples (standard error 0.5)."""
    generator = np.random.default_rng(8)
    pairs = {str(i): (generator.normal(0.3, 1, 60), np.zeros(60)) for i in range(1000)}
    found = paired_columns(pairs, margin=0.3, n_resamples=100, rng=0)
    assert np.mean([result["tost_p"] <= 0.05 for result in found.values()]) <= 0.067
