"""Intervals that hold for few models: known answers, and how often they hold the truth."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from attention_collapse.stats.few_models import (
    bounded_mean,
    falls_below,
    mean_with_t,
    median_with_ranks,
    seeds_needed,
    separate,
    tell_apart,
)


def sides(low, high):
    """Samples as `separate` takes them: one model a seed."""
    return tuple({seed: [value] for seed, value in enumerate(side)} for side in (low, high))


@pytest.mark.parametrize(("n", "lower"), [(3, 0.2924), (5, 0.4782), (6, 0.5407), (10, 0.6915)])
def test_perfect_separation_has_the_limits_of_clopper_and_pearson(n, lower):
    low, high = sides(range(n), range(n, 2 * n))
    found = separate(low, high, 0.95)
    exact = stats.binomtest(n, n).proportion_ci(0.95, "exact")
    assert (found.auroc, found.ci_high) == (1, 1) and found.ci_low == pytest.approx(lower, abs=1e-4)
    assert found.ci_low == pytest.approx(exact.low, abs=1e-9)
    assert found.verdict == ("separates" if n >= 6 else "undetermined")
    assert separate(high, low, 0.95).verdict == ("reversed" if n >= 6 else "undetermined")


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_for_a_binomial_the_interval_holds_that_of_clopper_and_pearson(k):
    for wins in range(k + 1):
        exact = stats.binomtest(wins, k).proportion_ci(0.95, "exact")
        low, high = bounded_mean(wins / k, k, 0.95)
        assert low <= exact.low + 1e-9 and exact.high - 1e-9 <= high


@given(st.floats(0, 1), st.integers(1, 50), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_limits_solve_their_equation_and_mirror(mean, k, confidence):
    low, high = bounded_mean(mean, k, confidence)
    assert 0 <= low <= mean <= high <= 1
    mirrored = bounded_mean(1 - mean, k, confidence)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-6)
    for bound in (low, high):
        if 1e-9 < bound < 1 - 1e-9 and 1e-9 < mean < 1 - 1e-9:
            divergence = mean * math.log(mean / bound) + (1 - mean) * math.log((1 - mean) / (1 - bound))
            assert math.exp(-k * divergence) == pytest.approx((1 - confidence) / 2, rel=1e-3)


@pytest.mark.parametrize("area", [0.3, 0.5, 0.7, 0.95])
@pytest.mark.parametrize("n", [3, 10])
def test_the_interval_holds_the_area_as_often_as_it_says_where_one_side_is_constant(area, n):
    """Exactly: beside a constant the area is a binomial share, the worst case."""
    hits = 0.0
    for wins in range(n + 1):
        low, high = bounded_mean(wins / n, n, 0.95)
        hits += stats.binom.pmf(wins, n, area) * (low <= area <= high)
    assert hits >= 0.95


def test_the_interval_holds_the_area_for_other_distributions():
    rng = np.random.default_rng(0)
    for shift, spread in itertools.product((0.0, 1.0, 2.5), (0.1, 1.0, 5.0)):
        truth = stats.norm.cdf(shift / math.hypot(1, spread))
        inside = 0
        for _ in range(300):
            found = separate(*sides(rng.normal(0, 1, 6), rng.normal(shift, spread, 6)), 0.95)
            inside += found.ci_low <= truth <= found.ci_high
        assert inside >= 0.95 * 300


@settings(max_examples=50)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=7), st.lists(st.integers(0, 5), min_size=1, max_size=7))
def test_one_model_a_seed_gives_the_area_of_mann_and_whitney(low, high):
    found = separate(*sides(low, high), 0.95)
    assert found.auroc == pytest.approx(stats.mannwhitneyu(high, low).statistic / (len(low) * len(high)))
    turned = separate(*sides(high, low), 0.95)
    assert turned.auroc == pytest.approx(1 - found.auroc) and turned.within == pytest.approx(1 - found.within)


@pytest.mark.parametrize(
    ("low", "high", "area"),
    [([1, 2, 3], [4, 5], 1), ([4, 5], [1, 2, 3], 0), ([1, 2], [1, 2], 1 / 2), ([1, 2, 2], [2, 3], 5 / 6),
     ([0, 0, 3], [1, 1, 1], 2 / 3)],
)  # fmt: skip
def test_the_area_by_hand(low, high, area):
    assert separate(*sides(low, high), 0.95).auroc == pytest.approx(area)


def test_a_measure_is_told_by_the_way_that_it_should_go():
    """Seven models that ignore a modality lie below seven balanced ones: right for a measure that falls."""
    ignoring, balanced = sides(range(7), range(7, 14))
    falls, rises = (tell_apart(ignoring, balanced, way, 0.95, "?") for way in (-1, 1))
    assert (falls["says"], falls["verdict"], falls["auroc"]) == ("falls", "separates", 1)
    assert (rises["says"], rises["verdict"], rises["auroc"]) == ("rises", "reversed", 0)
    assert "reason" not in falls and falls["ci_low"] == pytest.approx(0.025 ** (1 / 7))
    assert tell_apart({}, balanced, -1, 0.95, "?")["reason"] == "no model of one of the two sides"
    broken = tell_apart({0: [float("nan")]}, balanced, -1, 0.95, "undefined since")
    assert broken["verdict"] == "undefined" and broken["reason"] == "undefined since"


@pytest.mark.parametrize("confidence", [0.5, 0.75, 0.9, 0.95, 0.99])
def test_the_fewest_seeds_of_which_anything_follows(confidence):
    k = seeds_needed(confidence)
    verdicts = {n: separate(*sides(range(n), range(n, 2 * n)), confidence).verdict for n in (k - 1, k)}
    assert verdicts == {k - 1: "undetermined", k: "separates"}


def test_models_of_a_seed_share_its_weight_and_a_rounding_is_a_tie():
    low, high = {0: [0.0, 2.0], 1: [0.0]}, {0: [1.0], 7: [1.0 + 1e-14]}
    found = separate(low, high, 0.95)
    assert found.auroc == pytest.approx((0.5 + 1.0) / 2)  # seed 0 is half right beside either
    assert (found.within, found.n_low, found.n_high, found.n_within) == (0.5, 2, 2, 1)
    assert separate({0: [1.0]}, {0: [1.0 + 1e-14]}, 0.95).auroc == 0.5


def test_a_measure_that_orders_seeds_but_not_models_separates_nothing():
    """Within each seed the one model lies above the other, by far less than seeds differ."""
    found = separate(*sides(10.0 * np.arange(10), 10.0 * np.arange(10) + 1), 0.95)
    assert found.within == 1 and found.within_low > 0.5 and found.auroc == pytest.approx(0.55)
    assert found.verdict == "undetermined"


@pytest.mark.parametrize("sides_", [({}, {0: [1.0]}), ({0: [float("nan")]}, {0: [1.0]}), ({0: [1.0]}, {0: []})])
def test_without_values_of_both_sides_nothing_is_said(sides_):
    found = separate(*sides_, 0.95)
    assert math.isnan(found.auroc) and math.isnan(found.ci_low) and found.verdict == "undefined"


def test_a_mean_by_hand():
    assert mean_with_t([1.0, 2.0, 3.0], 0.95) == pytest.approx((2, 2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))
    assert mean_with_t([1.0], 0.95)[0] == 1 and math.isnan(mean_with_t([1.0], 0.95)[1])
    assert all(map(math.isnan, mean_with_t([], 0.95))) and all(map(math.isnan, mean_with_t([1, math.nan], 0.95)))


@pytest.mark.parametrize(("n", "bounds"), [(6, (1, 6)), (8, (1, 8)), (9, (2, 8)), (10, (2, 9)), (20, (6, 15))])
def test_order_statistics_are_those_of_the_tables_of_the_sign_test(n, bounds):
    assert median_with_ranks(range(1, n + 1), 0.95) == (pytest.approx((n + 1) / 2), *bounds)


def test_medians_of_few_values_and_of_some_that_are_never_reached():
    assert math.isnan(median_with_ranks([1, 2, 3, 4, 5], 0.95)[1])
    assert median_with_ranks([0.9] * 7 + [math.inf] * 3, 0.95) == (0.9, 0.9, math.inf)
    assert median_with_ranks([math.inf] * 6, 0.95) == (math.inf, math.inf, math.inf)


@pytest.mark.parametrize(
    ("values", "dose"),
    [
        ([1.0, 1.0, 0.5, 0.5], 0.85), ([1.0, 0.5, 1.0, 0.5], 0.65), ([1.0, 0.9, 0.75, 0.7], 0.9),
        ([1.0, 0.9, 0.9, 0.75], math.inf), ([0.7, 0.6, 0.5, 0.5], math.nan), ([1.0, math.nan, 0.5, 0.5], math.nan),
    ],
)  # fmt: skip
def test_where_a_curve_falls(values, dose):
    assert falls_below([0.5, 0.8, 0.9, 1.0], values, 0.75) == pytest.approx(dose, nan_ok=True)
