"""One place holds confidence (and so α), power and the bound of severity: whoever uses one moves with it."""

import numpy as np
import pandas as pd
import pytest

from attention_collapse.engine.statistics import OF_IMAGES, TESTED, judge, planned
from attention_collapse.engine.validity import CLAIMING
from attention_collapse.params import Params, Stats
from attention_collapse.repository.check import _exceeds
from attention_collapse.stats.decision import Severity

RNG = np.random.default_rng(0)
COLUMNS = {name: pd.Series(RNG.beta(9, 2, 60)) for name in (*OF_IMAGES, *TESTED)}


def judged(**changed):
    stats = Stats(n_resamples=200, **changed)
    return judge(COLUMNS, {}, stats, {}, tested=2) | {"a_priori": planned(stats)}


def gates(**changed):
    from test_decision_stage import SEVERE, entry

    from attention_collapse.engine.decision import decide_study

    spec = {"kind": "clip", "weights": "hub", "repo": "a/b"}
    params = Params.model_validate({"study": "s", "params_file": "p", "models": {"a": spec}, "stats": changed})
    statistics = {"models": {"a": entry(shapley_share=SEVERE)}}
    found = decide_study(params, statistics, {"a": {"reasons": {"mass_share": "no"}, "n_images": 100}}, "f")
    return found["measures"]["shapley_share"]


def test_confidence_moves_intervals_levels_plan_gate_and_check():
    wide, narrow = judged(confidence=0.99), judged()
    assert wide["mcs"]["ci_low"] < narrow["mcs"]["ci_low"]
    assert wide["severity"]["mcs"]["power_alpha"] == 0.005 and narrow["severity"]["mcs"]["power_alpha"] == 0.025
    assert wide["a_priori"]["alpha"] == 0.01 and wide["a_priori"]["n"] > narrow["a_priori"]["n"]
    assert gates(confidence=0.99)["gates"]["p"]["required"] == 0.01 and gates()["gates"]["p"]["required"] == 0.05
    model = Severity(False, 9, 0.9, 0.88, 0.92, p_holm=0.03, p_balanced_holm=0.9, n_to_settle=9)
    assert _exceeds(model, 0.8, Stats()) and not _exceeds(model, 0.8, Stats(confidence=0.99))


def test_power_moves_the_plan_and_the_images_needed():
    high, usual = judged(power=0.95), judged()
    assert high["a_priori"]["power"] == 0.95 and high["a_priori"]["n"] > usual["a_priori"]["n"]
    assert high["severity"]["mcs"]["n_needed"] > usual["severity"]["mcs"]["n_needed"]
    assert high["severity"]["mcs"]["n_to_settle"] > usual["severity"]["mcs"]["n_to_settle"]


def test_severe_moves_the_test_the_share_the_gate_and_what_planted_models_are_judged_by():
    strict, usual = judged(severe=0.9), judged()
    assert strict["severity"]["mcs"]["t"] < usual["severity"]["mcs"]["t"]
    assert strict["severity"]["mcs"]["share_severe"] < usual["severity"]["mcs"]["share_severe"]
    assert gates(severe=0.9)["gates"]["imbalance"]["required"] == 0.9
    low, high = CLAIMING["shapley_share"].bounds_at(0.9)[0]
    assert (low, high) == (pytest.approx(0.1), 0.9)
    assert CLAIMING["mcs"].bounds_at(0.9)[0] == (0.3, 0.7)  # the original report's own
