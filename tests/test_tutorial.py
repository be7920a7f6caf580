"""The tutorial does what it says: its blocks run in order, offline, and print what stands beneath them."""

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT

from attention_collapse.options import command_parser

PAGE = (ROOT / "docs" / "tutorial.md").read_text("utf-8")
BLOCKS = re.findall(r"(?ms)^```(python|text|bash)\n(.*?)^```$", PAGE)
END = "-- end of a block --"


def test_an_output_stands_beneath_the_block_that_prints_it():
    kinds = [kind for kind, _ in BLOCKS]
    assert kinds.count("python") >= 6
    for kind, (before, text) in zip(kinds[1:], BLOCKS, strict=False):
        assert (kind == "text") == (before == "python" and re.search(r"(?m)^ *(print|show)\(", text) is not None)


def test_its_last_command_is_one_of_the_command_line():
    [line] = [line for kind, text in BLOCKS for line in text.splitlines() if line.startswith("attention-collapse ")]
    command_parser().parse_args(line.split()[1:])


@pytest.mark.slow
def test_its_blocks_print_what_stands_beneath_them(tmp_path):
    """In one fresh interpreter, in a folder that has nothing of the repository but the small model's files."""
    (tmp_path / "data").symlink_to(ROOT / "data")
    program = "\n".join(text + f"print({END!r})" for kind, text in BLOCKS if kind == "python")
    offline = {"MPLBACKEND": "Agg", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=os.environ | offline, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    printed = [part.lstrip("\n") for part in done.stdout.split(END)][:-1]
    beneath = [following if kind == "text" else "" for kind, following in [*BLOCKS[1:], ("", "")]]
    expected = [after for (kind, _), after in zip(BLOCKS, beneath, strict=True) if kind == "python"]
    assert printed == expected
