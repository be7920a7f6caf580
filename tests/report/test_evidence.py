"""Lines are found whatever the keys are, and every form prints what it says."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attention_collapse.errors import DataError
from attention_collapse.files import write_json
from attention_collapse.report.evidence import Evidence, label, markdown, printed

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text())
TREES = st.dictionaries(
    st.text(),
    st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10),
)


def written(folder, data):
    write_json(folder / "m.json", data)
    return Evidence.read(folder, "m.json", "s")


def at(data, path):
    for part in path:
        data = data[part]
    return data


def paths(data, path=()):
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        if isinstance(value, dict | list):
            yield from paths(value, (*path, key))
        else:
            yield (*path, key)


@settings(max_examples=50)
@given(TREES)
def test_the_line_holds_the_key_and_the_value_whatever_they_are(tmp_path_factory, tree):
    """JSON's own text is the judge: the cited line is `"last part": value`, in the order of the file."""
    folder = tmp_path_factory.mktemp("tree")
    try:
        source = written(folder, tree | {"evidence_id": "0" * 16})
    except DataError as error:
        assert "two scalars are named" in str(error)
        return
    lines = (folder / "m.json").read_text("utf-8").split("\n")
    data = json.loads("\n".join(lines))
    found = list(paths(data))
    assert len(found) == len(source.scalars)
    for path, citation in zip(found, source.scalars.values(), strict=True):
        assert citation.key == ".".join(map(str, path)) and citation.value == at(data, path)
        value = json.dumps(citation.value, ensure_ascii=False)
        text = value if isinstance(path[-1], int) else f"{json.dumps(path[-1], ensure_ascii=False)}: {value}"
        assert lines[citation.line - 1].strip().removesuffix(",") == text


def test_a_citation_is_file_run_and_line(tmp_path):
    source = written(tmp_path, {"evidence_id": "ab12", "b": {"qwen2.5": {"mean": 0.74}}, "a": [], "c": [1, {"d": 2}]})
    assert {key: found.line for key, found in source.scalars.items()} == {
        "b.qwen2.5.mean": 5, "c.0": 9, "c.1.d": 11, "evidence_id": 14,
    }  # fmt: skip
    found = source.cite("b.qwen2.5.mean")
    assert str(found) == "m.json#ab12#5" and found.value == 0.74
    assert source.md("b.qwen2.5.mean", 2) == '[0.74](m.json#ab12#5 "2 b.qwen2.5.mean")'
    assert source.md_run() == "[m.json](m.json#ab12)"


def test_a_label_says_what_it_cites_and_another_case_or_form_or_file_has_another():
    names = [label(*parts) for parts in (
        ("m.json", "b.Qwen2 VL.mean", 3), ("m.json", "b.qwen2 vl.mean", 3), ("m.json", "b.qwen2 vl.mean", 2),
        ("n.json", "b.qwen2 vl.mean", 3), ("m.json", "c.qwen2 vl.mean", 3), ("m.json", "[b]|*.mean", 3),
    )]  # fmt: skip
    assert len(set(names)) == len(names) and [name.casefold() for name in names] == names
    assert all(name.startswith("qwen2-vl.mean-") for name in names[:5])
    assert names[0] == label("m.json", "b.Qwen2 VL.mean", "3") and set(names[5]) <= set("abcdef0123456789-.emnan")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "evidence_id": "x"}', "one scalar per line"),
        ('{\n "a": 1,\n "a": 2,\n "evidence_id": "x"\n}\n', "one scalar per line"),
        ("[\n 1\n]\n", "one scalar per line"),
        ('{\n "a": 1\n}\n', "no evidence_id"),
        ('{\n "a.b": 1,\n "a": {\n  "b": 2\n },\n "evidence_id": "x"\n}\n', "two scalars are named a.b"),
        ("{", "not JSON"),
    ],
)
def test_a_file_that_cannot_be_cited_is_refused(tmp_path, text, message):
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(DataError, match=message):
        Evidence.read(tmp_path, "m.json")


@pytest.mark.parametrize("key", ["absent", 'with "quotes"'])
def test_a_key_that_cannot_be_cited_is_refused(tmp_path, key):
    source = written(tmp_path, {"evidence_id": "ab12", 'with "quotes"': 1})
    with pytest.raises(DataError, match=r"no scalar 'absent'|cannot be cited"):
        source.cite(key)


@pytest.mark.parametrize(
    ("value", "form", "plain", "shown"),
    [
        (0.69053, 3, "0.691", "0.691"),
        (-0.0004, 3, "0.000", "0.000"),
        (-1.5, 1, "-1.5", "−1.5"),
        (100, 3, "100", "100"),
        (0.638, "percent1", "63.8 %", "63.8 %"),
        (0.638, "rest1", "36.2 %", "36.2 %"),
        (None, 3, "--", "–"),
        (None, "p", "--", "–"),
        (math.nan, "percent1", "--", "–"),
        (0.0004, "p", "<0.001", r"\<0.001"),
        (0.0123, "p", "0.012", "0.012"),
        (math.log10(0.0123), "log10p", "0.012", "0.012"),
        (-28.4, "log10p", "<10^-28", r"\<1e−28"),
        (-1000, "log10p", "<10^-300", r"\<1e−300"),
        (True, "text", "yes", "yes"),
        ("a|b [c]", "text", "a|b [c]", r"a\|b \[c\]"),
    ],
)
def test_forms(value, form, plain, shown):
    assert printed(value, form) == plain and markdown(value, plain) == shown


@pytest.mark.parametrize(("value", "form"), [(0.5, "percent"), (0.5, "text"), ("x", 3), (True, 3), (0.5, "12")])
def test_a_form_that_does_not_suit_the_value_is_refused(value, form):
    with pytest.raises(DataError, match="in the form"):
        printed(value, form)
