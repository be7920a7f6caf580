"""The workflow for GitHub: its commands exist, and it may do no more than it needs."""

import argparse
import re

import pytest
import yaml
from conftest import ROOT

from attention_collapse.options import command_parser

TEXT = (ROOT / ".github" / "workflows" / "reproduce.yml").read_text("utf-8")
JOBS = yaml.safe_load(TEXT)["jobs"]
STEPS = {name: job["steps"] for name, job in JOBS.items()}
RUNS = [step["run"] for steps in STEPS.values() for step in steps if "run" in step]
COMMANDS = [
    match[1].split() for run in RUNS for match in re.finditer(r"^\s*attention-collapse ([^>|\n]*)", run, re.MULTILINE)
]


def subcommands(parser):
    """Name -> parser of the subcommands of a parser."""
    return {
        name: child
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for name, child in action.choices.items()
    }


def commands_of(job):
    """The lines its steps run, in their order."""
    return [line.strip() for step in STEPS[job] for line in step.get("run", "").splitlines()]


def test_every_gate_is_there():
    assert [words[0] for words in COMMANDS] == ["diff", "explore", "status", "evidence", "verify", "check", "verify"]
    lines = commands_of("reproduce")
    gates = ["ruff check .", "ruff format --check .", "mypy", "./test"]
    assert [line for line in lines if line in gates] == gates
    assert next(i for i, line in enumerate(lines) if line.startswith("attention-collapse diff")) < lines.index(gates[0])
    assert not any("continue-on-error" in str(job) or "|| true" in str(job) for job in JOBS.values())


def test_the_numbers_are_verified_under_an_older_instruction_set_too():
    job = JOBS["older-processor"]
    assert job["env"] == {
        "ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41",
    }  # fmt: skip
    assert commands_of("older-processor")[-1] == "attention-collapse verify" and "needs" not in job
    assert not any(name in str(JOBS["reproduce"]) for name in job["env"])


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_command_line_knows_the_command(words):
    parser = command_parser()
    while words and (known := subcommands(parser)):
        assert words[0] in known, f"attention-collapse has no command {words[0]}: {', '.join(known)}"
        parser, words = known[words[0]], words[1:]
    for option in (word for word in words if word.startswith("--")):
        assert option in parser._option_string_actions


def test_it_installs_what_is_pinned_and_needs_the_history():
    assert STEPS["reproduce"][0]["with"]["fetch-depth"] == 0
    for name in ("reproduce", "older-processor"):
        assert STEPS[name][0]["with"]["persist-credentials"] is False
        assert commands_of(name)[:2] == ["scripts/environment", 'echo "$PWD/.venv/bin" >> "$GITHUB_PATH"']
    assert (ROOT / "scripts" / "environment").is_file() and (ROOT / "test").is_file()


def test_the_dependencies_are_looked_over_by_pinned_tools_and_the_site_is_built():
    lines = "\n".join(commands_of("dependencies"))
    assert all(re.search(rf"{name}==\d", lines) for name in ("cyclonedx-bom", "pip-audit"))
    assert "python scripts/licences.py" in lines and "needs" not in JOBS["dependencies"]
    assert "scripts/site" in commands_of("reproduce")


def test_it_may_do_no_more_than_it_needs():
    whole = yaml.safe_load(TEXT)
    assert whole["permissions"] == {} and "secrets." not in TEXT
    assert "pull_request" in whole[True] and "pull_request_target" not in TEXT  # YAML 1.1 reads the key `on` as true
    assert {name: job["permissions"] for name, job in JOBS.items()} == {
        "reproduce": {"contents": "read"},
        "older-processor": {"contents": "read"},
        "dependencies": {"contents": "read"},
        "comment": {"pull-requests": "write"},
    }
    # The job that may write runs none of the pull request's code, and none for forks.
    assert not any("checkout" in step.get("uses", "") or "attention-collapse" in str(step) for step in STEPS["comment"])
    assert "head.repo.full_name == github.repository" in JOBS["comment"]["if"]


def test_what_others_write_never_becomes_shell():
    assert not any("${{" in run for run in RUNS)


def test_actions_are_pinned():
    used = [step["uses"] for steps in STEPS.values() for step in steps if "uses" in step]
    assert used and all(re.fullmatch(r"actions/[\w-]+@(v\d+|[0-9a-f]{40})", name) for name in used)
