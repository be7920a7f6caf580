"""The comparison must fail when a number is changed."""

import json
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT

from attention_collapse import cli, verify
from attention_collapse.errors import PipelineError
from attention_collapse.verify import as_table, compare, copy_tracked

METRICS = {"mcs": {"mean": 0.7123, "n": 100, "reading": "no collapse"}, "p": None, "list": [1.0, 2.0]}


@pytest.fixture
def folders(tmp_path):
    for name in ("committed", "recomputed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.json").write_text(json.dumps(METRICS))
    return tmp_path / "committed", tmp_path / "recomputed"


def mismatches(folders, rtol=1e-3, atol=1e-4):
    return [row.key for row in compare(*folders, rtol=rtol, atol=atol) if not row.agrees]


def change(folder, **values):
    (folder / "a.json").write_text(json.dumps(METRICS | values))


def test_equal_metrics_agree_value_by_value(folders):
    rows = compare(*folders, rtol=0, atol=0)
    assert len(rows) == 6 and all(row.agrees for row in rows)


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"mcs": METRICS["mcs"] | {"mean": 0.7143}}, "mcs.mean"),
        ({"mcs": METRICS["mcs"] | {"n": 99}}, "mcs.n"),
        ({"mcs": METRICS["mcs"] | {"reading": "collapse"}}, "mcs.reading"),
        ({"p": 0.0}, "p"),
        ({"list": [1.0, 2.1]}, "list[1]"),
        ({"new": 1}, "new"),
    ],
)
def test_a_changed_value_is_found_on_either_side(folders, side, values, key):
    change(folders[side], **values)
    assert mismatches(folders) == [key]
    assert "MISMATCH" in as_table(compare(*folders, rtol=1e-3, atol=1e-4))


def test_the_tolerance_is_atol_plus_rtol_times_committed(folders):
    change(folders[1], mcs=METRICS["mcs"] | {"mean": 0.7123 + 0.0008})
    assert mismatches(folders) == [] and mismatches(folders, rtol=1e-4) == ["mcs.mean"]


def test_a_missing_file_is_a_mismatch_of_all_its_values(folders):
    (folders[1] / "a.json").unlink()
    assert len(mismatches(folders)) == 6
    (folders[0] / "a.json").unlink()
    with pytest.raises(PipelineError, match="no metrics"):
        compare(*folders, rtol=0, atol=0)


def pretend_to_run(scratch):
    """What a perfect reproduction leaves in the scratch copy."""
    for name in ("metrics/embedded", "metrics/null_reference.json", "data/embedded/manifest.json"):
        source, target = ROOT / name, scratch / name
        assert not list(target.rglob("*.json")) and not target.is_file()  # nothing may be compared with itself
        shutil.copytree(source, target, dirs_exist_ok=True) if source.is_dir() else shutil.copy(source, target)


def test_the_command_names_the_one_number_that_was_changed_and_exits_1(tmp_path, monkeypatch, capsys):
    copy_tracked(ROOT, tmp_path)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "-A", "-f"], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verify, "rerun", pretend_to_run)
    assert cli.main(["verify"]) == 0 and "0 differ beyond" in capsys.readouterr().out
    file = tmp_path / "metrics" / "embedded" / "stats.json"
    data = json.loads(file.read_text())
    data["models"]["openclip-scenes"]["mcs"]["mean"] += 0.005
    file.write_text(json.dumps(data))
    assert cli.main(["verify"]) == 1
    tail = capsys.readouterr().out.splitlines()[-2:]
    assert "1 differ beyond" in tail[0] and "models.openclip-scenes.mcs.mean" in tail[1] and "MISMATCH" in tail[1]


def test_all_stages_of_the_embedded_study_are_rerun_and_no_others(tmp_path):
    copy_tracked(ROOT, tmp_path)
    (tmp_path / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n")
    ran = set()
    for target in verify.TARGETS:
        command = [sys.executable, "-m", "dvc", "repro", "--dry", "--force", *target]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        ran |= {stage.split("@")[0] for stage in re.findall(r"Running stage '([^']+)'", done.stdout)}
    stages = set(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])
    assert ran == stages - {"train_controls"}
