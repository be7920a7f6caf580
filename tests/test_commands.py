"""`./reproduce` and `./test`: they make `.venv` once, pass on what they are given, and say what is wrong."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

# Stands in for every Python: keeps a log of environments made and installations, and prints what it is to run.
PYTHON = f"""#!/usr/bin/env bash
case "$1 $2" in
  "-c import sys;"* | "-c import fcntl;"*) exec "{sys.executable}" "$@" ;;
  "-c import pip"*) ;;
  "-c import ensurepip"*) exit "${{NO_VENV:-0}}" ;;
  "-m venv") echo venv >>"$LOG"; rm -rf "$4"; mkdir -p "$4/bin"; cp "$0" "$4/bin/python" ;;
  "-m pip") echo pip >>"$LOG"; sleep "${{PIP_TAKES:-0}}"; exit "${{PIP_FAILS:-0}}" ;;
  *) pwd; printf '[%s]' "$(dirname "$0")" "$@"; exit "${{FAILS:-0}}" ;;
esac
"""


def executable(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


class Checkout:
    """A folder with the two commands, and a machine whose only Python is the stand-in."""

    def __init__(self, folder):
        self.root, self.bin, self.log = folder / "a check out", folder / "bin", folder / "log"
        for name in ("reproduce", "test", "scripts/environment"):
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.root / name)
        (self.root / "requirements-explore.txt").write_text("gradio==1")
        self.require("torch==1")
        executable(self.bin / "python3.11", PYTHON)
        for tool in (
            "bash",
            "cat",
            "cp",
            "cut",
            "dirname",
            "env",
            "mkdir",
            "mv",
            "readlink",
            "rm",
            "sha256sum",
            "sleep",
        ):
            (self.bin / tool).symlink_to(shutil.which(tool))
        self.environment = {"PATH": str(self.bin), "LOG": str(self.log)}

    def require(self, text):
        (self.root / "requirements.txt").write_text(text)

    def start(self, command, *arguments, cwd=None, **environment):
        return subprocess.Popen(
            [command if os.sep in str(command) else self.root / command, *arguments],
            cwd=cwd or self.root, env=self.environment | environment, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, command, *arguments, **options):
        process = self.start(command, *arguments, **options)
        process.out, process.err = process.communicate(timeout=60)
        return process

    def did(self):
        """What the stand-in was asked to do since the last call: environments made, installations."""
        words = self.log.read_text().split() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return words


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


@pytest.mark.parametrize("command, runs", [("reproduce", "[-m][dvc][repro]"), ("test", "[-m][pytest][-n][2]")])
def test_the_first_run_makes_the_environment_and_the_second_needs_nothing(checkout, command, runs):
    first = checkout.run(command)
    assert first.returncode == 0 and first.out == f"{checkout.root}\n[{checkout.root}/.venv/bin]{runs}"
    assert f"making {checkout.root}/.venv" in first.err and checkout.did() == ["venv", "pip", "pip"]
    (checkout.bin / "python3.11").unlink()
    second = checkout.run(command)
    assert second.returncode == 0 and second.out == first.out and checkout.did() == []
    assert second.err == f"in .venv: python {runs[1:-1].replace('][', ' ')}\n"


def test_arguments_arrive_as_they_were_given(checkout):
    done = checkout.run("test", "-m", "slow and not gpu", "", "*")
    assert done.out.endswith("[-m][pytest][-n][2][-m][slow and not gpu][][*]")
    assert checkout.run("reproduce", "-f", "a stage").out.endswith("[-m][dvc][repro][-f][a stage]")


def test_it_runs_at_the_top_of_the_checkout_from_any_folder_and_through_a_link(checkout, tmp_path):
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    (elsewhere / "again").symlink_to(checkout.root / "test")
    (elsewhere / "helper").symlink_to(checkout.root / "scripts" / "environment")
    (elsewhere / "linked").symlink_to(checkout.root)
    for command in (checkout.root / "test", elsewhere / "again", "./again", "linked/test"):
        assert checkout.run(command, cwd=elsewhere).out.startswith(f"{checkout.root}\n[{checkout.root}/.venv/bin]")
    assert checkout.run("./helper", "python", "x y", cwd=elsewhere).out.endswith("bin][x y]")
    assert checkout.did() == ["venv", "pip", "pip"]


def test_the_commands_exit_status_is_its_own(checkout):
    assert checkout.run("test", FAILS="5").returncode == 5


def test_changed_requirements_are_installed_into_what_is_there(checkout):
    checkout.run("test")
    checkout.did()
    (checkout.root / ".venv" / "own").touch()
    checkout.require("torch==2")
    assert "is not what" in checkout.run("test").err and checkout.did() == ["pip", "pip"]
    assert (checkout.root / ".venv" / "own").exists()
    checkout.run("test")
    assert checkout.did() == []


def test_a_failed_installation_stops_it_and_is_begun_anew(checkout):
    done = checkout.run("test", PIP_FAILS="1")
    assert done.returncode == 1 and done.out == ""
    assert [line.split(":")[0].strip() for line in done.err.splitlines()[1:]] == ["error", "expected", "what to do"]
    checkout.did()
    assert checkout.run("test").returncode == 0 and checkout.did() == ["venv", "pip", "pip"]
    checkout.require("torch==2")
    checkout.run("test", PIP_FAILS="1")
    checkout.require("torch==1")
    checkout.did()
    assert checkout.run("test").returncode == 0 and checkout.did() == ["venv", "pip", "pip"]


def wait_for(checkout, word):
    end = time.monotonic() + 30
    while not (checkout.log.exists() and word in checkout.log.read_text()):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_an_interrupted_installation_is_not_taken_for_a_finished_one(checkout):
    process = checkout.start("test", PIP_TAKES="30")
    wait_for(checkout, "pip")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    checkout.did()
    assert checkout.run("test").returncode == 0 and checkout.did() == ["venv", "pip", "pip"]


def test_of_two_at_once_one_makes_the_environment(checkout):
    first = checkout.start("reproduce", PIP_TAKES="0.5")
    wait_for(checkout, "pip")
    second = checkout.run("test")
    first.communicate()
    assert first.returncode == second.returncode == 0 and checkout.did() == ["venv", "pip", "pip"]


def test_a_moved_checkout_gets_an_environment_of_its_own(checkout, tmp_path):
    checkout.run("test")
    checkout.did()
    checkout.root = checkout.root.rename(tmp_path / "moved")
    assert checkout.run("test").returncode == 0 and checkout.did() == ["venv", "pip", "pip"]


def test_an_environment_without_a_stamp_is_completed(checkout):
    executable(checkout.root / ".venv" / "bin" / "python", PYTHON)
    assert checkout.run("test").returncode == 0 and checkout.did() == ["pip", "pip"]


def test_another_active_environment_is_named_and_not_used(checkout, tmp_path):
    done = checkout.run("test", VIRTUAL_ENV=str(tmp_path))
    assert f"{tmp_path} is active, but .venv is used" in done.err and f"[{checkout.root}/.venv/bin]" in done.out
    assert "is active" not in checkout.run("test", VIRTUAL_ENV=str(checkout.root / ".venv")).err


OLD = f"""#!/usr/bin/env bash
exec "{sys.executable}" -c "import sys; sys.version, sys.version_info = '3.10.2 (old)', (3, 10, 2); $2"
"""


@pytest.mark.parametrize("name, text, said", [
    ("python3", OLD, "python3 is 3.10.2, which is not enough"),
    ("python3.11", "#!/usr/bin/env bash\nexit 127\n", "python3.11 is broken, which is not enough"),
    (None, None, "there is no Python in PATH"),
])  # fmt: skip
def test_without_a_recent_python_it_says_so(checkout, name, text, said):
    (checkout.bin / "python3.11").unlink()
    if name:
        executable(checkout.bin / name, text)
    done = checkout.run("test")
    error, expected, remedy = done.err.splitlines()
    assert done.returncode == 1 and not (checkout.root / ".venv").exists()
    assert error.startswith(f"error: {said}") and "expected: Python 3.11" in expected and "python3.11-venv" in remedy


def test_an_old_python_is_passed_over_for_a_recent_one(checkout):
    executable(checkout.bin / "python3", PYTHON)
    executable(checkout.bin / "python3.11", OLD)
    assert checkout.run("test").returncode == 0 and checkout.did() == ["venv", "pip", "pip"]


def test_without_the_module_venv_it_says_so(checkout):
    done = checkout.run("test", NO_VENV="1")
    error, expected, remedy = done.err.splitlines()
    assert done.returncode == 1 and "no module venv" in error and "expected" in expected and "python3-venv" in remedy


def test_the_readme_names_them_and_they_can_be_run():
    readme = (ROOT / "README.md").read_text("utf-8")
    assert "\n./reproduce " in readme and "\n./test " in readme
    assert all(os.access(ROOT / name, os.X_OK) for name in ("reproduce", "test", "scripts/environment", ".ci/run"))


def test_what_pip_did_not_compile_is_compiled_once(checkout):
    checkout.run("test")
    executable(checkout.root / ".venv" / "bin" / "python", "#!/usr/bin/env bash\nenv\n")
    assert "PYTHONDONTWRITEBYTECODE" not in checkout.run("test", PYTHONDONTWRITEBYTECODE="1").out
