"""A result that agrees with the standing file leaves its bytes; anything else replaces the file whole."""

import json

import numpy as np
import pandas as pd
import pytest

from attention_collapse.files import read_json
from attention_collapse.identity.environment import KEY
from attention_collapse.identity.settle import LOG, STANDING, Value, csv_values, settle_frame, settle_json
from attention_collapse.identity.tolerance import ATOL, RTOL, TABLE_RTOL, score_error, within

RESULT = {"a": {"mean": 0.712345, "n": 100, "reading": "no collapse", "ok": True}, "p": None, "list": [1.0, 2.0]}
TABLE = pd.DataFrame({"image_id": [1, 2, 3], "score": [-20.0, 0.001, 5.0], "share": [0.5, np.nan, 1.0]})


def test_the_tolerance_is_of_the_value_or_of_its_scale_and_a_slack_is_added():
    assert within(2.0, 2.0 * (1 + 0.99 * RTOL)) and not within(2.0, 2.0 * (1 + 1.01 * RTOL))
    assert within(0.0, ATOL) and not within(0.0, 1e-9)
    assert within(0.001, 0.001 + 0.9 * RTOL * 20, scale=20) and not within(0.001, 0.001 + 1.1 * RTOL * 20, scale=20)
    assert within(0.5, 0.6, slack=0.1) and not within(0.5, 0.61, slack=0.1)
    assert within(float("nan"), float("nan")) and not within(float("nan"), 0.0)
    assert within(float("inf"), float("inf")) and not within(float("inf"), float("-inf"))


def test_a_scores_error_is_that_of_the_largest():
    assert score_error([1.0, -30.0, np.nan, np.inf]) == pytest.approx(30 * 2e-5) and score_error([]) == 0


def write(path, value=RESULT):
    settle_json(path, value)
    return path.read_bytes()


def test_rounding_leaves_the_bytes_of_a_result(tmp_path):
    file = tmp_path / "r.json"
    before = write(file)
    other = RESULT | {"a": RESULT["a"] | {"mean": 0.712345 * (1 + 9e-6)}}
    assert not settle_json(file, other) and file.read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        {"a": RESULT["a"] | {"mean": 0.712365}},
        {"a": RESULT["a"] | {"n": 101}},
        {"a": RESULT["a"] | {"reading": "collapse"}},
        {"a": RESULT["a"] | {"ok": False}},
        {"a": RESULT["a"] | {"n": True}},
        {"p": 1e-9},
        {"list": [1.0, 2.0, 3.0]},
        {"new": None},
    ],
)
def test_anything_else_replaces_the_result_whole(tmp_path, change):
    file = tmp_path / "r.json"
    write(file)
    assert settle_json(file, RESULT | change)
    kept = read_json(file)
    assert kept.pop(KEY) and kept == RESULT | change


def test_what_it_was_computed_with_is_written_and_not_compared(tmp_path, monkeypatch):
    file = tmp_path / "r.json"
    before = write(file)
    assert {"numpy", "processor", "python", "torch"} <= read_json(file)[KEY].keys()
    monkeypatch.setattr("attention_collapse.identity.environment.processor", lambda: "another")
    assert not settle_json(file, RESULT) and file.read_bytes() == before
    settle_json(file, RESULT | {"p": 0.5})
    assert read_json(file)[KEY]["processor"] == "another"


@pytest.mark.parametrize("standing", [b"", b"{", b"\xff\xfe", b"[1]"])
def test_a_standing_file_that_is_none_is_replaced(tmp_path, standing):
    file = tmp_path / "r.json"
    file.write_bytes(standing)
    assert settle_json(file, RESULT) and read_json(file)["list"] == [1.0, 2.0]


def test_line_ends_of_a_checkout_are_no_difference(tmp_path):
    file = tmp_path / "r.json"
    file.write_bytes(write(file).replace(b"\n", b"\r\n"))
    assert not settle_json(file, RESULT)


def test_a_tables_tolerance_is_that_of_its_column(tmp_path):
    file = tmp_path / "t.csv"
    settle_frame(file, TABLE)
    before = file.read_bytes()
    close = settle_frame(file, TABLE.assign(score=[-20.0, 0.001 + 19 * TABLE_RTOL, 5.0]))
    assert file.read_bytes() == before and close["score"].tolist() == [-20.0, 0.001, 5.0]
    far = settle_frame(file, TABLE.assign(score=[-20.0, 0.001 + 21 * TABLE_RTOL, 5.0]))
    assert file.read_bytes() != before and far["score"][1] == pytest.approx(0.0031)


@pytest.mark.parametrize(
    "other",
    [
        TABLE.assign(image_id=[1, 2, 4]),
        TABLE.assign(share=[0.5, 0.5, 1.0]),
        TABLE.assign(share=[np.nan, np.nan, 1.0]),
        TABLE.iloc[:2],
        TABLE.rename(columns={"share": "part"}),
    ],
)
def test_other_tables_replace_the_standing_one(tmp_path, other):
    file = tmp_path / "t.csv"
    settle_frame(file, TABLE)
    settle_frame(file, other)
    pd.testing.assert_frame_equal(pd.read_csv(file), other.reset_index(drop=True))


def test_a_comparison_too_close_to_call_may_fall_either_way_and_no_other(tmp_path):
    file = tmp_path / "t.csv"
    won = pd.DataFrame({"accuracy": [1.0, 0.0, 1.0], "accuracy_slack": [1.0, 0.0, 0.0]})
    assert list(settle_frame(file, won)) == ["accuracy"]
    settle_frame(file, won.assign(accuracy=[0.0, 0.0, 1.0]))
    assert pd.read_csv(file)["accuracy"].tolist() == [1.0, 0.0, 1.0]
    settle_frame(file, won.assign(accuracy=[1.0, 1.0, 1.0]))
    assert pd.read_csv(file)["accuracy"].tolist() == [1.0, 1.0, 1.0]


def test_an_empty_table_keeps_its_columns(tmp_path):
    empty = TABLE.iloc[:0]
    found = settle_frame(tmp_path / "t.csv", empty)
    assert list(found) == list(TABLE) and found["score"].dtype == float


def test_a_run_elsewhere_takes_the_standing_bytes_and_says_what_it_compared(tmp_path, monkeypatch):
    (tmp_path / "root").mkdir()
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path / "root")
    file = type(tmp_path)("r.json")
    before = write(file)
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv(STANDING, str(tmp_path / "root"))
    monkeypatch.setenv(LOG, str(tmp_path / "log"))
    other = RESULT | {"list": [1.0, 2.00001]}
    assert not settle_json(file, other) and (tmp_path / "copy" / "r.json").read_bytes() == before
    [entry] = map(json.loads, (tmp_path / "log").read_text().splitlines())
    assert (entry["file"], entry["values"]) == ("r.json", 7)
    largest = Value(**entry["largest"])
    assert (largest.key, largest.new) == ("list[1]", 2.00001) and largest.relative == pytest.approx(5e-6)
    settle_json(file, RESULT | {"list": [1.0, 2.1]})
    assert read_json(tmp_path / "copy" / "r.json")["list"] == [1.0, 2.1]


def test_only_what_needed_the_slack_is_called_too_close(tmp_path, monkeypatch):
    file = tmp_path / "t.csv"
    settle_frame(file, TABLE)
    monkeypatch.setenv(LOG, str(tmp_path / "log"))
    score = [-20.0 + 1e-5, 0.001, 5.0 - 0.1]
    settle_frame(file, TABLE.assign(score=score, score_slack=[0.2, 0.2, 0.2]))
    [entry] = map(json.loads, (tmp_path / "log").read_text().splitlines())
    assert entry["too_close_to_call"] == ["score[2]"]


def test_cells_of_text_and_whole_numbers_must_be_equal():
    old, new = "name,n,x\na,1,1.0\n", "name,n,x\nb,2,1.00001\n"
    assert [value.agrees for value in csv_values(old, new)] == [False, False, True]
