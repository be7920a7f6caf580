"""Against a published randomisation test, scipy's exact one, and by simulation under the null hypothesis."""

import math

import numpy as np
import pytest
from scipy import stats as sp

from attention_collapse.stats.permutation import sign_flip

# Darwin's maize, cross- minus self-fertilised heights of 15 pairs (eighths of an inch; Darwin 1876, table 6/97). Fisher
# (1935), The Design of Experiments, §21, counted how many sign patterns have a sum as far from 0 as the observed one.
MAIZE = np.array([49.0, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48])


def rng(seed=0):
    return np.random.default_rng(seed)


def test_fishers_randomisation_test_of_darwins_maize():
    table = np.column_stack([MAIZE, MAIZE, -MAIZE])
    signs = 1 - 2 * ((np.arange(2**15)[:, None] >> np.arange(15)) & 1)  # all 32,768 patterns
    as_far = int((np.abs(signs @ MAIZE) >= MAIZE.sum()).sum())
    both, greater, less = sign_flip(table, ["two-sided", "greater", "less"], n_resamples=200_000, rng=rng())
    assert both == pytest.approx(as_far / 2**15, abs=0.002)  # 4 standard errors of 200,000 draws
    assert greater == less == pytest.approx(as_far / 2**16, abs=0.0015)


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_it_agrees_with_scipys_exact_test(alternative):
    x = rng(3).normal(0.4, 1, 10)
    exact = sp.permutation_test(
        (x,), lambda v, axis: v.sum(axis), permutation_type="samples", vectorized=True, alternative=alternative
    ).pvalue  # 2^10 patterns, all of them
    assert sign_flip(x[:, None], [alternative], n_resamples=100_000, rng=rng())[0] == pytest.approx(exact, abs=0.007)


def test_p_is_b_plus_1_over_m_plus_1_and_never_0():
    strong = np.full((40, 1), 3.0) + rng().normal(0, 0.1, (40, 1))
    assert sign_flip(strong, ["two-sided"], n_resamples=999, rng=rng())[0] == 1 / 1000
    assert sign_flip(-strong, ["greater"], n_resamples=999, rng=rng())[0] == 1


def test_ties_by_rounding_count_as_extreme():
    # Of the 8 sums ±0.1 ± 0.2 ± 0.3 three lie above 0 and two are 0, one of them the observed: p = 5/8. In floating
    # point 0.1 + 0.2 − 0.3 is 5.6e-17, and its negative would not count.
    p = sign_flip(np.array([[0.1], [0.2], [-0.3]]), ["greater"], n_resamples=20_000, rng=rng())[0]
    assert p == pytest.approx(5 / 8, abs=0.015)


def test_undefined_values_change_nothing():
    x = rng(5).normal(0.3, 1, 30)
    holes = np.concatenate([x, np.full(10, math.nan)])[:, None]
    alone = sign_flip(x[:, None], ["greater"], n_resamples=40_000, rng=rng())[0]
    assert sign_flip(holes, ["greater"], n_resamples=40_000, rng=rng(1))[0] == pytest.approx(alone, abs=0.012)
    assert sign_flip(np.full((4, 1), math.nan), ["greater"], n_resamples=99, rng=rng())[0] == 1


def test_batches_change_nothing(monkeypatch):
    x = rng(6).normal(0.2, 1, (25, 2))
    whole = sign_flip(x, ["greater", "two-sided"], n_resamples=20_000, rng=rng())
    monkeypatch.setattr("attention_collapse.stats.permutation.BATCH", 25 * 700)
    assert sign_flip(x, ["greater", "two-sided"], n_resamples=20_000, rng=rng()) == pytest.approx(whole, abs=0.015)


@pytest.mark.parametrize("draw", [lambda r, size: r.normal(size=size), lambda r, size: r.laplace(size=size)])
def test_under_the_null_hypothesis_p_is_uniform(draw):
    p = []
    for block in range(5):
        generator = rng(100 + block)
        p.append(sign_flip(draw(generator, (50, 2000)), ["two-sided"] * 2000, n_resamples=999, rng=generator))
    p = np.concatenate(p)  # 10,000 data sets: the standard error of the level is 0.0022
    assert np.mean(p <= 0.05) <= 0.055 and sp.kstest(p, "uniform").pvalue > 0.001
