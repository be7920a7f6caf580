"""Against values worked out from the definitions, and by simulation."""

import math

import numpy as np
import pytest
from scipy import stats as sp

from attention_collapse.stats.one_sample import (
    _log10_p,
    bootstrap_columns,
    describe,
    describe_columns,
    holm,
    one_sample,
    one_sample_columns,
)

# R: t.test(c(5.1,4.9,5.6,5.8,6.0,5.4,5.2,5.5), mu = 5) — Student's formula worked by hand below.
SAMPLE = np.array([5.1, 4.9, 5.6, 5.8, 6.0, 5.4, 5.2, 5.5])


def rng(seed=0):
    return np.random.default_rng(seed)


def test_the_t_test_by_its_definition():
    n, mean = 8, 43.5 / 8
    sd = math.sqrt(sum((x - mean) ** 2 for x in SAMPLE.tolist()) / 7)
    t = (mean - 5) / (sd / math.sqrt(n))
    result = one_sample(SAMPLE, 5.0)
    assert result["t"] == pytest.approx(t, rel=1e-12) and result["df"] == 7
    # p by integrating Student's density, not by the library's own function.
    grid = np.linspace(t, 400, 2_000_001)
    density = math.gamma(4) / (math.sqrt(7 * math.pi) * math.gamma(3.5)) * (1 + grid**2 / 7) ** -4
    p = 2 * np.trapezoid(density, grid)
    assert result["p"] == pytest.approx(p, rel=1e-4)
    assert result["log10_p"] == pytest.approx(math.log10(p), abs=1e-4)
    assert one_sample(SAMPLE, 5.0, "greater")["p"] == pytest.approx(p / 2, rel=1e-4)
    assert one_sample(SAMPLE, 5.0, "less")["p"] == pytest.approx(1 - p / 2, rel=1e-4)
    assert result["cohen_d"] == pytest.approx((mean - 5) / sd, rel=1e-12)
    # Hedges (1981): J(7) = Γ(3.5) / (√3.5 · Γ(3)) = 0.8887
    assert result["hedges_g"] / result["cohen_d"] == pytest.approx(0.8882, abs=5e-5)


def test_effect_sizes_keep_their_sign():
    assert one_sample(SAMPLE, 6.0)["cohen_d"] < 0


def test_wilcoxon_by_counting_all_sign_patterns():
    x = np.array([0.3, -0.1, 0.7, 1.1, 0.2, 0.9])
    ranks = sp.rankdata(np.abs(x))
    observed = ranks[x > 0].sum()
    sums = [sum(r for r, s in zip(ranks, format(i, "06b"), strict=True) if s == "1") for i in range(64)]
    assert one_sample(x, 0.0, "greater")["wilcoxon_p"] == pytest.approx(np.mean([s >= observed for s in sums]))


def test_log10_p_survives_where_p_underflows(monkeypatch):
    result = one_sample(rng().normal(1.0, 1e-4, 500), 0.0)
    assert result["p"] == 0.0 and -3000 < result["log10_p"] < -300
    # Far in the tail Student's density falls as t^-(df+1), so log10 p falls by df for each tenfold t.
    for df in (5.0, 99.0):
        assert _log10_p(1e70, df, "greater") - _log10_p(1e71, df, "greater") == pytest.approx(df, rel=1e-9)
    monkeypatch.setattr(sp.t, "logsf", lambda t, df: -math.inf)  # the logarithmic form alone, where both exist
    for t, df in ((2.5, 7.0), (30.0, 99.0)):
        assert _log10_p(t, df, "greater") == pytest.approx(math.log10(sp.t.sf(t, df)), rel=1e-9)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([0.5], "1 defined value, 2 or more needed"),
        ([], "0 defined values"),
        ([math.nan] * 3, "0 defined values"),
        ([0.7] * 5, "no variance"),
        ([0.1 + 0.2, 0.3], "no variance"),
    ],
)
def test_degenerate_samples_give_a_reason_not_a_number(values, reason):
    described, tested = describe(values, rng=rng()), one_sample(values, 0.5)
    assert reason in described["reason"] and reason in tested["reason"]
    assert math.isnan(described["ci_low"]) and math.isnan(tested["p"]) and math.isnan(tested["t"])


def test_undefined_values_are_left_out_and_counted():
    result = describe([0.4, math.nan, 0.6, 0.5], rng=rng())
    assert (result["n"], result["n_undefined"]) == (3, 1) and result["mean"] == pytest.approx(0.5)
    assert one_sample([0.4, math.nan, 0.6, 0.5], 0.4)["n"] == 3


def test_the_interval_is_reproducible_and_equivariant():
    x = rng(1).gamma(2.0, size=60)
    a, b = describe(x, rng=rng(7), n_resamples=2000), describe(x, rng=rng(7), n_resamples=2000)
    assert a == b
    shifted = describe(3 + 2 * x, rng=rng(7), n_resamples=2000)
    assert shifted["ci_low"] == pytest.approx(3 + 2 * a["ci_low"]) and shifted["ci_high"] == pytest.approx(
        3 + 2 * a["ci_high"]
    )


def test_columns_are_what_scipy_gives_one_at_a_time():
    values = np.column_stack([rng(2).normal(size=40), rng(3).gamma(2, size=40), np.full(40, 0.5)])
    low, high = bootstrap_columns(values, confidence=0.9, n_resamples=3000, rng=rng(5))
    for column in (0, 1):
        sample = (values[:, column],)
        expected = sp.bootstrap(sample, np.mean, confidence_level=0.9, n_resamples=3000, rng=rng(5)).confidence_interval
        assert (low[column], high[column]) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert math.isnan(low[2])


def test_batches_of_resamples_change_nothing(monkeypatch):
    values = rng(2).gamma(2, size=(40, 2))
    whole = bootstrap_columns(values, confidence=0.95, n_resamples=1000, rng=rng())
    monkeypatch.setattr("attention_collapse.stats.one_sample.BATCH", 40 * 7)
    assert np.allclose(bootstrap_columns(values, confidence=0.95, n_resamples=1000, rng=rng()), whole, rtol=1e-9)


def test_samples_together_are_as_samples_alone():
    x = rng(4).gamma(2, size=50)
    columns = {"whole": x, "holes": np.where(np.arange(50) % 7 == 0, np.nan, x), "flat": np.full(50, 0.5), "one": [0.5]}
    together = describe_columns(columns, n_resamples=500, rng=3)
    for name, values in columns.items():
        alone = describe(values, n_resamples=500, rng=3)
        assert together[name] == {key: pytest.approx(value, nan_ok=True) for key, value in alone.items()}
    tests = {"a": (x, 2.0, "greater"), "b": (x, 1.5, "less"), "c": (np.full(50, 0.5), 0.5, "two-sided")}
    for name, result in one_sample_columns(tests, n_resamples=500, rng=3).items():
        alone = one_sample(*tests[name], n_resamples=500, rng=3)
        assert result == {key: pytest.approx(value, nan_ok=True) for key, value in alone.items()}
    assert one_sample_columns({}, rng=0) == {}


def test_effect_sizes_have_intervals_on_the_same_side_as_the_test():
    result = one_sample(SAMPLE, 5.0)
    assert result["cohen_d_ci_low"] < result["cohen_d"] < result["cohen_d_ci_high"]
    # p < 0.05 two-sided exactly if 0 lies outside the 95 % interval of d.
    assert (result["p"] < 0.05) == (result["cohen_d_ci_low"] > 0)
    ratio = result["hedges_g"] / result["cohen_d"]
    assert result["hedges_g_ci_low"] == pytest.approx(ratio * result["cohen_d_ci_low"])
    narrow = one_sample(SAMPLE, 5.0, confidence=0.5)
    assert narrow["cohen_d_ci_low"] > result["cohen_d_ci_low"]


def test_next_to_no_variance_leaves_the_test_but_no_interval_of_its_effect():
    result = one_sample(1 + rng().normal(0, 1e-9, 100), 0.0)
    assert result["t"] > 1e9 and result["p"] == 0 and math.isnan(result["cohen_d_ci_low"])
    assert "no interval of the effect size" in result["reason"] and result["permutation_p"] > 0


@pytest.mark.parametrize("skewed", [False, True])
def test_coverage_of_the_interval(skewed):
    """Of 4,000 intervals at 95 %, 95 % ± 1.5 hold the mean (standard error 0.34 points), n = 100."""
    hits = []
    for block in range(4):  # the data sets of a block are resampled with the same images
        generator = rng(20 + block)
        # Gamma of shape 16: skewness 0.5
        data = generator.gamma(16, 0.04, (100, 1000)) if skewed else generator.normal(0.64, 0.08, (100, 1000))
        low, high = bootstrap_columns(data, confidence=0.95, n_resamples=2000, rng=generator)
        hits.append((low <= 0.64) & (high >= 0.64))
    assert np.mean(hits) == pytest.approx(0.95, abs=0.015)


@pytest.mark.slow
def test_under_the_null_hypothesis_every_p_is_uniform():
    """Type-I error at most 5.5 %, for values of known mean that are not normal.

    With 8,000 data sets, a number fixed beforehand, the bound lies two standard errors of 0.24 points above 5 %.
    """
    generator = rng(2026)
    tests = {str(i): (generator.uniform(0.7, 0.9, 50), 0.8, "two-sided") for i in range(8_000)}
    found = one_sample_columns(tests, n_resamples=999, rng=0)
    for name in ("p", "permutation_p", "wilcoxon_p"):
        p = np.array([result[name] for result in found.values()])
        assert sp.kstest(p, "uniform").pvalue > 0.001 and np.mean(p <= 0.05) <= 0.055


def test_holms_family_wise_error():
    """Of 4,000 families of 5 true null hypotheses, at most 5.5 % hold a rejection."""
    p = rng(14).random((4000, 5))
    assert np.mean([min(holm(family)) <= 0.05 for family in p]) == pytest.approx(0.05, abs=0.005)


def test_holm_by_hand():
    # Sorted: 0.01·4, 0.02·3, 0.03·2 -> raised to 0.06, 0.5·1; NaN is no member of the family.
    assert holm([0.03, 0.01, math.nan, 0.5, 0.02])[:2] == [pytest.approx(0.06), pytest.approx(0.04)]
    adjusted = holm([0.03, 0.01, math.nan, 0.5, 0.02])
    assert math.isnan(adjusted[2]) and adjusted[3:] == [pytest.approx(0.5), pytest.approx(0.06)]
    assert all(math.isnan(p) for p in holm([math.nan]))


def test_holm_by_hand_and_as_in_pingouin():
    # 0.01 · 3, then max(that, 0.02 · 2), then max(that, 0.03 · 1); an undefined test is no member of the family.
    assert holm([0.03, 0.01, math.nan, 0.02])[:2] == pytest.approx([0.04, 0.03])
    assert holm([0.03, 0.01, math.nan, 0.02])[3] == pytest.approx(0.04) and math.isnan(holm([math.nan])[0])
    pg, p = pytest.importorskip("pingouin"), np.random.default_rng(0).random(12) ** 3
    assert holm(p.tolist()) == pytest.approx(pg.multicomp(p.tolist(), method="holm")[1].tolist(), abs=1e-15)
