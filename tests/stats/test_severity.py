"""The severity test: its parts by hand, its laws, and its level by simulation."""

import math

import numpy as np
import pytest
from scipy import stats as sp

from attention_collapse.measures.reliance import reliance_share
from attention_collapse.stats.severity import severity_columns, severity_of_means, to_settle


def severity(shares, **options):
    given = {"threshold": 0.8, "margin": 0.05, "alpha": 0.05, "power": 0.8, "n_resamples": 1000, "rng": 0} | options
    return severity_columns({"s": shares}, **given)["s"]


def test_the_imbalance_looks_at_both_sides():
    result = severity([0.1, 0.95, 0.7, 0.25])  # imbalances 0.9, 0.95, 0.7, 0.75
    assert result["mean"] == pytest.approx(0.825) and result["share_severe"] == 0.5
    # t = 0.025 / (sd / 2); sd of 0.075, 0.125, −0.125, −0.075 about 0: √(2 · (0.075² + 0.125²) / 3)
    assert result["t"] == pytest.approx(0.05 / math.sqrt(2 * (0.075**2 + 0.125**2) / 3))
    assert result["p"] == pytest.approx(sp.t.sf(result["t"], 3)) and result["alternative"] == "greater"


def test_a_share_and_its_complement_are_as_severe():
    s = np.random.default_rng(1).beta(8, 2, 60)
    one, other = severity(s), severity(1 - s)
    assert (one.pop("ignored"), other.pop("ignored")) == ("the text", "the image")  # their direction is kept
    assert one.pop("share") == pytest.approx(1 - other.pop("share"))
    assert one == {key: pytest.approx(value, nan_ok=True) for key, value in other.items()}


def test_the_images_needed_are_those_of_the_margin_in_standard_deviations():
    # sd 0.1, margin 0.05: d = 0.5, one-sided α = 0.05, power 0.8. Guenther (1981), Am. Stat. 35:
    # n ≈ (1.6449 + 0.8416)² / d² + 1.6449² / 2 = 26.1, so 27; and 100.3, so 101, for half the margin.
    x = np.array([-1, 1] * 20) * 0.1 * math.sqrt(39 / 40) + 0.85
    result = severity(x)
    assert result["sd"] == pytest.approx(0.1) and (result["n_needed"], result["n_still_needed"]) == (27, 0)
    assert severity(x[:4])["n_needed"] > 4 and severity(x[:4])["n_still_needed"] == severity(x[:4])["n_needed"] - 4
    assert severity(x, alpha=0.01)["n_needed"] > 27 and severity(x, alpha=0.01)["power_alpha"] == 0.01
    assert severity(x, margin=0.025)["n_needed"] == 101


def test_power_is_that_of_the_margin_not_of_the_observed_mean():
    low, high = (np.random.default_rng(2).normal(mean, 0.03, 50) for mean in (0.6, 0.9))
    assert severity(low)["power"] == pytest.approx(severity(high)["power"], abs=0.02)
    assert severity(low)["power"] > 0.99 and severity(low)["p"] > 0.99 and severity(high)["p"] < 1e-6


@pytest.mark.parametrize(
    ("shares", "reason"),
    [([0.9], "1 defined"), ([math.nan] * 4, "0 defined"), ([0.9] * 6, "no variance"), ([0.1, 0.9], "no variance")],
)
def test_degenerate_shares_give_reasons(shares, reason):
    result = severity(shares)
    assert reason in result["reason"] and "no standard deviation" in result["n_needed_reason"]
    assert all(math.isnan(result[name]) for name in ("p", "power", "n_needed", "n_still_needed", "ci_low"))


def test_measures_together_are_as_measures_alone():
    generator = np.random.default_rng(3)
    shares = {"a": generator.beta(5, 2, 40), "b": np.where(generator.random(40) < 0.2, np.nan, generator.random(40))}
    together = severity_columns(shares, threshold=0.8, margin=0.05, alpha=0.05, power=0.8, n_resamples=1000, rng=0)
    for name, values in shares.items():
        # The permutation test's signs fall on other images where some are undefined.
        alone = severity(values)
        assert together[name] == {key: pytest.approx(value, nan_ok=True) for key, value in alone.items()}


@pytest.mark.slow
def test_the_level(monkeypatch):
    """At a mean imbalance of exactly 0.80 a model is called severe in at most 5.5 % of studies.

    With 8,000 studies, a number fixed beforehand, the bound lies two standard errors of 0.24 points above 5 %.
    """
    # What does not enter p takes most of the time.
    monkeypatch.setattr("attention_collapse.stats.severity.images_needed", lambda *_, **__: (math.nan, "not asked"))
    generator = np.random.default_rng(2026)
    shares = {str(i): 0.8 + generator.uniform(-0.15, 0.15, 40) for i in range(8_000)}
    found = severity_columns(shares, threshold=0.8, margin=0.05, alpha=0.05, power=0.8, n_resamples=100, rng=0)
    p = [result["p"] for result in found.values()]
    assert np.mean(np.array(p) <= 0.05) <= 0.055 and sp.kstest(p, "uniform").pvalue > 0.001


def test_both_sides_are_one_test_seen_from_two():
    s = np.random.default_rng(4).beta(9, 2, 80)
    found = severity(s)
    assert found["p"] + found["p_balanced"] == pytest.approx(1)
    assert found["p_balanced"] == pytest.approx(sp.ttest_1samp(np.maximum(s, 1 - s), 0.8, alternative="less").pvalue)


def test_the_images_to_settle_it_are_those_of_the_distance_found():
    # A mean 0.05 beyond the bound at sd 0.1: d = 0.5, one-sided, as above: 27 images.
    values = 0.85 + 0.1 * np.array([-1, 1, -1, 1]) * math.sqrt(3) / 2
    assert to_settle({"mean": 0.85, "sd": 0.1}, 0.8, alpha=0.05, power=0.8) == 27
    assert severity(values)["n_to_settle"] == 27
    assert math.isnan(to_settle({"mean": 0.8, "sd": 0.1}, 0.8, alpha=0.05, power=0.8))


def of_means(lost_image, lost_text, **options):
    given = {"threshold": 0.8, "alpha": 0.05, "power": 0.8, "n_resamples": 2000, "rng": 0} | options
    return severity_of_means([lost_image, lost_text], reliance_share, **given)


def test_a_share_of_two_means_by_hand():
    rng = np.random.default_rng(5)
    image, text = rng.gamma(2, 0.05, 200), rng.gamma(2, 1, 200)  # means near 0.1 and 2
    found = of_means(image, text)
    share = image.mean() / (image.mean() + text.mean())
    assert found["share"] == pytest.approx(share) and found["mean"] == pytest.approx(1 - share)
    assert found["ignored"] == "the image" and found["p"] < 0.01 and found["p_balanced"] > 0.9
    assert found["ci_low"] < found["mean"] < found["ci_high"] and found["ci_low"] > 0.8
    mirrored = of_means(text, image)
    assert mirrored["ignored"] == "the text" and mirrored["mean"] == pytest.approx(found["mean"])
    assert mirrored["p"] == pytest.approx(found["p"], abs=1e-3)
    even = of_means(text, rng.permutation(text))
    assert even["p_balanced"] < 0.01 and even["p"] > 0.5 and even["ci_low"] == 0.5
    nothing = of_means(np.zeros(9), np.zeros(9))
    assert math.isnan(nothing["mean"]) and nothing["reason"] == "nothing moves the score" and nothing["n"] == 0


@pytest.mark.slow
def test_the_level_of_both_claims_about_a_ratio():
    """At the bound itself neither claim is made more often than α."""
    rng, severe, balanced, runs = np.random.default_rng(6), 0, 0, 2000
    for _ in range(runs):
        image, text = rng.gamma(2, 1, 80), rng.gamma(2, 4, 80)  # share 0.2: imbalance 0.8
        found = of_means(image, text, n_resamples=400, rng=rng)
        severe += found["p"] < 0.05
        balanced += found["p_balanced"] < 0.05
    # The exact 99 % bound of a binomial at 0.05; BCa of a skew ratio at n = 80 is allowed half a point.
    most = sp.binom.ppf(0.99, runs, 0.055)
    assert severe <= most and balanced <= most
