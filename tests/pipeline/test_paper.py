"""The paper compiles, prints and links the metrics' numbers, and cites only works whose facts were checked."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

from attention_collapse.files import read_json
from attention_collapse.report.evidence import Evidence

PAPER = ROOT / "paper"
SOURCES = [*sorted(PAPER.glob("*.tex")), *sorted((PAPER / "sections").glob("*.tex"))]
BASE = "https://host.example/~o/a_b/blob/c0ffee"  # where links begin in the test
PAGES = 8  # CVPR's limit, without references


def without_comments(text: str) -> str:
    """The text that LaTeX reads."""
    return re.sub(r"(?<!\\)%.*", "", text)


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
    placed = read_json(ROOT / "metrics" / "embedded" / "validity.json")["as_claimed_for_every_kind"]
    said = "No measure of attention places all models of every kind as it claims"
    assert said in re.sub(r"\s+", " ", (PAPER / "main.tex").read_text())
    assert "reliance_share" in placed
    assert not re.search(r"mcs|entropy|mass|t_shap", str(placed))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the paper, built as CI builds it."""
    if not shutil.which("latexmk"):
        pytest.skip("latexmk is not on this machine")
    folder = tmp_path_factory.mktemp("built")
    shutil.copytree(PAPER, folder / "paper", ignore=shutil.ignore_patterns("*.pdf", "*.aux", "*.bbl", "*.fdb_latexmk"))
    shutil.copytree(ROOT / "plots", folder / "plots")
    environment = os.environ | {"ATTENTION_COLLAPSE_EVIDENCE_BASE": BASE}
    command = ["latexmk", "main.tex", "supplement.tex"]
    done = subprocess.run(command, cwd=folder / "paper", capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-3000:]
    return folder / "paper"


def text_of(built: Path, *options: str, pdf: str = "main.pdf") -> str:
    """The PDF's text, a form feed after each page."""
    if not shutil.which("pdftotext"):
        pytest.skip("pdftotext is not on this machine: the PDF was built, its text not read")
    command = ["pdftotext", *options, pdf, "-"]
    return subprocess.run(command, cwd=built, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", ["main", "supplement"])
def test_every_reference_resolves(built, name):
    log = (built / f"{name}.log").read_text(errors="replace")
    assert not re.search(r"undefined|multiply defined", log.replace("\n", ""))
    assert name == "supplement" or "Warning--" not in (built / "main.blg").read_text()
    assert "??" not in text_of(built) and "[?]" not in text_of(built)


@pytest.mark.parametrize("name", ["main", "supplement"])
def test_no_line_or_table_runs_out_of_its_column(built, name):
    log = (built / f"{name}.log").read_text(errors="replace")
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
    for name, result in models.items():
        row = next(line for line in text.splitlines() if re.match(rf"\s*{name}\b(?!-)", line))
        means = [result[key]["mean"] for key in ("mcs", "mcs_null")]
        assert all(("–" if mean is None else f"{mean:.3f}") in row for mean in means), row
    reference = read_json(ROOT / "metrics" / "null_reference.json")
    for tower in reference["towers"].values():
        assert f"{tower['mean']:.4f}" in text


def test_the_supplement_prints_every_plain_model_on_every_set(built):
    text = text_of(built, "-layout", pdf="supplement.pdf")
    models = read_json(ROOT / "metrics" / "embedded" / "answers.json")["models"]
    shown = [
        line for line in text.splitlines() if re.search(r"(its own training|as published|with shifted prior)  ", line)
    ]
    named = [one for of_kind in models.values() for name, one in of_kind.items() if "-erm-" in name]
    sets = [found for one in named for found in one.values()]
    assert len(shown) >= len(sets) > 0
    for found in sets:
        summary = found["answer_accuracy"]
        printed = f"{summary['mean']:.2f} [{summary['ci_low']:.2f}, {summary['ci_high']:.2f}]"
        assert any(printed in line for line in shown)


@pytest.mark.parametrize("pdf", ["main.pdf", "supplement.pdf"])
def test_where_there_is_no_interval_a_dash_is_printed(built, pdf):
    text = text_of(built, "-layout", pdf=pdf)
    assert "–" in text and "[–" not in text and "–]" not in text


def test_each_number_links_to_its_line(built):
    models = read_json(ROOT / "metrics" / "embedded" / "stats.json")["models"]
    links = subprocess.run(["pdfinfo", "-url", "main.pdf"], cwd=built, capture_output=True, text=True).stdout.split()
    statistics = Evidence.read(ROOT, "metrics/embedded/stats.json")
    for name in models:
        for key in ("mcs.mean", "mcs.ci_low", "share_of_pairs_above_0_7"):
            found = statistics.cite(f"models.{name}.{key}")
            if key.endswith("ci_low") and found.value is None:
                continue  # no interval, and no link
            assert f"{BASE}/{found.file}#L{found.line}" in links


@pytest.mark.skipif(not shutil.which("latexmk"), reason="latexmk is not on this machine")
@pytest.mark.parametrize(
    ("remote", "change", "base"),
    [
        ("git@host.example:o/r.git", False, "https://host.example/o/r/blob/{commit}/"),
        ("https://user:secret@host.example/o/r", False, "https://host.example/o/r/blob/{commit}/"),
        ("https://host.example/o/r.git", True, "../"),
        ("/a/folder", False, "../"),
        (None, False, "../"),
    ],
)
def test_links_begin_at_the_commit_if_it_holds_the_files(tmp_path, remote, change, base):
    def git(*arguments):
        done = subprocess.run(["git", *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    for folder in ("paper", "metrics", "data"):
        (tmp_path / folder).mkdir()
    shutil.copy(ROOT / "paper" / "latexmkrc", tmp_path / "paper")
    (tmp_path / "metrics" / "m.json").write_text("{}")
    git("init", "-q")
    git("add", ".")
    git("-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "all")
    if remote:
        git("remote", "add", "origin", remote)
    if change:
        (tmp_path / "metrics" / "m.json").write_text("{ }")
    environment = {key: text for key, text in os.environ.items() if key != "ATTENTION_COLLAPSE_EVIDENCE_BASE"}
    subprocess.run(["latexmk", "-commands"], cwd=tmp_path / "paper", capture_output=True, env=environment)
    expected = base.format(commit=git("rev-parse", "HEAD"))
    written = (tmp_path / "paper" / "evidence.base").read_text()
    assert written == f"\\renewcommand{{\\evidencebase}}{{{expected}}}\n"


@pytest.mark.parametrize(
    "file, sentence",
    [
        ("generated/coco/numbers.tex", "has not been run for"),
        ("generated/embedded-audit/table.tex", "The table of the audit is absent from this build"),
    ],
)
def test_what_has_not_run_is_said_to_be_absent(built, file, sentence):
    text = re.sub(r"\s+", " ", text_of(built))
    assert (sentence in text) is not (PAPER / file).exists()
