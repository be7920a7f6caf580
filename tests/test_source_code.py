"""The code a result was made by: what a module uses, and nothing else, and no comment."""

import pytest

from attention_collapse.identity import source_code
from attention_collapse.identity.source_code import closure, code_id
from attention_collapse.registry import own_kinds

PACKAGE = "attention_collapse"


def clear():
    for cached in (code_id, source_code.imported, source_code._tree, source_code._files_named, source_code._meaning):
        cached.cache_clear()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of three modules: one uses two, three stands alone."""
    root = tmp_path / PACKAGE
    root.mkdir()
    (root / "one.py").write_text('"""One."""\nfrom attention_collapse.two import f\n\n\ndef g():\n    return f()\n')
    (root / "two.py").write_text('def f():\n    """F."""\n    return 1\n')
    (root / "three.py").write_text("x = 1\n")
    monkeypatch.setattr(source_code, "SRC", tmp_path)
    clear()
    yield root
    clear()


def identity(name="attention_collapse.one"):
    clear()
    return code_id(name)


def test_a_closure_holds_what_is_imported(package):
    assert {path.name for path in closure("attention_collapse.one")} == {"one.py", "two.py"}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("two.py", '# a comment\ndef f():\n    """Another docstring."""\n\n    return 1  # and here\n'),
        ("one.py", "from attention_collapse.two import f\n\n\ndef g():\n    return (f())\n"),
        ("three.py", "x = 2\n"),
    ],
)
def test_comments_docstrings_layout_and_other_modules_change_nothing(package, file, text):
    before = identity()
    (package / file).write_text(text)
    assert identity() == before


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("two.py", "def f():\n    return 2\n"),
        ("one.py", "from attention_collapse.two import f\n\n\ndef g():\n    return -f()\n"),
        ("two.py", 'def f():\n    x = "no docstring"\n    return 1\n'),
    ],
)
def test_what_runs_changes_it(package, file, text):
    before = identity()
    (package / file).write_text(text)
    assert identity() != before


def test_a_kinds_code_is_its_own_and_that_of_all_kinds_is_all():
    module = "attention_collapse.stages.extract_attention"
    openclip, llava, every = ({path.stem for path in closure(module, kind)} for kind in ("openclip", "llava", None))
    assert "openclip" in openclip and not {"decoder", "fusion_encoder", "dual_encoder"} & openclip
    assert {"llava", "decoder"} <= llava and not {"openclip", "llava_next", "idefics"} & llava
    assert openclip | llava < every and {kind.file.stem for kind in own_kinds().values()} < every
    ids = {kind: code_id(module, kind) for kind in ("openclip", "llava")}
    assert len({*ids.values(), code_id(module)}) == 3


def test_no_kind_uses_the_module_of_another():
    kinds = {kind.file for kind in own_kinds().values()}
    for kind in own_kinds().values():
        assert closure(kind.module) & kinds == {kind.file}, kind.name


def test_a_style_sheet_that_a_module_names_is_part_of_its_code(package):
    (package / "two.py").write_text('def f():\n    return "look.mplstyle"\n')
    (package / "look.mplstyle").write_text("a: 1\n")
    before = identity()
    (package / "look.mplstyle").write_text("a: 2\n")
    assert identity() != before


def test_extraction_does_not_depend_on_reports_and_a_measure():
    files = {
        path.relative_to(source_code.SRC).as_posix() for path in closure("attention_collapse.stages.extract_attention")
    }
    assert "attention_collapse/probe/probe.py" in files
    assert not any("/report/" in file or "/measures/" in file for file in files)
