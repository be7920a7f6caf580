"""Against Shapiro & Wilk's own example, formulas worked by hand, and laws."""

import math

import numpy as np
import pytest
from scipy import stats as sp

from attention_collapse.stats.sample_shape import describe_shape

# Weights of 11 men (pounds), the example of Shapiro & Wilk (1965), Biometrika 52, p. 606: W = 0.79.
WEIGHTS = [148, 154, 158, 160, 161, 162, 166, 170, 182, 195, 236]


def test_shapiro_and_wilks_example():
    result = describe_shape(WEIGHTS)
    # By hand with their coefficients for n = 11, to two places of W:
    # b = 0.5601·88 + 0.3315·41 + 0.2260·24 + 0.1429·10 + 0.0695·5 = 70.08, S² = 6,226, W = b²/S² = 0.789
    assert result["shapiro_w"] == pytest.approx(0.789, abs=0.001)
    assert 0.005 < result["shapiro_p"] < 0.01  # by their table 6: below 0.01
    assert result["n"] == 11


def test_outliers_by_hand():
    # Quartiles (R's type 7) 159 and 176, so fences 133.5 and 201.5: 236 alone lies outside.
    # Median 162, MAD 8, scaled 11.86; 2.24 of them are 26.6: 195 and 236 lie further away.
    result = describe_shape(WEIGHTS)
    assert (result["outliers_iqr"], result["outliers_mad"]) == (1, 2)
    # 0 to 9 and 16: quartiles 2.5 and 7.5, so fences −5 and 15; median 5, MAD 3, 2.24 scaled ones are 9.97.
    result = describe_shape([*range(10), 16])
    assert (result["outliers_iqr"], result["outliers_mad"]) == (1, 1)


def test_skew_and_kurtosis_by_hand():
    # 0, 0, 0, 4: deviations −1, −1, −1, 3; m2 = 3, m3 = 6, m4 = 21; g1 = 6/√27 and g2 = 21/9 − 3.
    # Joanes & Gill (1998): G1 = g1 √(n(n−1))/(n−2) = 2; G2 = (n−1)/((n−2)(n−3)) ((n+1) g2 + 6) = 4.
    result = describe_shape([0.0, 0.0, 0.0, 4.0])
    assert result["skew"] == pytest.approx(2.0) and result["kurtosis"] == pytest.approx(4.0)


def test_ties_leave_the_mad_rule_without_a_scale():
    result = describe_shape([0.0, 0.0, 0.0, 4.0])
    assert math.isnan(result["outliers_mad"]) and "more than half" in result["reason"]
    assert result["outliers_iqr"] == 1


@pytest.mark.parametrize(
    ("values", "reason"),
    [([], "0 defined"), ([0.5], "1 defined value,"), ([math.nan] * 5, "0 defined"), ([0.7] * 9, "no variance")],
)
def test_degenerate_samples(values, reason):
    result = describe_shape(values)
    assert reason in result["reason"] and math.isnan(result["shapiro_p"]) and math.isnan(result["outliers_iqr"])


def test_nothing_is_acted_on_and_undefined_values_are_left_out():
    values = np.array([*WEIGHTS, math.nan], float)
    before = values.copy()
    assert describe_shape(values) == describe_shape(WEIGHTS)
    np.testing.assert_array_equal(values, before)


def test_under_normality_p_is_uniform():
    generator = np.random.default_rng(6)
    p = [describe_shape(generator.normal(size=60))["shapiro_p"] for _ in range(500)]
    assert sp.kstest(p, "uniform").pvalue > 0.001


def test_the_outliers_of_the_median_are_those_of_pingouin():
    pg, rng = pytest.importorskip("pingouin"), np.random.default_rng(0)
    for heavy in (1, 2, 5, 30):
        values = rng.standard_t(heavy, 200)
        assert describe_shape(values)["outliers_mad"] == pg.madmedianrule(values).sum()
