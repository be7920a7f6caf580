"""Last digits decide nothing: where values move by 1e-12, statistics move by 1e-9 at most and counts not at all.

Columns are of the kinds that measures give: continuous, accuracies of 0, ½ and 1, shares of 99 partners (k/99, as
computed and as a table of 6 significant digits gives them back), saturated shares, values at a tested bound, and such
that leave no variance.
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import pytest
from scipy import stats as sp

from attention_collapse.stats import ties
from attention_collapse.stats.claims import agrees
from attention_collapse.stats.decision import Gates, Severity, decide, is_confirmed, is_severe
from attention_collapse.stats.effect_size import cohen_d_interval
from attention_collapse.stats.few_models import Separation, separate, tell_apart
from attention_collapse.stats.meta import random_effects
from attention_collapse.stats.one_sample import bootstrap_columns, describe_columns, holm, one_sample
from attention_collapse.stats.paired import paired
from attention_collapse.stats.permutation import sign_flip
from attention_collapse.stats.power import images_needed, simulated_power, t_test_power
from attention_collapse.stats.sample_shape import describe_shape
from attention_collapse.stats.severity import severity_columns
from attention_collapse.stats.validity import flagged, rank_correlation, threshold

NOISE, ALLOWED = 1e-12, 1e-9
# Relative to an sd of 0.001, the noise is 1e-9 itself: effect sizes, t and moments follow it, and the interval of an
# effect of 1,000 standard deviations adds its solver's own tolerance of some 1e-7.
ALLOWED_NEARLY_CONSTANT = 1e-6
RESAMPLES = 499
SIDES = ("two-sided", "greater", "less")


def six_digits(values):
    """As a table gives values back."""
    return np.array([float(f"{value:.6g}") for value in values])


def ninety_ninths(rng, n):
    return rng.integers(-20, 100, n) / 99


KINDS = {
    "continuous": lambda rng, n: rng.beta(4, 2, n),
    "0, ½, 1": lambda rng, n: rng.choice([0.0, 0.5, 1.0], n, p=[0.3, 0.1, 0.6]),
    "k/99": ninety_ninths,
    "k/99 from a table": lambda rng, n: six_digits(ninety_ninths(rng, n)),
    "differences of k/99 from a table": lambda rng, n: (
        six_digits(ninety_ninths(rng, n)) - six_digits(ninety_ninths(rng, n))
    ),
    "saturated": lambda rng, n: np.where(rng.random(n) < 0.7, 1.0, rng.choice([0.0, 0.3, 0.95], n)),
    "nearly constant": lambda rng, n: six_digits(0.8 + 1e-3 * rng.normal(size=n)),
    "constant": lambda rng, n: np.full(n, 0.7),
    "with NaN": lambda rng, n: np.where(rng.random(n) < 0.1, np.nan, rng.choice([0.0, 0.5, 1.0], n)),
    "at bounds": lambda rng, n: rng.choice([0.5, 0.6, 0.7, 0.8, 0.9], n),
}
CASES = [pytest.param(kind, n, id=f"{kind}, n = {n}") for kind in KINDS for n in (20, 100)]


def disturbed(values, rng):
    return np.asarray(values) + NOISE * rng.uniform(-1, 1, np.shape(values))


def flat(found, path=""):
    """path -> number or text of whatever a statistic returns."""
    if dataclasses.is_dataclass(found):
        found = dataclasses.asdict(found)
    if isinstance(found, np.ndarray | list | tuple):
        found = dict(enumerate(found))
    if isinstance(found, Mapping):
        return {key: value for name, part in found.items() for key, value in flat(part, f"{path}.{name}").items()}
    return {path: found}


def moved(one, other, allowed=ALLOWED):
    """What differs by more than is allowed, relative and absolute below 1: path -> the two."""
    one, other = flat(one), flat(other)
    assert one.keys() == other.keys()

    def same(a, b):
        if isinstance(a, float | np.floating) and isinstance(b, float | np.floating):
            return a == b or (math.isnan(a) and math.isnan(b)) or abs(a - b) <= allowed * max(1.0, abs(a))
        return a == b

    return {path: (value, other[path]) for path, value in one.items() if not same(value, other[path])}


def check(statistic, kind, n, columns=1, seeds=4):
    """`statistic` of `columns` columns of a kind, as they are and disturbed, over some seeds."""
    allowed = ALLOWED_NEARLY_CONSTANT if kind == "nearly constant" else ALLOWED
    for seed in range(seeds):
        rng = np.random.default_rng([seed, n])
        given = [KINDS[kind](rng, n) for _ in range(columns)]
        other = [disturbed(values, rng) for values in given]
        assert not moved(statistic(*given), statistic(*other), allowed), f"seed {seed}"


GATES = Gates(3, 2, alpha=0.05, imbalance=0.8, confirm_margin=0.05)


@pytest.mark.parametrize(("kind", "n"), CASES)
def test_intervals(kind, n):
    def statistic(*columns):
        found = describe_columns(dict(enumerate(columns)), n_resamples=RESAMPLES, rng=0)
        tables = np.nan_to_num(np.column_stack(columns))
        options = {"confidence": 0.9, "n_resamples": RESAMPLES, "rng": np.random.default_rng(1)}
        return found, bootstrap_columns(tables, **options)

    check(statistic, kind, n, columns=4)


@pytest.mark.parametrize("value", [0.0, 0.5, 0.7, 0.8])
@pytest.mark.parametrize(("kind", "n"), CASES)
def test_tests_of_one_sample(kind, n, value):
    check(lambda x: [one_sample(x, value, side, n_resamples=RESAMPLES) for side in SIDES], kind, n, seeds=2)


@pytest.mark.parametrize(("kind", "n"), CASES)
def test_permutation_tests(kind, n):
    def statistic(*columns):
        table = np.column_stack(columns) - 0.5
        return sign_flip(table, SIDES, n_resamples=RESAMPLES, rng=np.random.default_rng(0))

    check(statistic, kind, n, columns=3)


@pytest.mark.parametrize(("kind", "n"), CASES)
def test_paired_tests(kind, n):
    check(lambda a, b: paired(a, b, margin=0.05, n_resamples=RESAMPLES, rng=0), kind, n, columns=2)


@pytest.mark.parametrize(("kind", "n"), CASES)
def test_identical_columns(kind, n):
    """Two tables of the same images and the same model, computed on two machines."""
    rng = np.random.default_rng(n)
    x = KINDS[kind](rng, n)
    one = paired(x, x, margin=0.05, n_resamples=RESAMPLES, rng=0)
    assert not moved(one, paired(disturbed(x, rng), disturbed(x, rng), margin=0.05, n_resamples=RESAMPLES, rng=0))
    one, other = ({seed: [float(value)] for seed, value in enumerate(disturbed(x, rng))} for _ in range(2))
    assert separate(one, other, 0.95).auroc == 0.5 or np.isnan(x).any()


@pytest.mark.parametrize(("kind", "n"), CASES)
def test_shape_and_outliers(kind, n):
    check(describe_shape, kind, n)


@pytest.mark.parametrize(("kind", "n"), CASES)
def test_severity(kind, n):
    options = {"threshold": 0.8, "margin": 0.05, "alpha": 0.05, "power": 0.8, "n_resamples": RESAMPLES, "rng": 0}
    check(lambda x: severity_columns({"s": np.clip(x, 0, 1)}, **options), kind, n)


@pytest.mark.parametrize(("kind", "n"), CASES)
def test_power(kind, n):
    def statistic(x):
        simulated = [
            simulated_power(x, effect, alternative=side, n_simulations=RESAMPLES, rng=0)
            for side in SIDES
            for effect in (0.05, 0.1, 0.0)
        ]
        d = float(np.nanmean(x) - 0.5)
        return simulated, t_test_power(d, n), images_needed(d)

    check(statistic, kind, n, seeds=2)


@pytest.mark.parametrize(("kind", "n"), CASES)
def test_separation_of_models(kind, n):
    def statistic(*columns):
        means = [
            float(np.mean(x)) for x in (*columns, *(x[::-1] for x in columns[:2]))
        ]  # ties but for the order of sums
        low, high = ({seed: [mean] for seed, mean in enumerate(side)} for side in (means[:4], means[4:]))
        return [tell_apart(low, high, way, 0.95, "?") for way in (-1, 1)]

    check(statistic, kind, n, columns=6)


@pytest.mark.parametrize(("kind", "n"), CASES)
def test_thresholds(kind, n):
    def statistic(balanced, other):
        bounds = [threshold(balanced, two_sided=both) for both in (True, False)]
        published = [(0.2, 0.8), (0.5, 0.7), (0.5, math.inf)]
        return bounds, [flagged(x, *pair) for pair in (*bounds, *published) for x in (balanced, other)]

    check(statistic, kind, n, columns=2)


@pytest.mark.parametrize(("kind", "n"), CASES)
def test_models_together(kind, n):
    def statistic(*columns):
        means, errors = [float(np.mean(x)) for x in columns], [float(np.std(x, ddof=1) / math.sqrt(n)) for x in columns]
        same = [float(np.mean(x[::step])) for x in columns[:2] for step in (1, -1, 1)]  # ties but for the order of sums
        planted = [-1, -1, 0, 0, 1, 1]
        return (
            random_effects(means, errors),
            random_effects([0.5, 0.6, 0.7], errors[:3]),
            rank_correlation(planted, means),
            rank_correlation(planted[: len(same)], same),
            holm([sp.norm.sf(mean) for mean in means]),
        )

    def checked(*columns):
        return statistic(*columns, *(columns[0] for _ in range(2)))  # two models that say the same

    check(checked, kind, n, columns=4)


@pytest.mark.parametrize("sign", [-1, 1])
def test_bounds_met_but_for_rounding(sign):
    """At a bound is at it: rules that ask for more, for less, or for at least so much."""
    e = sign * NOISE
    model = Severity(False, 100, 0.9, 0.8, 1.0, p_holm=0.01, p_balanced_holm=0.99, n_to_settle=100, lost=0.05 + e)
    assert is_confirmed(model, GATES)  # a loss at the margin is no more than it
    assert not is_severe(dataclasses.replace(model, mean=0.8 + e), GATES)
    assert not is_severe(dataclasses.replace(model, p_holm=0.05 + e), GATES)
    below = dataclasses.replace(model, mean=0.7, p_holm=1.0, p_balanced_holm=0.05 + e)
    assert decide({"m": below}, GATES)["undecided"] == "m"
    for inner, outer in ((0.5 + e, 0.6), (0.6, 0.5 + e)):
        assert Separation(0.9, inner, 1.0, 0.9, outer, 1.0, 9, 9, 9).verdict == "undetermined"
        assert Separation(0.1, 0.0, 1 - inner, 0.1, 0.0, 1 - outer, 9, 9, 9).verdict == "undetermined"
    assert flagged([0.2 + e, 0.8 + e, 0.5], 0.2, 0.8) == 0
    assert severity_columns(
        {"s": [0.8 + e, 0.2 + e, 0.9, 0.85]}, threshold=0.8, margin=0.05, alpha=0.05, power=0.8, n_resamples=99, rng=0
    )["s"]["share_severe"] == 0.5  # fmt: skip
    assert images_needed(abs(e))[1] == images_needed(0.0)[1] == "no effect to show"
    assert agrees(0.73, 0.735 + e) and agrees(0.73, 0.725 + e)
    # Quartiles 1 and 2, so fences at −0.5 and 3.5: values there are no outliers.
    assert describe_shape([1, 1, 1, 2, 2, 2, 1.5, 3.5 + e, -0.5 + e])["outliers_iqr"] == 0
    assert "no sampling variance" in random_effects([0.5, 0.6], [0.1, abs(e)])["reason"]


@pytest.mark.parametrize("seed", range(4))
def test_a_simulated_study_of_equal_values_at_the_tested_one_shows_nothing(seed):
    # Residuals −0.1, −0.1 and 0.2: of studies of three, 8 of 27 draw the first two alone, whose mean is 0 beside 0.1.
    x = np.array([0.5, 0.5, 0.8])
    options = {"effect": 0.1, "n_simulations": RESAMPLES, "rng": 0}
    assert simulated_power(x, **options) == simulated_power(disturbed(x, np.random.default_rng(seed)), **options)


def test_the_effect_size_of_no_effect_is_continuous():
    assert not moved(cohen_d_interval(0.0, 20), cohen_d_interval(NOISE, 20))


def test_neighbours_closer_than_rounding_become_one_value():
    x = [0.3, 0.1 + 0.2, 0.3 - 1e-11, 0.3001, math.nan, math.inf, -math.inf, math.inf]
    found = ties.settle(x)
    assert len(set(found[:3])) == 1 and found[0] == 0.3 - 1e-11
    np.testing.assert_array_equal(found[3:], x[3:])
    assert ties.settle(x, 0.3)[2] == 0.3 and ties.settle([], 0.3).shape == (0,)
    assert ties.settle([[1.0, 2.0]]).shape == (1, 2) and ties.settle(0.3 + 1e-12, 0.3) == 0.3
    assert list(ties.above(x, 0.3)) == [False] * 3 + [True, False, True, False, True]
    assert list(ties.below(x, 0.3)) == [False] * 6 + [True, False]
    large = 1e6 * np.array([1.0, 1.0 + 1e-11, 1.0 + 1e-9])  # rounding is relative to what is rounded
    assert list(ties.settle(large) == large[0]) == [True, True, False]


def test_values_further_apart_than_rounding_are_untouched():
    x = np.random.default_rng(0).normal(size=(50, 7))
    np.testing.assert_array_equal(ties.settle(x, 0.5), x)
    np.testing.assert_array_equal(ties.settle(six_digits(x[0]), 0.5), six_digits(x[0]))


@pytest.mark.parametrize("n", [20, 100, 1000])
def test_means_that_a_table_keeps_apart_are_ties(n):
    """Of resamples of k/99 from a table, those whose whole numbers sum to the sample's own are ties, no others."""
    rng = np.random.default_rng(n)
    whole = rng.integers(-20, 100, n)
    values = six_digits(whole / 99)
    away = values - values.mean()
    drawn = rng.integers(n, size=(20_000, n))
    near = np.abs(away[drawn].mean(1)) <= ties.of_means(away)
    np.testing.assert_array_equal(near, whole[drawn].sum(1) == whole.sum())


def test_ties_of_means_leave_continuous_columns_as_they_are(monkeypatch):
    """Limits with and without differ by less than 0.01 standard errors; resampling alone moves them by some 0.02."""
    x = np.random.default_rng(0).beta(4, 2, (100, 200))
    options = {"confidence": 0.95, "n_resamples": 2000}
    one = bootstrap_columns(x, rng=np.random.default_rng(0), **options)
    monkeypatch.setattr(ties, "of_means", lambda away: np.zeros(away.shape[1:]))
    other = bootstrap_columns(x, rng=np.random.default_rng(0), **options)
    assert np.abs((one - other) / (x.std(0) / 10)).max() < 0.01 and np.mean(one == other) > 0.9
