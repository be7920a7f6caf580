"""Functions of means: known answers, agreement with scipy's BCa, coverage by simulation, and the p-values beside."""

import math

import numpy as np
import pytest
from scipy import stats

from attention_collapse.stats.of_means import bootstrap, describe_of_means, pseudo_values
from attention_collapse.stats.one_sample import describe


def ratio(a, b):
    return a / b


def data(n=60, seed=0):
    rng = np.random.default_rng(seed)
    return rng.gamma(2, 1, n), rng.gamma(3, 2, n)


def test_a_ratio_of_means_is_no_mean_of_ratios():
    a, b = np.array([1.0, 9.0]), np.array([1.0, 3.0])
    assert describe_of_means([a, b], ratio, n_resamples=200, rng=0)["mean"] == 2.5  # 10 / 4, and not (1 + 3) / 2


def test_the_interval_is_scipys_bca_of_the_paired_ratio():
    a, b = data()
    ours = describe_of_means([a, b], ratio, n_resamples=20_000, rng=1)
    theirs = stats.bootstrap(
        (a, b), lambda x, y, axis=-1: x.mean(axis) / y.mean(axis), paired=True, vectorized=True, method="BCa",
        n_resamples=20_000, rng=np.random.default_rng(2),
    ).confidence_interval  # fmt: skip
    assert ours["ci_low"] == pytest.approx(theirs.low, rel=0.02) and ours["ci_high"] == pytest.approx(
        theirs.high, rel=0.02
    )


def test_of_one_column_it_is_the_interval_of_the_mean():
    a, _ = data()
    ours = describe_of_means([a], lambda mean: mean, n_resamples=20_000, rng=1)
    theirs = describe(a, n_resamples=20_000, rng=2)
    assert ours["mean"] == pytest.approx(theirs["mean"]) and ours["sd"] == pytest.approx(theirs["sd"])
    assert ours["ci_low"] == pytest.approx(theirs["ci_low"], rel=0.01)


def test_p_is_the_level_of_the_limit_that_reaches_the_value():
    a, b = data()
    found = bootstrap([a, b], ratio, n_resamples=50_000, rng=3)
    for level in (0.005, 0.025, 0.2):
        assert found.p_at_most(found.limit(level)) == pytest.approx(level, rel=0.02)
        assert found.p_at_least(found.limit(1 - level)) == pytest.approx(level, rel=0.02)
    assert 0 < found.p_at_most(-1.0) < 1e-4 and found.p_at_most(found.estimate) == pytest.approx(0.5, abs=0.06)


def test_what_is_undefined_is_counted_and_has_a_reason():
    a, b = data(12)
    a[0] = np.nan
    found = describe_of_means([a, b], ratio, n_resamples=500, rng=0)
    assert (found["n"], found["n_undefined"]) == (11, 1) and math.isfinite(found["ci_low"])
    assert found["mean"] == pytest.approx(a[1:].mean() / b[1:].mean())
    assert "2 or more needed" in describe_of_means([a[:2], b[:2]], ratio, n_resamples=50, rng=0)["reason"]
    assert describe_of_means([b, b], ratio, n_resamples=50, rng=0)["reason"] == "no variance"


def test_pseudo_values_have_the_functions_mean_and_the_jackknifes_spread():
    a, b = data()
    found = pseudo_values([a, b], ratio)
    whole = describe_of_means([a, b], ratio, n_resamples=200, rng=0)
    assert found.mean() == pytest.approx(whole["mean"], rel=0.01) and found.std(ddof=1) == pytest.approx(whole["sd"])
    assert np.allclose(pseudo_values([a], lambda mean: mean), a)  # of a mean they are the values
    a[3] = np.nan
    assert np.isnan(pseudo_values([a, b], ratio)).nonzero()[0].tolist() == [3]


@pytest.mark.slow
def test_coverage():
    """95 % ± 1.5 of 2,000 intervals hold the truth, at the sizes and skewness of squared changes of a score."""
    rng, held, runs = np.random.default_rng(4), 0, 2000
    for _ in range(runs):
        change = rng.normal(size=(100, 2)) * (1.0, 0.5)
        a, b = change[:, 0] ** 2, (change.sum(1)) ** 2  # E: 1 and 1.25
        found = describe_of_means([a, b], ratio, n_resamples=600, rng=rng)
        held += found["ci_low"] <= 1 / 1.25 <= found["ci_high"]
    assert 0.935 <= held / runs <= 0.965
