"""The paper compiles, prints the metrics' numbers, and cites only works whose facts were checked."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

from attention_collapse.files import read_json

PAPER = ROOT / "paper"
SOURCES = [PAPER / "main.tex", *sorted((PAPER / "sections").glob("*.tex"))]
PAGES = 8  # CVPR's limit, without references


def without_comments(text: str) -> str:
    """The text that LaTeX reads."""
    return re.sub(r"(?<!\\)%.*", "", text)


def test_no_measured_number_is_typed_into_the_paper():
    allowed = {
        "0.3",
        "0.5",
        "0.7",
        "0.8",
        "0.9",
        "0.6",
        "0.02",
        "0.001",
    }  # thresholds and levels, which are definitions
    for path in SOURCES:
        text = path.read_text()
        if path.name == "main.tex":
            text = text.split("\\begin{document}")[1]
        text = re.sub(r"\\ac\{[^}]*\}", "", without_comments(text))
        assert set(re.findall(r"(?<![\w.])\d+\.\d+", text)) <= allowed, path


def test_an_unknown_number_would_stop_latex_so_every_key_used_exists():
    known = set()
    for file in (PAPER / "generated").glob("embedded*/numbers.tex"):
        known |= set(re.findall(r"\\acdef\{([^}]*)\}", file.read_text()))
    used = set()
    for path in SOURCES:
        used |= {key for key in re.findall(r"\\ac\{([^}#]*)\}", path.read_text()) if key.startswith("embedded")}
    assert used and used <= known


def test_every_work_cited_is_in_the_bibliography_and_every_entry_is_cited_and_says_how_it_was_checked():
    cited = set()
    for path in SOURCES:
        for keys in re.findall(r"\\cite\w*(?:\[[^]]*\])*\{([^}]*)\}", without_comments(path.read_text())):
            cited |= {key.strip() for key in keys.split(",")}
    entries = re.findall(r"((?:^%.*\n)*)^@\w+\{([^,\s]+),", (PAPER / "references.bib").read_text(), re.MULTILINE)
    keys = [key for _, key in entries]
    assert cited and cited == set(keys) and len(keys) == len(set(keys))
    assert [key for comment, key in entries if not re.search(r"^% checked: \S", comment, re.MULTILINE)] == []


def test_what_the_abstract_says_of_measures_is_what_the_planted_models_showed():
    trusted = read_json(ROOT / "metrics" / "embedded" / "validity.json")["trusted_for_every_kind"]
    assert "no measure of attention does" in re.sub(r"\s+", " ", (PAPER / "main.tex").read_text())
    assert "shapley_share" in trusted
    assert not re.search(r"mcs|entropy|mass", str(trusted))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the paper, built as CI builds it."""
    if not shutil.which("latexmk"):
        pytest.skip("latexmk is not on this machine")
    folder = tmp_path_factory.mktemp("built")
    shutil.copytree(PAPER, folder / "paper", ignore=shutil.ignore_patterns("*.pdf", "*.aux", "*.bbl", "*.fdb_latexmk"))
    shutil.copytree(ROOT / "plots", folder / "plots")
    done = subprocess.run(["latexmk", "main.tex"], cwd=folder / "paper", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    return folder / "paper"


def text_of(built: Path, *options: str) -> str:
    """The PDF's text, a form feed after each page."""
    if not shutil.which("pdftotext"):
        pytest.skip("pdftotext is not on this machine: the PDF was built, its text not read")
    command = ["pdftotext", *options, "main.pdf", "-"]
    return subprocess.run(command, cwd=built, capture_output=True, text=True, check=True).stdout


def test_every_reference_resolves(built):
    log = (built / "main.log").read_text(errors="replace")
    assert not re.search(r"undefined|multiply defined", log.replace("\n", ""))
    assert "Warning--" not in (built / "main.blg").read_text()
    assert "??" not in text_of(built) and "[?]" not in text_of(built)


def test_no_line_or_table_runs_out_of_its_column(built):
    log = (built / "main.log").read_text(errors="replace")
    assert [width for width in re.findall(r"Overfull \\hbox \(([\d.]+)pt", log) if float(width) > 2] == []


def test_the_text_keeps_to_the_page_limit_and_no_table_comes_after_it(built):
    pages = text_of(built).split("\f")
    at = next(index for index, page in enumerate(pages) if re.search(r"^References$", page, re.MULTILINE))
    before = re.split(r"^References$", pages[at], maxsplit=1, flags=re.MULTILINE)[0]
    assert at + bool(before.strip()) <= PAGES
    assert not re.search(r"^(Table|Figure) \d+\.", "\n".join(pages[at + 1 :]), re.MULTILINE)


def test_the_pdf_prints_the_metrics(built):
    text = text_of(built, "-layout")
    models = read_json(ROOT / "metrics" / "embedded" / "stats.json")["models"]
    for result in models.values():
        assert f"{result['mcs']['mean']:.3f}" in text and f"{result['mcs_null']['mean']:.3f}" in text
    reference = read_json(ROOT / "metrics" / "null_reference.json")
    for tower in reference["towers"].values():
        assert f"{tower['mean']:.4f}" in text


@pytest.mark.parametrize(
    "file, sentence",
    [
        ("generated/coco/numbers.tex", "has not been run for this build"),
        ("generated/embedded-audit/table.tex", "The table of the audit is absent from this build"),
    ],
)
def test_what_has_not_run_is_said_to_be_absent(built, file, sentence):
    text = re.sub(r"\s+", " ", text_of(built))
    assert (sentence in text) is not (PAPER / file).exists()
