"""How long `dvc repro` takes in a fresh clone, with nothing changed, and after typical edits; and what reruns.

    python tests/benchmarks/pipeline_times.py

Clones the committed state into a temporary folder. The packages must be installed; the clone's own source is run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def repro(clone: Path) -> tuple[float, list[str]]:
    """Seconds, and the stages that ran."""
    environment = os.environ | {"PYTHONPATH": str(clone / "src")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    start = time.perf_counter()
    done = subprocess.run(["dvc", "repro"], cwd=clone, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(done.stdout[-3000:] + done.stderr[-3000:])
    return seconds, re.findall(r"Running stage '([^']+)'", done.stdout)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text, f"{path}: {old!r} not found"
    path.write_text(text.replace(old, new, 1), "utf-8")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)

        def report(what: str) -> None:
            seconds, stages = repro(clone)
            print(f"{what:<38} {seconds:6.1f} s   ran: {', '.join(stages) or 'nothing'}", flush=True)

        report("fresh clone")
        changed = subprocess.run(
            ["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True, check=True
        )
        print(f"files that differ from the commit: {changed.stdout.split() or 'none'}")
        report("nothing changed")
        figures = clone / "src/attention_collapse/report/figures.py"
        edit(figures, '"""The figures of one model.', '"""Figures of one model.')
        report("a figure's code edited")
        edit(clone / "params.yaml", "seed: 2, control_for", "seed: 7, control_for")
        report("one model's parameter changed")
        edit(clone / "src/attention_collapse/engine/scores.py", '"""From the table', '"""From a table')
        report("a comment of a measure edited")


if __name__ == "__main__":
    main()
