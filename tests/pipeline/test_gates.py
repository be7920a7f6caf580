"""Whatever the folder and wherever the output goes: a readable answer, and no gate passes on nothing."""

import argparse
import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from attention_collapse.cli import RUN, main
from attention_collapse.errors import AttentionCollapseError, PipelineError
from attention_collapse.explain import explain, explained
from attention_collapse.options import command_parser
from attention_collapse.repository.root import find_root
from attention_collapse.repository.verify import copy_tracked

COMMANDS = [["status"], ["verify"], ["evidence", "check"], ["check"], ["diff", "HEAD"], ["track"], ["pipeline"]]
COMMANDS += [["plan", "embedded"]]
STUDY = "study: s\nparams_file: params.yaml\nmodels: {m: {kind: clip, weights: hub, repo: a/b}}\n"
COMMAND = [sys.executable, "-m", "attention_collapse.cli"]


def three_parts(capsys):
    """What stands on standard error, if it is an error in three parts."""
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "\n  expected: " in error and "\n  what to do: " in error, error
    return error


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A repository of one study that has not run; no git."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    (tmp_path / "params.yaml").write_text(STUDY)
    (tmp_path / "dvc.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The tracked files alone, as an archive holds them: no git, no cache."""
    folder = tmp_path_factory.mktemp("copy")
    copy_tracked(ROOT, folder)
    return folder


def test_the_root_is_found_from_any_folder_below_it(small):
    below = small / "studies" / "one"
    below.mkdir(parents=True)
    (below / "params.yaml").write_text(STUDY)  # a study's folder is no repository
    assert find_root(small) == find_root(below) == small
    (small / "params.yaml").unlink()
    assert find_root(below) == small  # what is missing there is said by who reads it
    (small / "dvc.yaml").unlink()
    with pytest.raises(PipelineError, match="lies in no repository"):
        find_root(below)


def test_a_folder_that_is_gone_is_said(tmp_path, monkeypatch, capsys):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert main(["check"]) == 1 and "folder has been removed" in three_parts(capsys)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_outside_a_repository_every_command_says_so(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    assert main(command) == 1
    assert f"{tmp_path} lies in no repository" in three_parts(capsys)


def test_every_command_that_can_be_written_is_run():
    actions = next(a for a in command_parser()._actions if isinstance(a, argparse._SubParsersAction))
    assert set(RUN) == set(actions.choices)


def test_every_command_but_those_for_a_users_own_model_and_data_works_on_a_repository():
    actions = next(a for a in command_parser()._actions if isinstance(a, argparse._SubParsersAction))
    elsewhere = {name for name, parser in actions.choices.items() if not parser.get_default("in_repository")}
    assert (
        elsewhere == {"diagnose", "explore", "information", "measures", "models", "pairs", "questions"}
        and {words[0] for words in COMMANDS} == set(actions.choices) - elsewhere
    )


@pytest.mark.parametrize(
    ("command", "passed"),
    [
        (["status"], "everything committed is current"),
        (["evidence", "check"], "citations in"),
        (["check"], "2 judged"),
    ],
)
def test_a_subfolder_and_a_copy_without_git_are_no_difference(copy, monkeypatch, capsys, command, passed):
    monkeypatch.chdir(copy / "metrics" / "embedded")
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert passed in printed and not re.search(r"\b0 citations", printed)
    assert Path().samefile(copy / "metrics" / "embedded")  # and the caller is still there


@pytest.mark.parametrize("command", [["diff", "HEAD"], ["verify"]], ids=" ".join)
def test_what_needs_git_says_so_in_a_copy_without(copy, monkeypatch, capsys, command):
    monkeypatch.chdir(copy)
    assert main(command) == 1 and "git" in three_parts(capsys)


def test_a_repository_without_commits(small, capsys):
    subprocess.run(["git", "init", "-q"], cwd=small, check=True)
    for revision in ("HEAD", "main"):
        assert main(["diff", revision]) == 1
        three_parts(capsys)


def test_a_status_of_no_stage_and_of_no_run_is_no_pass(small, capsys):
    assert main(["status"]) == 1 and "no stage to check" in three_parts(capsys)
    (small / "dvc.yaml").write_text("stages: {a: {cmd: 'true', outs: [b]}}\n")
    assert main(["status"]) == 1 and "no dvc.lock in ." in three_parts(capsys)


def test_nothing_to_mirror_is_no_success(small, capsys):
    assert main(["track"]) == 1 and "no result in metrics/ of s" in three_parts(capsys)


@pytest.mark.parametrize("content", ["{", "[1]", '{"evidence_id": "x"}', b"\xff\xfe"])
def test_metrics_that_are_none_are_named(small, capsys, content):
    file = small / "metrics" / "s" / "mcs" / "m.json"
    file.parent.mkdir(parents=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert main(["track"]) == 1 and "metrics/s/mcs/m.json" in three_parts(capsys)


@pytest.mark.parametrize(
    ("file", "content", "named"),
    [
        ("dvc.yaml", "stages: [", "dvc.yaml"),
        ("dvc.yaml", "stages: {a: {command: x}}", "extra keys not allowed"),
        ("dvc.yaml", "stages: {a: {foreach: '${none}', do: {cmd: x}}}", "Could not find 'none'"),
        ("params.yaml", "a: [", "params.yaml"),
        (".dvc/config", "[", "config file error"),
    ],
)
def test_a_broken_file_of_the_pipeline_is_named(small, capsys, file, content, named):
    (small / "dvc.yaml").write_text("stages: {a: {cmd: 'echo ${study}'}}\n")
    (small / file).write_text(content)
    assert main(["status"]) == 1
    assert named in three_parts(capsys)


def test_without_parameters_the_missing_file_is_named(small, capsys):
    (small / "dvc.yaml").write_text("stages: {a: {cmd: 'echo ${study}'}}\n")
    (small / "params.yaml").unlink()
    for command in ("status", "check", "track"):
        assert main([command]) == 1 and "params.yaml" in three_parts(capsys)


def test_a_lock_that_another_process_holds(small, monkeypatch, capsys):
    import dvc.lock
    import zc.lockfile

    monkeypatch.setattr(dvc.lock, "DEFAULT_TIMEOUT", 0)
    (small / ".dvc" / "tmp").mkdir()
    held = zc.lockfile.LockFile(str(small / ".dvc" / "tmp" / "lock"))
    try:
        assert main(["status"]) == 1 and "another DVC process" in three_parts(capsys)
    finally:
        held.close()


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written(small, monkeypatch, capsys, number):
    import zc.lockfile

    def refuse(path, *_):
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(zc.lockfile, "LockFile", refuse)
    assert main(["status"]) == 1
    assert f"{small / '.dvc' / 'tmp' / 'lock'}: {os.strerror(number)}" in three_parts(capsys)


def test_text_that_is_not_utf_8(small, capsys):
    (small / "paper").mkdir()
    (small / "paper" / "main.tex").write_bytes(b"\xff")
    assert main(["evidence", "check"]) == 1
    assert "paper/main.tex: not UTF-8" in capsys.readouterr().out
    told = explain(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"))  # where nobody looks for it
    assert told is not None and told.expected == "text in UTF-8"


def test_an_error_of_our_own_keeps_its_traceback():
    assert explain(KeyError("x")) is None and explain(TypeError("x")) is None
    with pytest.raises(ZeroDivisionError), explained():
        raise ZeroDivisionError
    with pytest.raises(BrokenPipeError), explained():  # its reader has closed the pipe: no mistake
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")
    with pytest.raises(AttentionCollapseError, match="said before"), explained():
        raise PipelineError("said before", expected="x", remedy="y")


def run(*arguments, **options):
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": ""} | options.pop("env", {})
    return subprocess.run(
        [*COMMAND, *arguments], env=environment, text=True, **({"stderr": subprocess.PIPE, "cwd": ROOT} | options)
    )


@pytest.mark.parametrize("unbuffered", [{}, {"PYTHONUNBUFFERED": "1"}], ids=["buffered", "unbuffered"])
def test_a_reader_that_has_gone_is_no_traceback_and_no_pass(unbuffered):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = run("evidence", "check", stdout=writing, env=unbuffered)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_an_output_that_cannot_be_written_is_said():
    with Path("/dev/full").open("w") as full:
        done = run("evidence", "check", stdout=full)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and "Traceback" not in done.stderr


def test_without_any_output_the_verdict_stands():
    code = "import os, sys; os.close(1); os.close(2); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    command = [sys.executable, "-c", code, *COMMAND[1:], "evidence", "check"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    assert subprocess.run(command, cwd=ROOT, env=environment).returncode == 0


def test_an_ascii_locale_gets_the_nearest_signs():
    plain = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = run("diagnose", "--help", stdout=subprocess.PIPE, env=plain)
    assert (done.returncode, done.stderr) == (0, "") and "cuda:1 ...," in done.stdout and done.stdout.isascii()
    text = r"a \u2192 b: \u22121 \u03a9 \udcff"
    code = f"from attention_collapse.streams import readable_streams\nwith readable_streams(): print('{text}')"
    for env, shown in (
        (plain, "a -> b: -1 \\u03a9 \\udcff\n"),
        ({"PYTHONIOENCODING": "utf-8"}, "a → b: −1 Ω \\udcff\n"),
    ):
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src")} | env
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
        assert done.stdout.decode("utf-8") == shown, done.stderr
