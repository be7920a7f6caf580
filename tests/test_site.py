"""The documentation site: it is built strictly from the pages as they are, and its reference from the code."""

import importlib.util
import re
import subprocess
import sys
from importlib.machinery import SourceFileLoader

import pytest
from conftest import ROOT

from attention_collapse.params.section import Section
from attention_collapse.report.measures import WITH_LABELS

pytest.importorskip("sphinx", reason="the extra `docs` is not installed")
sys.path.insert(0, str(ROOT / "scripts"))


def script(name):
    """A script of scripts/ as a module."""
    loader = SourceFileLoader(f"script_{name}", str(ROOT / "scripts" / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


SITE = script("site")
INDEX = (ROOT / "docs" / "index.md").read_text("utf-8")


def test_every_page_is_listed_once():
    listed = [name for names in SITE.sections(INDEX).values() for name in names]
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert sorted(listed) == sorted(pages | {"../CONTRIBUTING.md", "../CHANGELOG.md"})


def test_the_readme_leads_to_the_index():
    assert "(docs/index.md)" in (ROOT / "README.md").read_text("utf-8")


def test_anchors_set_by_hand_are_put_into_the_words_of_the_parser_and_others_left_alone():
    text = '<a id="section-5"></a>\n\n## 5. Causal\n[a](measures.md#section-5), [b](measures.md#causal), [c](x.md)'
    changed = SITE.with_anchors(text, {"section-5"})
    assert changed == "(section-5)=\n\n## 5. Causal\n[a](#section-5), [b](measures.md#causal), [c](x.md)"


def test_what_is_wrong_with_a_built_site_is_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="b.html#there">1</a><a href="b.html#not">2</a><a href="c.html">3</a><a href="https://x.org/">4</a>'
        '<script src="https://cdn.x.org/a.js"></script><link href="//x.org/a.css"><img src="data:image/png;base64,">'
    )
    (tmp_path / "b.html").write_text('<p id="there"></p>')
    (tmp_path / "a.css").write_text("@font-face {src: url('https://fonts.x.org/a.woff')} p {background: url(b.png)}")
    assert SITE.faults(tmp_path) == [
        "a.css loads https://fonts.x.org/a.woff",
        "a.html leads to b.html#not: the page has no such anchor",
        "a.html leads to c.html, which is not there",
        "a.html loads //x.org/a.css",
        "a.html loads https://cdn.x.org/a.js",
    ]


def test_the_reference_of_the_command_line_has_every_command_and_option():
    import reference

    from attention_collapse.options import command_parser

    page = reference.command_line()
    done = set(re.findall(r"(?m)^##+ `([^`]+)`$", page))
    commands = next(action.choices for action in command_parser()._actions if action.choices)
    assert set(commands) <= done and {"pairs show", "pairs convert"} <= done
    for parser in commands.values():
        assert all(f"`{name}`" in page for action in parser._actions for name in action.option_strings)


def test_the_reference_of_the_parameters_has_every_key_with_its_type_and_default():
    import reference

    page = reference.parameters()
    sections = Section.__subclasses__() + [below for one in Section.__subclasses__() for below in one.__subclasses__()]
    assert len(sections) > 20
    for section in sections:
        assert f"\n## {section.__name__}\n" in page
        assert all(f"\n| `{name}` | " in page for name in section.model_fields)
    assert "| `options` | mapping to number or text | `{}` |" in page  # a default that is made anew
    assert "| `confidence` | number | `0.95` | > `0`, &lt; `1` |" in page  # as written in Stats
    assert "| source: folder; role -> name, where the columns are not known |" in page  # the comment beside the line


def test_the_reference_of_the_measures_has_every_record_under_its_name():
    import reference

    headings = re.findall(r"(?m)^## .+, `(\w+)`$", reference.measures())
    assert headings == list(WITH_LABELS)


def test_every_room_of_the_reference_names_modules_that_there_are():
    import reference

    for room in ("measures", "stats"):  # all their modules but those that only gather others
        there = {
            f"attention_collapse.{room}.{path.stem}" for path in (ROOT / "src/attention_collapse" / room).glob("*.py")
        }
        gathers = {f"attention_collapse.measures.{name}" for name in ("attention", "contribution", "catalogue")}
        assert there - gathers - {f"attention_collapse.{room}.__init__"} == set(reference.modules(room))


@pytest.mark.slow
def test_it_is_built_strictly_and_loads_nothing_from_elsewhere(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "site", tmp_path / "site"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    names = {path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*.html")}
    assert {"index.html", "docs/tutorial.html", "docs/reference/api/measures.html", "CONTRIBUTING.html"} <= names
    text = (tmp_path / "site/docs/reference/api/measures.html").read_text("utf-8")
    assert 'id="attention_collapse.measures.mcs.mcs_calibrated"' in text and "0.5 is no departure from the null" in text
