"""The gate that says whether what is committed is current."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

from attention_collapse import cli
from attention_collapse.repository.status import stale
from attention_collapse.repository.verify import copy_tracked


@pytest.fixture
def clone(tmp_path):
    """What a fresh clone holds: tracked files, no cache."""
    copy_tracked(ROOT, tmp_path)
    (tmp_path / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n")
    return tmp_path


def test_a_fresh_clone_is_current_and_says_which_study_has_not_run(clone):
    assert stale(clone) == ([], ["studies/coco"])


def append(path, text):
    path.write_text(path.read_text() + text)


def test_each_change_is_named_with_its_stage_and_the_command_exits_1(clone, monkeypatch, capsys):
    append(clone / "metrics/embedded/stats.json", " ")
    (clone / "metrics/embedded/decision.json").unlink()
    append(clone / "src/attention_collapse/report/figures.py", "#\n")
    params = clone / "params.yaml"
    params.write_text(params.read_text().replace("rows: all", "rows: readout"))
    monkeypatch.chdir(clone)
    assert cli.main(["status"]) == 1
    printed = capsys.readouterr().out
    for named in (
        "stats: metrics/embedded/stats.json is modified",
        "decision: metrics/embedded/decision.json is deleted",
        "code: src/attention_collapse is modified",
        "compute_mcs@openclip-scenes: compute_mcs is modified",
    ):
        assert named in printed, printed


def stale_after(clone, text, *files):
    """What is stale once the stage `code` has seen an edit of some files, that stage aside."""
    for file in files:
        append(clone / "src/attention_collapse" / file, text)
    environment = os.environ | {"PYTHONPATH": str(clone / "src")}
    command = [sys.executable, "-m", "attention_collapse.stages.code"]
    subprocess.run(command, cwd=clone, env=environment, check=True)
    return {problem.split(":")[0] for problem in stale(clone)[0]} - {"code"}


def test_a_comment_makes_nothing_stale(clone):
    files = ["models/decoder.py", "report/figures.py", "engine/scores.py", "files.py"]
    assert stale_after(clone, "# a comment\n", *files) == set()


EDIT = "\n\ndef _more() -> int:\n    return 1\n"


def test_editing_a_figures_code_makes_only_what_draws_with_it_stale(clone):
    assert stale_after(clone, EDIT, "report/figures.py") == {
        "figures",
        "overlay",
        "validity",
        "doses",
        "prevention",
        "answers",
    }


def test_editing_the_code_of_decoders_leaves_other_kinds_current(clone):
    """The embedded study has no decoder but among the planted models."""
    assert stale_after(clone, EDIT, "models/decoder.py") == {"measure_planted"}


def test_editing_a_measure_does_not_rerun_extraction(clone):
    touched = {stage.split("@")[0] for stage in stale_after(clone, EDIT, "measures/mass.py")}
    assert "compute_mcs" in touched and not touched & {"extract_attention", "contribution", "fetch_coco"}


def test_changing_one_models_parameter_touches_that_model_and_the_aggregators(clone):
    path = clone / "params.yaml"
    path.write_text(path.read_text().replace("seed: 2, control_for", "seed: 3, control_for"))
    touched = {problem.split(":")[0] for problem in stale(clone)[0]}
    own = {f"{stage}@openclip-scenes-untrained-2" for stage in ("extract_attention", "contribution", "compute_mcs")}
    assert touched == own | {"stats", "decision", "audit", "overlay", "reports"}


def test_what_is_installed_otherwise_than_pinned_is_said_and_fails_nothing(monkeypatch, capsys):
    monkeypatch.setattr("attention_collapse.repository.status.stale", lambda: ([], []))
    monkeypatch.setattr(
        "attention_collapse.identity.environment.departures", lambda root: ["torch 2.14.1, … pins 2.15.0"]
    )
    monkeypatch.chdir(ROOT)
    assert cli.main(["status"]) == 0 and "note: torch 2.14.1, … pins 2.15.0" in capsys.readouterr().out
