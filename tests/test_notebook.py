"""The notebook runs from top to bottom, prints its own numbers, and is kept without outputs."""

import json
import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT

FILE = ROOT / "notebooks" / "clip_diagnostic.ipynb"
NOTEBOOK = json.loads(FILE.read_text("utf-8"))


def sources(kind):
    return ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == kind]


def test_it_is_nbformat_4_without_outputs():
    assert NOTEBOOK["nbformat"] == 4 and NOTEBOOK["nbformat_minor"] >= 5  # cells have ids from 4.5 on
    assert {"metadata", "cells"} <= NOTEBOOK.keys() and NOTEBOOK["metadata"]["kernelspec"]["language"] == "python"
    ids = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[\w-]{1,64}", name) for name in ids)
    for cell in NOTEBOOK["cells"]:
        assert cell["cell_type"] in ("markdown", "code") and isinstance(cell["source"], list)
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None


def test_no_result_is_typed_into_its_text():
    """Decimals in the text are the reported thresholds, the points of reference and the version of Python."""
    numbers = set(re.findall(r"\d+\.\d+", "\n".join(sources("markdown"))))
    assert numbers <= {"0.3", "0.7", "0.5", "3.11"}


def test_one_cell_is_changed_for_another_model():
    cells = sources("code")
    assert [cell.startswith("MODEL = ") for cell in cells].count(True) == 1
    assert "google.colab" in cells[0] and not any(line.startswith(("!", "%")) for c in cells for line in c.splitlines())


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(tmp_path):
    """All code cells in order, in one fresh interpreter that starts in the notebook's folder, without a network."""
    script = tmp_path / "notebook.py"
    script.write_text("\n\n".join(sources("code")), "utf-8")
    offline = {
        "MPLBACKEND": "Agg",
        "HF_HUB_OFFLINE": "1",
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }
    done = subprocess.run(
        [sys.executable, script], cwd=FILE.parent, env=os.environ | offline | {"TMPDIR": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    printed = done.stdout
    assert "40 images, 200 pairs, 0 skipped" in printed
    assert re.search(r"^MCS +0\.\d{4} +95% CI \[0\.\d{4}, 0\.\d{4}\]$", printed, re.MULTILINE)
    assert re.search(r"^its null: uniform attention +0\.\d{3}", printed, re.MULTILINE)
    assert re.search(r"^reliance on the image +\d\.\d{3}", printed, re.MULTILINE)
    assert re.search(r"^image's share of the score \(Shapley\) +0\.\d{3}", printed, re.MULTILINE)
    assert re.search(r"^Its interval lies above the null's in \d+ of 4 layers", printed, re.MULTILINE)
    assert "\nmay be said\n  - " in printed and "\nmay not be said\n  - " in printed
    assert "decisions fail without it" in printed
    assert list(tmp_path.rglob("layers.png"))
