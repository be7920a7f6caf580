import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from attention_collapse.stats.validity import auroc, contrast, flagged, rank_correlation, threshold, verdict

OPTIONS = {"n_resamples": 400, "confidence": 0.95, "seed": 0}


def test_auroc_by_hand_and_as_mann_and_whitneys_u():
    assert auroc([1, 2, 3], [4, 5]) == 1 and auroc([4, 5], [1, 2, 3]) == 0 and auroc([1, 2], [1, 2]) == 0.5
    assert auroc([1, 3], [2]) == 0.5 and auroc([1, 2, 2], [2, 3]) == pytest.approx((1 + 0.5 + 0.5 + 3) / 6)
    rng = np.random.default_rng(0)
    low, high = rng.integers(0, 6, 40).astype(float), rng.integers(1, 8, 30).astype(float)
    assert auroc(low, high) == pytest.approx(mannwhitneyu(high, low).statistic / (40 * 30))


@pytest.mark.parametrize("sides", [([], [1.0]), ([1.0], []), ([1.0, np.nan], [2.0])])
def test_auroc_of_nothing_or_of_the_undefined_is_undefined(sides):
    assert np.isnan(auroc(*sides))


def models(means, spread, n=60, seed=0):
    rng = np.random.default_rng(seed)
    return {key: rng.normal(mean, spread, n) for key, mean in enumerate(means)}


def test_models_far_apart_are_separated_and_equal_ones_are_not():
    apart = contrast(models([0, 0.1, 0.2], 0.1), models([2, 2.1, 2.2], 0.1, seed=1), **OPTIONS)
    assert apart.auroc == apart.ci_low == apart.ci_high == apart.auroc_images == 1
    assert apart.by_seed == {0: 1.0, 1: 1.0, 2: 1.0}
    equal = contrast(models([0, 1, 2], 0.1), models([0, 1, 2], 0.1, seed=1), **OPTIONS)
    assert equal.ci_low < 0.5 < equal.ci_high


def test_images_that_overlap_leave_models_apart():
    found = contrast(models([0, 0, 0], 1.0, n=400), models([0.5, 0.5, 0.5], 1.0, n=400, seed=1), **OPTIONS)
    assert found.auroc == 1 and found.auroc_images == pytest.approx(0.638, abs=0.04)  # Φ(0.5/√2)


def test_the_interval_knows_that_seeds_differ():
    """One of three collapsed models lies on the wrong side: the interval must say how little three seeds prove."""
    found = contrast(models([0, 0, 3], 0.1), models([1, 1, 1], 0.1, seed=1), **OPTIONS)
    assert found.auroc == pytest.approx(2 / 3) and found.ci_low <= 1 / 3 and found.ci_high == 1


def test_no_model_left_is_undefined():
    found = contrast({}, models([1], 0.1), **OPTIONS)
    assert np.isnan(found.auroc) and verdict([found]) == "undefined"


def test_rank_correlation():
    rho, p = rank_correlation([-1, -1, 0, 0, 1, 1], [0.9, 0.8, 0.5, 0.45, 0.1, 0.05])
    assert rho == pytest.approx(-16 / np.sqrt(16 * 17.5))  # Pearson's r of the ranks, ties sharing their mean rank
    assert 0 < p < 0.05
    assert np.isnan(rank_correlation([0, 0, 0], [1.0, 2.0, 3.0])).all()
    assert np.isnan(rank_correlation([0, 1, 2], [1.0, np.nan, 3.0])).all()


def test_the_threshold_holds_its_rate():
    values = np.random.default_rng(0).normal(size=4000)
    low, high = threshold(values, two_sided=True)
    assert flagged(values, low, high) == pytest.approx(0.05, abs=0.002)
    assert (low, high) == pytest.approx((-1.96, 1.96), abs=0.12)
    low, high = threshold(values, two_sided=False)
    assert high == np.inf and flagged(values, low, high) == pytest.approx(0.05, abs=0.002)
    assert np.isnan(threshold([0.1, np.nan], two_sided=True)).all()


def test_flagged_by_hand():
    assert flagged([0.1, 0.3, 0.5, 0.7, 0.9], 0.3, 0.7) == pytest.approx(0.4)  # the bounds themselves pass
    assert np.isnan(flagged([np.nan, 0.1], 0.3, 0.7)) and np.isnan(flagged([], 0.3, 0.7))


def made(auroc, low, high):
    from attention_collapse.stats.validity import Contrast

    return Contrast(auroc, low, high, auroc, {})


@pytest.mark.parametrize(
    ("contrasts", "expected"),
    [
        ([made(1, 1, 1), made(0.95, 0.6, 1)], "trusted"),
        ([made(1, 1, 1), made(0.85, 0.6, 1)], "partial"),
        ([made(1, 1, 1), made(0.5, 0.2, 0.8)], "partial"),
        ([made(0.6, 0.3, 0.9), made(0.5, 0.2, 0.8)], "blind"),
        ([made(1, 1, 1), made(0.1, 0, 0.4)], "misleading"),
        ([], "undefined"),
    ],
)
def test_verdicts_by_rule(contrasts, expected):
    assert verdict(contrasts) == expected
