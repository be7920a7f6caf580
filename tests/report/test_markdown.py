"""A page's citations are references that stay as they are when others come, go or change."""

import difflib
import re

import pytest

from attention_collapse.errors import DataError
from attention_collapse.files import write_json
from attention_collapse.report import markdown
from attention_collapse.report.evidence import Evidence, label


@pytest.fixture
def source(tmp_path):
    return written(tmp_path, {"b": {"x": {"mean": 0.74}, "n": 3}, "c": "x [1]", "evidence_id": "ab12"})


def written(folder, data):
    write_json(folder / "m.json", data)
    return Evidence.read(folder, "m.json")


def changed(old, new):
    """Lines that a difference of two texts shows, in pairs of signs and lines."""
    lines = difflib.ndiff(old.splitlines(), new.splitlines())
    return [(line[0], line[2:]) for line in lines if line[0] in "+-"]


def test_references_and_runs_stand_at_the_end(source):
    mean, number, text = (label("m.json", *parts) for parts in (("b.x.mean", 2), ("b.n", 3), ("c", "text")))
    page = markdown.page(
        f"# A\n\n{source.md('c', 'text')}: {source.md('b.x.mean', 2)} of {source.md('b.n')}, {source.md_run()}\n"
    )
    assert page.splitlines() == [
        "# A", "", rf"[x \[1\]][{text}]: [0.74][{mean}] of [3][{number}], [m.json](#sources)", "",
        "## Sources", "", "- [m.json](../../m.json): run `ab12`", "",
        f'[{number}]: ../../m.json#L3 "3 b.n"', f'[{mean}]: ../../m.json#L5 "2 b.x.mean"',
        f'[{text}]: ../../m.json#L8 "text c"',
    ]  # fmt: skip


def test_a_file_that_is_named_alone_has_its_run(source):
    assert markdown.page(f"See {source.md_run()}.\n").endswith("## Sources\n\n- [m.json](../../m.json): run `ab12`\n")


@pytest.mark.parametrize("text", ["nothing\n", "[a](b.md#c)\n", '[a](b.md "title")\n', "`0.7`"])
def test_a_text_without_citations_stays_as_it_is(text):
    assert markdown.page(text) == text


def test_a_number_more_is_two_lines_more_and_cited_twice_it_is_one_reference(source):
    old = markdown.page(f"{source.md('b.n')}\n")
    new = markdown.page(f"{source.md('b.x.mean')}\n\n{source.md('b.n')}\n")
    assert [sign for sign, line in changed(old, new) if line] == ["+", "+"]
    twice = markdown.page(f"{source.md('b.n')}\n\n{source.md('b.n')}\n")
    assert [line for _, line in changed(old, twice) if line] == [old.splitlines()[0]]


def test_another_value_changes_the_line_that_prints_it_and_another_run_its_one_line(source, tmp_path):
    def page(found):
        return markdown.page(f"{found.md('b.x.mean')}\n\n{found.md('b.n')} of {found.md_run()}\n")

    old = page(source)
    value = page(written(tmp_path, {"b": {"x": {"mean": 0.75}, "n": 3}, "c": "x", "evidence_id": "ab12"}))
    assert [re.sub(r"\]\[.*", "]", line) for _, line in changed(old, value)] == ["[0.740]", "[0.750]"]
    run = page(written(tmp_path, {"b": {"x": {"mean": 0.74}, "n": 3}, "c": "x", "evidence_id": "cd34"}))
    assert changed(old, run) == [
        ("-", "- [m.json](../../m.json): run `ab12`"),
        ("+", "- [m.json](../../m.json): run `cd34`"),
    ]


def test_two_numbers_with_one_label_are_refused(source, monkeypatch):
    monkeypatch.setattr(markdown, "label", lambda *_: "same")
    with pytest.raises(DataError, match="have the label same"):
        markdown.page(f"{source.md('b.x.mean')} {source.md('b.n')}")
