"""Against the gamma function by hand, the definition of the noncentral t distribution, and by simulation."""

import math

import numpy as np
import pytest
from noncentral_t import upper_tail

from attention_collapse.stats.effect_size import cohen_d_interval, hedges_factor


@pytest.mark.parametrize(
    ("df", "factor"),
    # From Γ(½) = √π and Γ(x + 1) = x Γ(x): 1/√π, √π/√6, 4/√(8π), and 24/(√5 · 105/16 · √π).
    [(2, 0.564190), (3, 0.723601), (4, 0.797885), (10, 0.922746)],
)
def test_hedges_factor_by_hand(df, factor):
    assert hedges_factor(df) == pytest.approx(factor, abs=1e-6)


def test_there_is_no_factor_below_two_degrees_of_freedom():
    assert math.isnan(hedges_factor(1))


@pytest.mark.parametrize(("t", "n"), [(2.83, 127), (0.3, 12), (14.2, 100)])
def test_the_limits_by_definition(t, n):
    """At the limits the observed t is the 97.5 % and the 2.5 % point of the noncentral t distribution."""
    low, high = (limit * math.sqrt(n) for limit in cohen_d_interval(t, n))
    assert upper_tail(t, n - 1, low) == pytest.approx(0.025, abs=1e-6)
    assert upper_tail(t, n - 1, high) == pytest.approx(0.975, abs=1e-6)
    assert cohen_d_interval(-t, n) == pytest.approx((-high / math.sqrt(n), -low / math.sqrt(n)), abs=1e-6)


def test_a_t_without_an_interval():
    assert all(math.isnan(limit) for t in (math.nan, 1e6, -math.inf) for limit in cohen_d_interval(t, 100))


def test_coverage():
    """Of 4,000 intervals at 95 %, 95 % hold the true d (standard error 0.34 points)."""
    generator, d, n = np.random.default_rng(4), 0.8, 20
    x = generator.normal(d, 1, (4000, n))
    t = x.mean(1) / (x.std(1, ddof=1) / math.sqrt(n))
    hits = [low <= d <= high for low, high in (cohen_d_interval(value, n) for value in t)]
    assert np.mean(hits) == pytest.approx(0.95, abs=0.0125)
