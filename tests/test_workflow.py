"""The workflow for GitHub: its commands exist, and it may do no more than it needs."""

import argparse
import re

import pytest
import yaml
from conftest import ROOT

from attention_collapse.cli import _parser

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


def test_every_gate_is_there():
    assert [words[0] for words in COMMANDS] == ["diff", "status", "evidence", "verify", "check"]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_command_line_knows_the_command(words):
    parser = _parser()
    while words and (known := subcommands(parser)):
        assert words[0] in known, f"attention-collapse has no command {words[0]}: {', '.join(known)}"
        parser, words = known[words[0]], words[1:]
    for option in (word for word in words if word.startswith("--")):
        assert option in parser._option_string_actions


def test_it_installs_what_is_pinned_and_needs_the_history():
    checkout = STEPS["reproduce"][0]
    assert "pip install -r requirements.txt" in RUNS
    assert checkout["with"]["fetch-depth"] == 0 and checkout["with"]["persist-credentials"] is False


def test_it_may_do_no_more_than_it_needs():
    whole = yaml.safe_load(TEXT)
    assert whole["permissions"] == {} and "secrets." not in TEXT
    assert "pull_request" in whole[True] and "pull_request_target" not in TEXT  # YAML 1.1 reads the key `on` as true
    assert JOBS["reproduce"]["permissions"] == {"contents": "read"}
    assert JOBS["comment"]["permissions"] == {"pull-requests": "write"}
    # The job that may write runs none of the pull request's code, and none for forks.
    assert not any("checkout" in step.get("uses", "") or "attention-collapse" in str(step) for step in STEPS["comment"])
    assert "head.repo.full_name == github.repository" in JOBS["comment"]["if"]


def test_what_others_write_never_becomes_shell():
    assert not any("${{" in run for run in RUNS)


def test_actions_are_pinned():
    used = [step["uses"] for steps in STEPS.values() for step in steps if "uses" in step]
    assert used and all(re.fullmatch(r"actions/[\w-]+@(v\d+|[0-9a-f]{40})", name) for name in used)
