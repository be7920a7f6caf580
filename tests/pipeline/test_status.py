"""The gate that says whether what is committed is current."""

import subprocess
import sys

import pytest
from conftest import ROOT

from attention_collapse.status import stale
from attention_collapse.verify import copy_tracked


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


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda c: append(c / "metrics/embedded/stats.json", " "), ["stats: metrics/embedded/stats.json is modified"]),
        (lambda c: (c / "metrics/embedded/stats.json").unlink(), ["stats: metrics/embedded/stats.json is deleted"]),
        (
            lambda c: append(c / "src/attention_collapse/report/figures.py", "#\n"),
            ["figures: src/attention_collapse/report/figures.py is modified"],
        ),
        (
            lambda c: (c / "params.yaml").write_text(
                (c / "params.yaml").read_text().replace("rows: all", "rows: readout")
            ),
            ["compute_mcs@openclip-scenes: compute_mcs is modified"],
        ),
    ],
)
def test_a_change_is_named_with_its_stage(clone, change, named):
    change(clone)
    problems, _ = stale(clone)
    assert set(named) <= set(problems), problems


def test_editing_a_figures_code_makes_only_what_draws_with_it_stale(clone):
    append(clone / "src/attention_collapse/report/figures.py", "# a comment\n")
    assert {problem.split(":")[0] for problem in stale(clone)[0]} == {"figures", "overlay", "validity"}


def test_changing_one_models_parameter_touches_that_model_and_the_aggregators(clone):
    path = clone / "params.yaml"
    path.write_text(path.read_text().replace("seed: 2, control_for", "seed: 3, control_for"))
    touched = {problem.split(":")[0] for problem in stale(clone)[0]}
    own = {f"{stage}@openclip-scenes-untrained-2" for stage in ("extract_attention", "contribution")}
    assert touched == own | {"stats", "decision", "audit", "overlay", "reports"}


def test_a_measure_edit_does_not_rerun_extraction(clone):
    append(clone / "src/attention_collapse/measures/scores.py", "# a comment\n")
    touched = {problem.split(":")[0].split("@")[0] for problem in stale(clone)[0]}
    assert touched == {"compute_mcs", "measure_planted"}


def test_the_command_exits_1(clone):
    append(clone / "metrics/embedded/stats.json", " ")
    run = subprocess.run(
        [sys.executable, "-m", "attention_collapse.cli", "status"], cwd=clone, capture_output=True, text=True
    )
    assert run.returncode == 1 and "metrics/embedded/stats.json is modified" in run.stdout
