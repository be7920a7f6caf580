import json
import math

import numpy as np
import pytest

from attention_collapse.errors import DataError
from attention_collapse.files import evidence_id, json_text, read_json, significant, whole_file, write_csv, write_json


def test_six_significant_digits_and_null_for_undefined():
    text = json_text(
        {"b": 0.123456789, "a": math.nan, "c": [np.float64(1.5e-9), math.inf], "d": np.int64(3), "e": True}
    )
    assert json.loads(text) == {"a": None, "b": 0.123457, "c": [1.5e-9, None], "d": 3, "e": True}
    assert text.index('"a"') < text.index('"b"')
    assert text.endswith("}\n") and "\r" not in text


def test_rounding_is_idempotent():
    values = np.random.default_rng(0).normal(size=100) * 10.0 ** np.arange(-50, 50)
    once = [significant(v) for v in values]
    assert [significant(v) for v in once] == once


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, {"n": 1})
    with pytest.raises(RuntimeError), whole_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(path) == {"n": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize("content", ["", "{", "\xff\xfe"])
def test_what_is_not_json_is_named(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError, match=r"x\.json: not JSON"):
        read_json(path)


def test_undefined_cells_are_empty(tmp_path):
    write_csv(tmp_path / "t.csv", ["a", "b"], [[1, math.nan], [2, 0.1234567]])
    assert (tmp_path / "t.csv").read_bytes() == b"a,b\n1,\n2,0.123457\n"


def test_evidence_id_follows_every_part_and_nothing_else():
    base = evidence_id("stage", {"a": 1, "b": 2}, {"x": "0"})
    assert base == evidence_id("stage", {"b": 2, "a": 1}, {"x": "0"})
    others = [
        evidence_id("other", {"a": 1, "b": 2}, {"x": "0"}),
        evidence_id("stage", {"a": 1, "b": 3}, {"x": "0"}),
        evidence_id("stage", {"a": 1, "b": 2}, {"x": "1"}),
    ]
    assert len({base, *others}) == 4
