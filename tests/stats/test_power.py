"""Against G*Power, the definition of the noncentral t distribution, and by simulation."""

import math

import numpy as np
import pytest
from noncentral_t import upper_tail
from scipy import stats as sp

from attention_collapse.stats.power import images_needed, simulated_power, t_test_power


def test_the_planned_34_images():
    # Cohen (1988): d = 0.5, two-sided 5 %, power 0.8.
    assert images_needed(0.5) == (34, None)


def test_the_example_of_gpowers_user_guide():
    # "Means: Difference from constant (one-sample case)": d = 0.625, one-tailed, α = 0.05, power 0.95 -> N = 30
    assert images_needed(0.625, power=0.95, alternative="greater") == (30, None)


@pytest.mark.parametrize(("d", "n", "alpha"), [(0.5, 34, 0.05), (0.2, 60, 0.10), (0.0, 20, 0.05), (-0.9, 8, 0.01)])
def test_power_by_definition(d, n, alpha):
    critical, nc = sp.t.isf(alpha / 2, n - 1), d * math.sqrt(n)
    expected = upper_tail(critical, n - 1, nc) + upper_tail(critical, n - 1, -nc)
    assert t_test_power(d, n, alpha=alpha) == pytest.approx(expected, abs=1e-8)


def test_the_reported_power():
    assert t_test_power(1.42, 100) > 0.9999  # reported as 0.94: see docs/measures.md, section 8


@pytest.mark.parametrize("alternative", ["two-sided", "greater"])
@pytest.mark.parametrize("d", [0.1, 0.5, 1.7, 6.0])
def test_one_image_fewer_would_not_do(d, alternative):
    n, reason = images_needed(d, power=0.9, alpha=0.01, alternative=alternative)
    assert reason is None and t_test_power(d, n, alpha=0.01, alternative=alternative) >= 0.9
    assert n == 2 or t_test_power(d, n - 1, alpha=0.01, alternative=alternative) < 0.9


@pytest.mark.parametrize(
    ("d", "reason"),
    [
        (0.0, "no effect"),
        (-0.5, "no effect"),
        (1e-5, "more than"),
        (math.nan, "no standard"),
        (math.inf, "no standard"),
    ],
)
def test_a_number_of_images_that_does_not_exist(d, reason):
    n, why = images_needed(d, alternative="greater")
    assert math.isnan(n) and reason in why


def test_one_image_is_enough_for_no_test():
    assert math.isnan(t_test_power(0.5, 1)) and images_needed(1e4) == (2, None)


@pytest.mark.parametrize("alternative", ["greater", "less", "two-sided"])
def test_simulation_agrees_with_the_noncentral_t_for_normal_values(alternative):
    x = np.random.default_rng(2).normal(0.7, 0.2, 400)
    effect = -0.028 if alternative == "less" else 0.028
    found = simulated_power(x, effect, alternative=alternative, rng=0)
    # The bootstrap's population has the sd with ddof 0.
    assert found == pytest.approx(t_test_power(effect / x.std(), 400, alternative=alternative), abs=0.02)


def test_without_an_effect_the_simulated_power_is_the_level():
    x = np.random.default_rng(3).normal(0.7, 0.2, 200)
    assert simulated_power(x, 0.0, rng=0) == pytest.approx(0.05, abs=0.01)


def test_simulated_power_grows_with_the_effect_and_falls_with_alpha():
    x = np.random.default_rng(3).gamma(2, 0.1, 60)
    powers = [simulated_power(x, effect, n_simulations=2000, rng=0) for effect in (0.01, 0.03, 0.06, 1.0)]
    assert powers == sorted(powers) and powers[-1] == 1
    assert simulated_power(x, 0.03, alpha=0.01, n_simulations=2000, rng=0) < powers[1]


def test_batches_change_nothing_but_the_draws(monkeypatch):
    x = np.random.default_rng(3).normal(size=50)
    whole = simulated_power(x, 0.35, rng=0)
    monkeypatch.setattr("attention_collapse.stats.power.BATCH", 50 * 999)
    assert simulated_power(x, 0.35, rng=0) == pytest.approx(whole, abs=0.02)


@pytest.mark.parametrize("values", [[0.5], [], [math.nan] * 4, [0.3] * 5])
def test_without_residuals_there_is_no_power(values):
    assert math.isnan(simulated_power(values, 0.1, rng=0))


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
@pytest.mark.parametrize("d", [-0.3, 0.01, 0.5, 2.6, 6.0])
def test_power_is_that_of_pingouin(d, alternative):
    """It has the far tail right too, where SciPy's own lower tail of the noncentral t is NaN."""
    pg = pytest.importorskip("pingouin")
    for n, alpha in ((2, 0.05), (10, 0.05 / 7), (100, 0.01), (5000, 0.05)):
        expected = pg.power_ttest(d=d, n=n, alpha=alpha, contrast="one-sample", alternative=alternative)
        assert t_test_power(d, n, alpha=alpha, alternative=alternative) == pytest.approx(expected, abs=1e-12)
