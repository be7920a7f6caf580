import numpy as np
import pytest

from attention_collapse.stats.validity import flagged, rank_correlation, threshold


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
