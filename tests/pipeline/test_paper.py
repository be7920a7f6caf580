"""The paper compiles, prints the metrics' numbers, and links each to its line."""

import os
import re
import shutil
import subprocess

import pytest
from conftest import ROOT

from attention_collapse.files import read_json
from attention_collapse.report.evidence import Evidence


@pytest.mark.skipif(not shutil.which("latexmk"), reason="latexmk is not on this machine")
def test_the_pdf_prints_the_metrics(tmp_path):
    shutil.copytree(ROOT / "paper", tmp_path / "paper", ignore=shutil.ignore_patterns("*.pdf", "*.aux"))
    shutil.copytree(ROOT / "plots", tmp_path / "plots")
    base = "https://host.example/~o/a_b/blob/c0ffee"
    done = subprocess.run(
        ["latexmk", "main.tex"], cwd=tmp_path / "paper", capture_output=True, text=True,
        env=os.environ | {"ATTENTION_COLLAPSE_EVIDENCE_BASE": base},
    )  # fmt: skip
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
    links = subprocess.run(
        ["pdfinfo", "-url", "main.pdf"], cwd=tmp_path / "paper", capture_output=True, text=True
    ).stdout.split()
    statistics = Evidence.read(ROOT, "metrics/embedded/stats.json")
    for name in models:
        for key in ("mcs.mean", "mcs.ci_low", "share_of_pairs_above_0_7", "tests.mcs_vs_0_7.log10_p"):
            found = statistics.cite(f"models.{name}.{key}")
            assert f"{base}/{found.file}#L{found.line}" in links


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
