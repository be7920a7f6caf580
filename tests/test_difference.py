"""`attention-collapse diff` and `dvc metrics diff` tell the same story of two branches with different `rows`."""

import json
import re
import subprocess
import sys

import pytest
from conftest import coco_folder

from attention_collapse import diagnose
from attention_collapse.cli import main
from attention_collapse.files import write_json
from attention_collapse.identity.tolerance import ATOL, RTOL

MCS, STATS = "metrics/embedded/mcs/tiny.json", "metrics/embedded/stats.json"


def git(folder, *arguments):
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    return subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def commit(folder, results):
    for file, content in results.items():
        write_json(folder / file, content)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "metrics")


@pytest.fixture(scope="module")
def repository(tmp_path_factory, tiny_openclip):
    """Branches `all` and `readout`: one small model measured with either choice of query rows."""
    folder = tmp_path_factory.mktemp("repository")
    pairs = coco_folder(tmp_path_factory.mktemp("pairs"), n=12, captions=2)
    git(folder, "init", "-q", "-b", "all")
    (folder / ".dvc").mkdir()
    (folder / ".dvc" / "config").write_text("[core]\n    analytics = false\n    check_update = false\n")
    (folder / "dvc.yaml").write_text(f"metrics: [{MCS}, {STATS}, metrics/embedded/decision.json]\n")
    for rows in ("all", "readout"):
        if rows != "all":
            git(folder, "checkout", "-q", "-b", rows)
        result = diagnose(str(tiny_openclip), pairs, rows=rows, partners=0)
        found = result.to_dict()
        metrics = found["details"].pop("metrics")
        tiny = found["estimates"] | found["readings"] | found["details"]
        statistics = {"evidence_id": rows, "models": {"tiny": tiny}}
        commit(folder, {MCS: metrics | {"evidence_id": rows}, STATS: statistics})
    return folder


def listed_by_dvc(folder, *revisions):
    """(file, key) of all that differs, and of that, what does by no more than the tolerance."""
    command = [sys.executable, "-m", "dvc", "metrics", "diff", "--json", *revisions]
    found = json.loads(subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout)
    pairs = {(file, key): pair for file, keys in found.items() for key, pair in keys.items()}
    near = {
        name
        for name, pair in pairs.items()
        if isinstance(pair["old"], float) and isinstance(pair["new"], float)
        and abs(pair["new"] - pair["old"]) <= ATOL + RTOL * abs(pair["old"])
    }  # fmt: skip
    return set(pairs), near


def listed_by_us(printed):
    found, file = set(), ""
    for line in printed.splitlines():
        if heading := re.fullmatch(r"## `(.*)`", line):
            file = heading[1]
        elif row := re.match(r"\| `(.*?)` \|", line):
            found.add((file, row[1]))
    return found


def test_the_same_story_as_dvc(repository, monkeypatch, capsys):
    monkeypatch.chdir(repository)
    assert main(["diff", "all", "readout", "--all"]) == 0
    printed = capsys.readouterr().out
    theirs, near = listed_by_dvc(repository, "all", "readout")
    values = {(file, key) for file, key in theirs if key != "evidence_id"}
    assert (MCS, "rows") in values and (STATS, "models.tiny.mcs.mean") in values and len(values) > 10
    assert near < values and listed_by_us(printed) == values - near
    assert f"{len(near)} within the tolerance" in printed and f"so not listed: {len(near)} number" in printed
    assert "Evidence ids differ in 2 of 2 files" in printed and len(theirs - values) == 2
    assert re.search(r"^\| `rows` \| all \| readout \|  \|$", printed, re.MULTILINE)
    main(["diff", "all", "readout", "--all"])
    assert capsys.readouterr().out == printed


def test_one_revision_is_held_against_the_working_tree(repository, monkeypatch, capsys):
    monkeypatch.chdir(repository / "metrics")  # any folder of the repository will do
    decision = repository / "metrics" / "embedded" / "decision.json"
    write_json(decision, {"decision": "NEED_MORE_DATA"})
    try:
        assert main(["diff", "readout"]) == 0
    finally:
        decision.unlink()
    printed = capsys.readouterr().out
    assert printed.startswith("# Metrics: `readout` → `working tree`") and "Values: 0 changed, 1 newly" in printed
    assert "| `metrics/embedded/decision.json: decision` | undefined | NEED_MORE_DATA |" in printed


def test_two_names_of_one_commit(repository, monkeypatch, capsys):
    monkeypatch.chdir(repository)
    assert main(["diff", "readout", "HEAD"]) == 0
    assert "nothing differs" in capsys.readouterr().out


def test_a_file_that_cannot_be_read_is_named(repository, monkeypatch, capsys):
    monkeypatch.chdir(repository)
    whole = (repository / STATS).read_bytes()
    (repository / STATS).write_text('{"models": ')
    try:
        assert main(["diff", "readout"]) == 0
    finally:
        (repository / STATS).write_bytes(whole)
    printed = capsys.readouterr().out
    assert f"Could not be read, so not compared: `{STATS} in working tree`." in printed
    assert "0 no longer defined" in printed and "removed" not in printed  # nothing is known of what it holds


@pytest.mark.parametrize("broken", ["stages: [", "stages: {a: {command: none}}", 'stages: {a: {cmd: "${b}"}}'])
def test_of_a_revision_that_dvc_cannot_read_nothing_is_said_to_be_gone(repository, monkeypatch, capsys, broken):
    monkeypatch.chdir(repository)
    whole = (repository / "dvc.yaml").read_text()
    (repository / "dvc.yaml").write_text(broken)
    try:
        assert main(["diff", "readout"]) == 1
    finally:
        (repository / "dvc.yaml").write_text(whole)
    out, error = capsys.readouterr()
    assert out == "" and "error: working tree: " in error and "dvc.yaml" in error and "what to do:" in error


def test_two_revisions_without_metrics_are_no_comparison(repository, monkeypatch, capsys):
    monkeypatch.chdir(repository)
    git(repository, "checkout", "-q", "--orphan", "empty")
    try:
        git(repository, "rm", "-rqf", "metrics")
        (repository / "note.txt").write_text("nothing is measured yet")
        git(repository, "add", "-A")
        git(repository, "commit", "-q", "-m", "no metrics")
        assert main(["diff", "empty"]) == 1
        assert "no metrics to compare in empty and working tree" in capsys.readouterr().err
        assert main(["diff", "empty", "readout"]) == 0  # what one of them has was added
        assert "newly defined" in capsys.readouterr().out
    finally:
        git(repository, "checkout", "-q", "readout")


def test_no_tree_stands_for_a_commit(repository, monkeypatch, capsys):
    monkeypatch.chdir(repository)
    assert main(["diff", git(repository, "rev-parse", "HEAD^{tree}")]) == 1
    assert "is no revision of this repository" in capsys.readouterr().err


def test_what_a_user_gets_wrong_is_said(repository, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(repository)
    assert main(["diff", "al"]) == 1
    assert "'al' is no revision of this repository" in (error := capsys.readouterr().err) and "git fetch" in error
    monkeypatch.chdir(tmp_path)
    assert main(["diff", "main"]) == 1
    assert "lies in no repository" in (error := capsys.readouterr().err) and "dvc init" in error
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "dvc.yaml").write_text("metrics: [a.json]\n")
    assert main(["diff", "main"]) == 1
    assert "git repository" in (error := capsys.readouterr().err) and "Traceback" not in error
