"""The tables of a page, from metrics whose every number is another."""

import pytest

from attention_collapse.errors import DataError
from attention_collapse.params import Prevention
from attention_collapse.report.prevention_page import fill, tables

WORDS = {"modality": "words", "reliability": 0.8}
STUDY = Prevention.model_validate({
    "kinds": {"fusion-v2": {}, "vilt": {}}, "seeds": [0, 1], "pairs": 8, "partners": 1, "watched": 8, "every": 2,
    "doses": [{"modality": "text", "reliability": 0.95}, {"modality": "image", "reliability": 0.9}, WORDS],
    "arms": {"erm": {}, "swapped-negatives": {"method": "swapped-negatives"}, "longer": {"steps": 2.0}},
    "rule": {"gain": 0.05, "loss": 0.02, "kinds": 2},
})  # fmt: skip
NOTHING = {"mean": None, "ci_low": None, "ci_high": None}


def of(mean, half=0.01):
    return {"mean": mean, "ci_low": None if half is None else mean - half, "ci_high": half and mean + half}


def arm(neutral, gain, **more):
    """One arm's metrics, with numbers of its own everywhere."""
    found = {
        "neutral": of(neutral), "gain": gain, "trained": of(neutral + 0.02), "reliance": of(neutral - 0.02),
        "cost": 1.44, "n_seeds": 2, "n_pairs": 2,
    }  # fmt: skip
    return found | more


@pytest.fixture
def found():
    plain = arm(0.51, NOTHING, cost=1.0)
    contrast = {
        "neutral": of(0.55), "trained": of(0.93), "gain": of(0.04), "change_trained": of(-0.025), "passes": 2,
        "n_seeds": 2,
    }  # fmt: skip
    remedies = {
        "log-odds": contrast | {"neutral": of(0.5), "gain": of(-0.01), "passes": 1},
        "contrastive-decoding": contrast | {"verdict": "not shown"},
        "contrastive-decoding-uncut": contrast | {"verdict": "costs accuracy"},
    }  # fmt: skip
    alarms = {
        "neutral_pairs": {"collapsed": 2, "rang": 2, "delay": 0.074, "false": 1, "sound": 3, "rang_at": 0.3},
        "swap": {"collapsed": 2, "rang": 1, "delay": None, "false": 0, "sound": 3, "rang_at": None},
    }  # fmt: skip
    one_seed = {"n_seeds": 1, "n_pairs": 1, "verdict": "undetermined"}
    none = {name: one | {"collapsed": 0, "rang": 0, "delay": None} for name, one in alarms.items()}
    return {
        "kinds": {
            "fusion-v2": {
                "text_reliability_95": {
                    "erm": plain, "longer": arm(0.6, of(0.09), verdict="not shown"),
                    "swapped-negatives": arm(0.9, of(0.39), verdict="prevents"),
                },
                "image_reliability_90": {"erm": arm(0.52, NOTHING, cost=1.0)},
                "words_reliability_80": {"erm": plain, "swapped-negatives": arm(0.7, of(-0.19), verdict="not shown")},
            },
            "vilt": {"text_reliability_95": {"erm": plain, "swapped-negatives": arm(0.8, of(0.29, None), **one_seed)}},
        },
        "at_inference": {"fusion-v2": {"text_reliability_95": remedies}, "vilt": {"text_reliability_95": remedies}},
        "monitor": {"fusion-v2": {"text_reliability_95": alarms}, "vilt": {"text_reliability_95": none}},
    }  # fmt: skip


def rows(table):
    return [line.strip("| \n").split(" | ") for line in table.splitlines()][2:]


def test_every_number_stands_in_its_cell_with_its_sign_and_verdict(found):
    made = tables(found, STUDY)
    assert made["ways"].splitlines()[:2] == [
        "| way to train | accuracy, cue says nothing | gain over plain, 95 % CI | accuracy as trained "
        "| reliance on the image | cost | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    assert rows(made["ways"]) == [
        ["`erm`", "0.510", "", "0.530", "0.490", "1.0"],
        ["`swapped-negatives`", "0.900", "+0.390 [+0.380, +0.400]", "0.920", "0.880", "1.4", "prevents"],
        ["`longer`", "0.600", "+0.090 [+0.080, +0.100]", "0.620", "0.580", "1.4", "not shown"],
    ]
    assert rows(made["kinds"]) == [
        ["`erm`", "0.510", "0.510"], ["`swapped-negatives`", "+0.390 [+0.380, +0.400] ★", "–"],
        ["seeds", "2", "1 to 2"],
    ]  # fmt: skip
    assert "reliance on the text" in made["image"] and rows(made["image"])[0][1] == "0.520"
    assert [row[:3] for row in rows(made["cues"])] == [
        ["all words, 80 %", "in-house V2", "`erm`"], ["all words, 80 %", "in-house V2", "`swapped-negatives`"]
    ]  # fmt: skip
    assert rows(made["cues"])[1][4] == "−0.190 [−0.200, −0.180]"


def test_remedies_and_alarms_of_each_kind(found):
    made = tables(found, STUDY)
    contrast = ["+0.040 [+0.030, +0.050]", "0.930", "−0.025 [−0.035, −0.015]"]
    assert rows(made["at-inference"]) == [
        ["`log-odds`", "0.500", "−0.010 [−0.020, +0.000]", *contrast[1:], "1"],
        ["`contrastive-decoding`", "0.550", *contrast, "2", "not shown"],
        ["`contrastive-decoding-uncut`", "0.550", *contrast, "2", "costs accuracy"],
    ]
    assert rows(made["inference"])[1] == ["ViLT", "0.510", "0.550", contrast[0], contrast[2], "not shown"]
    assert rows(made["monitored"]) == [
        ["in-house V2", "2", "2", "1", "7 % of the run", "1 and 0 of 3"], ["ViLT", "0", "0", "0", "–", "1 and 0 of 3"]
    ]  # fmt: skip


def test_a_table_goes_between_its_marks_and_nowhere_else(found):
    page = "before\n<!-- a: begin -->\nold\n<!-- a: end -->\nafter\n"
    assert fill(page, {"a": "| new |\n"}) == "before\n<!-- a: begin -->\n| new |\n<!-- a: end -->\nafter\n"
    with pytest.raises(DataError, match="no marks of the table b"):
        fill(page, {"b": ""})


def test_what_is_not_trained_makes_no_row_and_no_table(found):
    found["at_inference"], found["kinds"]["fusion-v2"] = {}, {}
    made = tables(found, STUDY)
    assert "image" not in made and not rows(made["at-inference"]) and not rows(made["ways"])
    assert rows(made["kinds"])[-1] == ["seeds", "1 to 2"]
