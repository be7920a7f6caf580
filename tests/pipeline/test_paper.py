"""The paper compiles, and prints the metrics' numbers."""

import re
import shutil
import subprocess

import pytest
from conftest import ROOT

from attention_collapse.files import read_json


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
    for path in [ROOT / "paper" / "main.tex", *(ROOT / "paper" / "sections").glob("*.tex")]:
        text = path.read_text()
        if path.name == "main.tex":
            text = text.split("\\begin{document}")[1]
        text = re.sub(r"\\ac\{[^}]*\}|%.*", "", text)
        assert set(re.findall(r"(?<![\w.])\d+\.\d+", text)) <= allowed, path


def test_an_unknown_number_would_stop_latex_so_every_key_used_exists():
    known = set()
    for file in (ROOT / "paper" / "generated").glob("embedded*/numbers.tex"):
        known |= set(re.findall(r"\\acdef\{([^}]*)\}", file.read_text()))
    used = set()
    for path in [ROOT / "paper" / "main.tex", *(ROOT / "paper" / "sections").glob("*.tex")]:
        used |= {key for key in re.findall(r"\\ac\{([^}#]*)\}", path.read_text()) if key.startswith("embedded")}
    assert used and used <= known


@pytest.mark.skipif(not shutil.which("latexmk"), reason="latexmk is not on this machine")
def test_the_pdf_prints_the_metrics(tmp_path):
    shutil.copytree(ROOT / "paper", tmp_path / "paper", ignore=shutil.ignore_patterns("*.pdf", "*.aux"))
    shutil.copytree(ROOT / "plots", tmp_path / "plots")
    done = subprocess.run(["latexmk", "main.tex"], cwd=tmp_path / "paper", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    log = (tmp_path / "paper" / "main.log").read_text(errors="replace")
    assert "undefined" not in log.lower().replace("undefined on input line", "UNDEF") and "UNDEF" not in log
    if not shutil.which("pdftotext"):
        pytest.skip("pdftotext is not on this machine: the PDF was built, its text not read")
    text = subprocess.run(
        ["pdftotext", "-layout", "main.pdf", "-"], cwd=tmp_path / "paper", capture_output=True, text=True
    ).stdout
    models = read_json(ROOT / "metrics" / "embedded" / "stats.json")["models"]
    for result in models.values():
        assert f"{result['mcs']['mean']:.3f}" in text and f"{result['mcs_null']['mean']:.3f}" in text
    reference = read_json(ROOT / "metrics" / "null_reference.json")
    for tower in reference["towers"].values():
        assert f"{tower['mean']:.4f}" in text
    assert "has not been run" in re.sub(r"\s+", " ", text)
