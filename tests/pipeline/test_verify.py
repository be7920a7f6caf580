"""The comparison must fail when anything is changed, on either side, and must not pass on nothing."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT
from PIL import Image

from attention_collapse import cli
from attention_collapse.errors import PipelineError
from attention_collapse.identity.settle import LOG, STANDING, settle_json
from attention_collapse.repository import verify
from attention_collapse.repository.verify import compare, copy_tracked, targets_outputs, verification_text

METRICS = {"mcs": {"mean": 0.7123, "n": 100, "reading": "no collapse"}, "p": None, "list": [1.0, 2.0]}
OUTPUTS = [Path("metrics"), Path("table.csv"), Path("plots"), Path("reports")]


@pytest.fixture
def folders(tmp_path):
    """A root and a copy that hold the same results, and the log of a comparison."""
    for name in ("root", "copy"):
        folder = tmp_path / name
        for sub in ("metrics", "plots", "reports"):
            (folder / sub).mkdir(parents=True)
        (folder / "metrics" / "a.json").write_text(json.dumps(METRICS))
        (folder / "table.csv").write_text("image_id,score\n1,20.0\n2,0.001\n")
        (folder / "reports" / "r.md").write_text("# Report\n\n0.712 of it\n")
        Image.fromarray(np.full((4, 4, 3), 100, np.uint8)).save(folder / "plots" / "f.png")
        (folder / "plots" / "f.pdf").write_bytes(b"%PDF")
    (tmp_path / "log").write_text(
        json.dumps({"file": "a", "values": 5, "largest": None, "too_close_to_call": []}) + "\n"
    )
    return tmp_path / "root", tmp_path / "copy", tmp_path / "log"


def mismatches(folders):
    root, copy, log = folders
    return [f"{file}: {value.key}" for file, value in compare(root, copy, OUTPUTS, log).mismatches]


def test_equal_results_agree(folders):
    assert mismatches(folders) == []
    root, copy, log = folders
    found = compare(root, copy, OUTPUTS, log)
    assert (found.values, found.files) == (5, 5)
    text = verification_text(found)
    assert text.endswith("\n0 differ beyond the tolerance") and "all that agree are equal" in text


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize(
    ("file", "old", "new", "named"),
    [
        ("metrics/a.json", "0.7123", "0.7124", "metrics/a.json: mcs.mean"),
        ("metrics/a.json", "100", "99", "metrics/a.json: mcs.n"),
        ("metrics/a.json", "no collapse", "collapse", "metrics/a.json: mcs.reading"),
        ("metrics/a.json", "null", "0.0", "metrics/a.json: p"),
        ("metrics/a.json", "2.0]", "2.0, 3.0]", "metrics/a.json: list[2]"),
        ("metrics/a.json", "{", "", "metrics/a.json: bytes"),
        ("table.csv", "20.0", "20.01", "table.csv: score[0]"),
        ("table.csv", "2,0.001\n", "", "table.csv: shape"),
        ("reports/r.md", "0.712", "0.713", "reports/r.md: line 3"),
    ],
)
def test_a_changed_value_is_found_on_either_side(folders, side, file, old, new, named):
    path = folders[side] / file
    path.write_text(path.read_text().replace(old, new, 1))
    assert mismatches(folders) == [named]
    assert f"MISMATCH {named}" in verification_text(compare(*folders[:2], OUTPUTS, folders[2]))


@pytest.mark.parametrize("side", [0, 1])
def test_a_file_on_one_side_only_is_a_mismatch(folders, side):
    (folders[side] / "metrics" / "a.json").unlink()
    assert mismatches(folders) == ["metrics/a.json: file"]


@pytest.mark.parametrize(("value", "expected"), [(102, []), (110, ["plots/f.png: bytes"])])
def test_a_picture_may_differ_by_what_no_eye_sees(folders, value, expected):
    pixels = np.full((4, 4, 3), 100, np.uint8)
    pixels[0, 0] = value
    Image.fromarray(pixels).save(folders[1] / "plots" / "f.png")
    assert mismatches(folders) == expected


def test_nothing_to_compare_is_an_error(folders, tmp_path):
    root, copy, log = folders
    with pytest.raises(PipelineError, match="no results"):
        compare(root, copy, [Path("absent")], log)
    with pytest.raises(PipelineError, match="no results"):
        compare(root, copy, OUTPUTS, tmp_path / "absent")


def test_the_largest_difference_within_the_tolerance_is_named(folders, monkeypatch):
    root, copy, log = folders
    log.unlink()
    monkeypatch.chdir(copy)
    monkeypatch.setenv(STANDING, str(root))
    monkeypatch.setenv(LOG, str(log))
    (copy / "metrics" / "a.json").unlink()
    settle_json(Path("metrics/a.json"), METRICS | {"list": [1.0, 2.00001]})
    found = compare(root, copy, OUTPUTS, log)
    assert not found.mismatches and found.values == 6
    text = verification_text(found)
    assert "metrics/a.json: list[1] (2.0 committed, 2.00001 recomputed)" in text and "5e-06" in text


@pytest.fixture(scope="module")
def dry(tmp_path_factory):
    """A copy of the repository without git."""
    folder = tmp_path_factory.mktemp("dry")
    copy_tracked(ROOT, folder)
    (folder / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n")
    return folder


@pytest.fixture(scope="module")
def outputs(dry):
    """What the stages that are run again write; DVC needs seconds to say so."""
    return targets_outputs(dry)


def test_the_command_names_the_one_number_that_was_changed_and_exits_1(outputs, tmp_path, monkeypatch, capsys):
    some = [path for path in outputs if path.parts[0] in ("metrics", "reports")]

    def pretend_to_run(scratch, _root, log):
        """What a perfect reproduction leaves in the scratch copy."""
        for path in some:
            source, target = ROOT / path, scratch / path
            assert not target.exists()  # nothing may be compared with itself
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
        log.write_text(json.dumps({"file": "a", "values": 5, "largest": None, "too_close_to_call": []}) + "\n")

    for name in (".dvc/config", "dvc.yaml", "params.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for folder in ("metrics", "reports"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "-A", "-f"], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verify, "rerun", pretend_to_run)
    monkeypatch.setattr(verify, "targets_outputs", lambda root: some)
    assert cli.main(["verify"]) == 0 and "0 differ beyond" in capsys.readouterr().out
    file = tmp_path / "metrics" / "embedded" / "stats.json"
    data = json.loads(file.read_text())
    data["models"]["openclip-scenes"]["mcs"]["mean"] += 0.0001
    file.write_text(json.dumps(data))
    assert cli.main(["verify"]) == 1
    tail = capsys.readouterr().out.splitlines()[-2:]
    assert "MISMATCH" in tail[0] and "models.openclip-scenes.mcs.mean" in tail[0] and "1 differ beyond" in tail[1]


def test_all_stages_of_the_embedded_study_are_rerun_and_no_others(dry):
    code = (
        "import sys; from dvc.cli import main\n"
        "for target in sys.argv[1:]:\n"
        "    assert main(['repro', '--dry', '--force', *target.split()]) == 0"
    )
    targets = [" ".join(target) for target in verify.TARGETS]
    done = subprocess.run([sys.executable, "-c", code, *targets], cwd=dry, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ran = {stage.split("@")[0] for stage in re.findall(r"Running stage '([^']+)'", done.stdout)}
    stages = set(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])
    assert ran == stages - {"train_controls", "train_doses", "train_prevention", "train_answers"}


def test_every_committed_result_of_the_study_is_among_what_is_compared(outputs):
    held = {name for path in outputs for name in ([path] if (ROOT / path).is_file() else (ROOT / path).rglob("*"))}
    compared = {os.fspath(Path(name).relative_to(ROOT) if Path(name).is_absolute() else name) for name in held}
    listing = subprocess.run(["git", "ls-files", "metrics", "plots", "reports", "data"], cwd=ROOT, capture_output=True)
    for name in listing.stdout.decode().splitlines():
        if "embedded" in name and not name.startswith(
            ("data/embedded/doses/", "data/embedded/prevention/", "data/embedded/answers/", "data/calibration/")
        ):  # that was trained, or timed
            assert name in compared, name


def test_a_repository_that_tracks_nothing_is_refused(tmp_path):
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    with pytest.raises(PipelineError, match="git tracks no file here"):
        copy_tracked(tmp_path, tmp_path / "copy")
