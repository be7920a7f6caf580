import numpy as np
import pandas as pd
import pytest

from attention_collapse.engine.validity import BALANCED, CLAIMING, IMAGE, TEXT, judge, learned, over_all_kinds
from attention_collapse.files import read_json
from attention_collapse.params import Stats

PLANTED = {BALANCED: 0.0, TEXT: 1.0, "text-graded": 0.7, IMAGE: -1.0}
STATS = Stats(n_resamples=200)


def table(means, n=40, seeds=3, spread=0.02, rng=0):
    """A measure with a given mean in each regime."""
    generator = np.random.default_rng(rng)
    rows = [
        {"regime": regime, "seed": seed, "image_id": image, "m": mean + generator.normal(0, spread)}
        for regime, mean in means.items()
        for seed in range(seeds)
        for image in range(n)
    ]
    return pd.DataFrame(rows)


def test_a_share_that_follows_what_was_planted_is_trusted():
    found = judge(
        table({BALANCED: 0.5, TEXT: 0.1, "text-graded": 0.3, IMAGE: 0.9}),
        "m",
        CLAIMING["shapley_share"],
        PLANTED,
        STATS,
    )
    assert found["verdict"] == "trusted" and {found[f"verdict_seed_{seed}"] for seed in range(3)} == {"trusted"}
    assert found["image_ignored"]["auroc"] == found["text_ignored"]["auroc"] == 1
    assert found["spearman"] < -0.9 and found["spearman_p"] < 0.01
    assert found["image_ignored"]["hits_published"] == found["text_ignored"]["hits_published"] == 1
    assert found["false_alarms_published"] == 0
    assert found["threshold_low"] == pytest.approx(0.5 - 1.96 * 0.02, abs=0.02)


def test_a_share_that_falls_in_both_misleads_about_one():
    found = judge(table({BALANCED: 0.5, TEXT: 0.1, IMAGE: 0.1}), "m", CLAIMING["shapley_share"], PLANTED, STATS)
    assert found["image_ignored"]["auroc"] == 1 and found["text_ignored"]["auroc"] == 0
    assert found["verdict"] == "misleading"


def test_a_measure_that_differs_only_by_seed_is_blind():
    noise = table(dict.fromkeys(PLANTED, 0.5), spread=0.0)
    noise["m"] += noise["seed"] * 0.1
    assert judge(noise, "m", CLAIMING["mcs"], PLANTED, STATS)["verdict"] == "blind"


def test_false_alarms_of_a_reported_threshold_that_token_counts_pass():
    found = judge(table({BALANCED: 0.75, TEXT: 0.75, IMAGE: 0.75}), "m", CLAIMING["mcs"], PLANTED, STATS)
    assert found["false_alarms_published"] > 0.95


def test_how_many_models_of_all_kinds_a_threshold_flags():
    """Bounds 0.2 and 0.8: seed 2 where the text is ignored lies at 0.7 and is missed, seed 2 balanced is called."""
    some = table({BALANCED: 0.5, TEXT: 0.1, IMAGE: 0.9}, spread=0.001)
    some.loc[(some["regime"] == IMAGE) & (some["seed"] == 2), "m"] = 0.7
    some.loc[(some["regime"] == BALANCED) & (some["seed"] == 2), "m"] = 0.85
    found = judge(some, "m", CLAIMING["shapley_share"], PLANTED, STATS)
    assert (found["image_ignored"]["models_flagged"], found["text_ignored"]["models_flagged"]) == (3, 2)
    assert (found["models_flagged_balanced"], found["n_models_balanced"]) == (1, 3)
    kind = {"measures": {"shapley_share": found, "emap_gap": judge(some, "m", CLAIMING["emap_gap"], PLANTED, STATS)}}
    assert over_all_kinds([kind, kind]) == {
        "shapley_share": {"n_ignoring": 12, "flagged": 10, "n_balanced": 6, "false_alarms": 2},
    }  # fmt: skip


def test_a_measure_with_one_reading_is_asked_only_that():
    found = judge(
        table({BALANCED: 0.4, TEXT: 0.0, IMAGE: 0.4}), "m", CLAIMING["perceptual_score_image"], PLANTED, STATS
    )
    assert found["verdict"] == "trusted" and "text_ignored" not in found


def test_undefined_values_are_not_dropped_in_silence():
    broken = table({BALANCED: 0.5, TEXT: 0.1, IMAGE: 0.9})
    broken.loc[broken["regime"] == TEXT, "m"] = np.nan
    found = judge(broken, "m", CLAIMING["shapley_share"], PLANTED, STATS)
    assert found["verdict"] == "undefined" and found["n_images"] == 0 and found["n_undefined"] == 40
    broken.loc[broken["image_id"] > 4, "m"] = 0.1 + 0.4 * (broken["regime"] != TEXT) + 0.4 * (broken["regime"] == IMAGE)
    found = judge(broken, "m", CLAIMING["shapley_share"], PLANTED, STATS)
    assert found["verdict"] == "trusted" and (found["n_images"], found["n_undefined"]) == (35, 5)


MEANS = {"accuracy": 0.98, "perceptual_score_image": 0.48, "perceptual_score_text": 0.48}


@pytest.mark.parametrize(
    ("regime", "change", "fault"),
    [
        (BALANCED, {}, ""),
        (BALANCED, {"accuracy": 0.85, "perceptual_score_image": 0.3, "perceptual_score_text": 0.3}, "accuracy 0.850"),
        (BALANCED, {"perceptual_score_text": 0.3}, "0.680 with the text permuted"),
        (TEXT, {"perceptual_score_image": 0.0}, ""),
        (TEXT, {}, "permuting the image costs 0.480"),
        (IMAGE, {"perceptual_score_text": 0.02}, ""),
        (IMAGE, {"perceptual_score_text": 0.03}, "permuting the text costs 0.030"),
        # at a bound but for rounding
        (BALANCED, {"accuracy": 0.93, "perceptual_score_image": 0.33, "perceptual_score_text": 0.33}, ""),
        (TEXT, {"accuracy": 0.9 - 1e-12, "perceptual_score_image": 0.02 + 1e-12}, ""),
        ("text-graded", {"accuracy": 0.82}, ""),
        ("text-graded", {"accuracy": 0.7}, "accuracy 0.700"),
    ],
)
def test_what_did_not_learn_is_excluded_by_rule(regime, change, fault):
    found = learned(MEANS | change, regime)
    assert (fault in found) if fault else found == ""


def test_the_committed_verdicts_follow_from_the_committed_numbers():
    """Every verdict is re-derived from the numbers beside it."""
    from conftest import ROOT

    for kind in read_json(ROOT / "metrics" / "embedded" / "validity.json")["kinds"].values():
        for measure in kind["measures"].values():
            parts = [measure[name] for name in ("image_ignored", "text_ignored") if name in measure]
            if any(part["auroc"] is None for part in parts):
                expected = "undefined"
            elif any(part["ci_high"] < 0.5 for part in parts):
                expected = "misleading"
            elif all(part["ci_low"] > 0.5 and part["auroc"] >= 0.9 for part in parts):
                expected = "trusted"
            else:
                expected = "partial" if any(part["ci_low"] > 0.5 for part in parts) else "blind"
            assert measure["verdict"] == expected
