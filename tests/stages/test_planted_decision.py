"""The decision's rule on models whose answer is known by construction."""

import numpy as np
import pandas as pd
import pytest

from attention_collapse.engine.contribution import AT_CHANCE
from attention_collapse.engine.planted_decision import rule_of_kind, rule_over_kinds
from attention_collapse.engine.validity import BALANCED, IMAGE, TEXT, judge_kind, without_chance
from attention_collapse.params import Stats
from attention_collapse.stats.decision import Gates

STATS = Stats(n_resamples=200)
GATES = Gates(3, 2, alpha=STATS.alpha, imbalance=STATS.severe, confirm_margin=0.05)
LEARNED = {  # regime -> means by which its models count
    BALANCED: {"accuracy": 1.0, "perceptual_score_image": 0.5, "perceptual_score_text": 0.5},
    TEXT: {"accuracy": 1.0, "perceptual_score_image": 0.0, "perceptual_score_text": 0.5},
    IMAGE: {"accuracy": 1.0, "perceptual_score_image": 0.5, "perceptual_score_text": 0.0},
}


def study(means, column="shapley_share", n=60, seeds=2, **also):
    """Models of each regime, and pairs whose measure has the regime's mean."""
    rng = np.random.default_rng(0)
    table = pd.concat([
        pd.DataFrame({"regime": regime, "seed": seed, "image_id": range(n)}).assign(
            **{column: mean + rng.normal(0, 0.02, n)}
        )
        for regime, mean in means.items()
        for seed in range(seeds)
    ])  # fmt: skip
    models = {f"{regime}-{seed}": LEARNED[regime] for regime in means for seed in range(seeds)}
    return models | also, table


def test_a_share_that_tells_finds_every_model_and_calls_none_by_mistake():
    found = rule_of_kind(*study({BALANCED: 0.5, TEXT: 0.05, IMAGE: 0.95}), STATS, GATES)
    assert set(found) == {"shapley_share"}  # the others are not defined here
    for side in ("image_ignored", "text_ignored"):
        assert found["shapley_share"][side] == {"n_models": 2, "right": 2, "confirmed": 2, "wrong": 0, "undecided": 0}
    assert found["shapley_share"]["balanced"] == {
        "n_models": 2, "right": 2, "confirmed": 0, "wrong": 0, "undecided": 0,
    }  # fmt: skip


def test_a_share_that_names_the_other_modality_is_wrong_however_severe():
    found = rule_of_kind(*study({BALANCED: 0.95, TEXT: 0.95, IMAGE: 0.05}), STATS, GATES)["shapley_share"]
    assert [found[side]["wrong"] for side in ("image_ignored", "text_ignored", "balanced")] == [2, 2, 2]


def decoders(told):
    """Models of two regimes whose score never moves with the image; `told`: regime -> accuracy against hard foils."""
    rng = np.random.default_rng(1)
    models, table = study({TEXT: 0.0, BALANCED: 0.0}, "lost_image", n=100)
    lost = 1 + rng.random(len(table))
    table = table.assign(lost_image=lost * (table["regime"] == BALANCED), lost_text=lost, lost_both=lost)
    right = [float(rng.random() < told[regime]) for regime in table["regime"]]
    return models, table.assign(accuracy_hard=right)


def test_a_likelihood_at_chance_against_hard_foils_has_no_reliance_and_so_no_verdict():
    models, table = decoders({TEXT: 0.5, BALANCED: 0.95})
    found = rule_of_kind(models, table, STATS, GATES)["reliance_share"]
    assert found["image_ignored"] == {"n_models": 2, "right": 0, "confirmed": 0, "wrong": 0, "undecided": 2}
    assert found["balanced"]["undecided"] == 2 or found["balanced"]["right"] == 2
    kept, reasons = without_chance(table, STATS)
    assert set(reasons) == {f"{TEXT}-0", f"{TEXT}-1"} and all(why.startswith(AT_CHANCE) for why in reasons.values())
    assert kept["lost_both"].isna().tolist() == (kept["regime"] == TEXT).tolist() and table["lost_both"].notna().all()
    judged = judge_kind(models, table, {TEXT: 1.0, BALANCED: 0.0}, STATS)
    assert judged["measures"]["reliance_image"]["verdict"] == "undefined" and judged["without_reliance"] == reasons


def test_a_likelihood_that_tells_hard_foils_and_a_score_that_is_none_have_their_reliance():
    models, table = decoders({TEXT: 0.95, BALANCED: 0.95})
    for given in (table, table.drop(columns="accuracy_hard")):
        assert without_chance(given, STATS)[1] == {}
        judged = judge_kind(models, given, {TEXT: 1.0, BALANCED: 0.0}, STATS)
        assert judged["measures"]["reliance_image"]["image_ignored"]["auroc"] == 1 and "without_reliance" not in judged


def test_a_share_at_the_bound_is_undecided():
    found = rule_of_kind(*study({TEXT: 1 - STATS.severe}), STATS, GATES)["shapley_share"]["image_ignored"]
    assert found == {"n_models": 2, "right": 0, "confirmed": 0, "wrong": 0, "undecided": 2}


def test_mcs_is_read_as_it_was_reported():
    """High MCS was called collapse of vision, so it is the image that it says is ignored."""
    found = rule_of_kind(*study({TEXT: 0.95, IMAGE: 0.05}, "mcs_all"), STATS, GATES)["mcs"]
    assert found["image_ignored"]["right"] == found["text_ignored"]["right"] == 2


def test_a_model_that_did_not_learn_its_regime_is_not_counted():
    poor = {f"{TEXT}-1": {"accuracy": 0.6, "perceptual_score_image": 0.0, "perceptual_score_text": 0.1}}
    found = rule_of_kind(*study({TEXT: 0.05, BALANCED: 0.5}, **poor), STATS, GATES)["shapley_share"]
    assert (found["image_ignored"]["n_models"], found["balanced"]["n_models"]) == (1, 2)


@pytest.mark.parametrize("margin, confirmed", [(0.05, 2), (0.01, 0)])
def test_accuracy_confirms_what_the_share_finds(margin, confirmed):
    """Swapping the text costs 0.02 of accuracy: next to nothing by one margin, something by the other."""
    models, table = study({IMAGE: 0.95})
    models = {name: means | {"perceptual_score_text": 0.02} for name, means in models.items()}
    gates = Gates(3, 2, alpha=STATS.alpha, imbalance=STATS.severe, confirm_margin=margin)
    found = rule_of_kind(models, table, STATS, gates)["shapley_share"]["text_ignored"]
    assert (found["right"], found["confirmed"]) == (2, confirmed)


def test_kinds_add_up_and_a_kind_without_the_measure_adds_nothing():
    one = rule_of_kind(*study({BALANCED: 0.95, TEXT: 0.05, IMAGE: 0.8}), STATS, GATES)
    total = rule_over_kinds([one, one, {}])["shapley_share"]
    assert (total["ignoring_n_models"], total["ignoring_right"], total["ignoring_undecided"]) == (8, 4, 4)
    assert (total["balanced_n_models"], total["balanced_wrong"]) == (4, 4)
