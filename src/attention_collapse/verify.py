"""Does the pipeline still produce what is committed? Re-run in a scratch copy, then compare number by number."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attention_collapse.errors import PipelineError
from attention_collapse.files import read_json
from attention_collapse.params import load_params

ABSENT = object()

# All of the embedded study but the training. null_reference alone: every study's tables stand downstream of it.
TARGETS = (
    ("--single-item", "null_reference"),
    # One by one, since what follows from the verdict on measures are reports of other studies too.
    ("--single-item", "measure_planted"),
    ("--single-item", "validity"),
    ("--downstream", "fetch_coco"),
)


@dataclass(frozen=True)
class Difference:
    """One scalar of a metrics file: as committed and as recomputed."""

    file: str
    key: str
    committed: Any
    recomputed: Any
    agrees: bool


def _scalars(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _scalars(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _scalars(item, f"{key}[{index}]")
    else:
        yield key, value


def _agree(committed: Any, recomputed: Any, rtol: float, atol: float) -> bool:
    numbers = [isinstance(value, int | float) and not isinstance(value, bool) for value in (committed, recomputed)]
    if all(numbers):
        return math.isclose(committed, recomputed, rel_tol=0, abs_tol=atol + rtol * abs(committed))
    return type(committed) is type(recomputed) and bool(committed == recomputed)


def compare(
    committed: Path, recomputed: Path, *, rtol: float, atol: float, patterns: Sequence[str] = ("**/*.json",)
) -> list[Difference]:
    """Every scalar of every JSON file that matches below two folders; what is on one side only is a mismatch.

    Numbers agree if |committed − recomputed| ≤ atol + rtol · |committed|; anything else must be equal.
    """
    files = {
        path.relative_to(root).as_posix()
        for root in (committed, recomputed)
        for pattern in patterns
        for path in root.glob(pattern)
    }
    if not files:
        raise PipelineError(
            f"{committed}: no metrics", expected="committed *.json files", remedy="run `dvc repro` and commit metrics/"
        )
    rows = []
    for file in sorted(files):
        sides = [
            dict(_scalars(read_json(root / file))) if (root / file).is_file() else {}
            for root in (committed, recomputed)
        ]
        for key in sorted(sides[0].keys() | sides[1].keys()):
            a, b = (side.get(key, ABSENT) for side in sides)
            agrees = a is not ABSENT and b is not ABSENT and _agree(a, b, rtol, atol)
            rows.append(Difference(file, key, a, b, agrees))
    return rows


def _shown(value: Any) -> str:
    return "absent" if value is ABSENT else "null" if value is None else str(value)


def as_table(rows: list[Difference]) -> str:
    """One line a number: committed, recomputed, difference."""
    lines = []
    for row in rows:
        both = [
            isinstance(value, int | float) and not isinstance(value, bool) for value in (row.committed, row.recomputed)
        ]
        gap = f"{row.recomputed - row.committed:+.2g}" if all(both) else ""
        flag = "" if row.agrees else "  MISMATCH"
        lines.append(
            f"{row.file}:{row.key:<60} {_shown(row.committed):>14} {_shown(row.recomputed):>14} {gap:>9}{flag}"
        )
    return "\n".join(lines)


def copy_tracked(root: Path, scratch: Path) -> None:
    """The files git tracks, as they stand in the working tree (plus the checkpoint data DVC tracks as committed)."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=False)
    if listing.returncode != 0:
        raise PipelineError(
            f"{root}: {listing.stderr.decode().strip()}", expected="a git checkout", remedy="run from a clone"
        )
    for name in listing.stdout.decode().split("\0"):
        if name and (root / name).is_file():
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, scratch / name)


def rerun(scratch: Path) -> None:
    """`dvc repro`, forced, of all but the training, in a copy without git and without a cache."""
    (scratch / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n", "utf-8")
    # The copy's own source must run, not the installed one.
    environment = os.environ | {"PYTHONPATH": str(scratch / "src")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    for target in TARGETS:
        command = [sys.executable, "-m", "dvc", "repro", "--force", *target]
        if subprocess.run(command, cwd=scratch, env=environment, check=False).returncode != 0:
            raise PipelineError(
                f"`dvc repro {' '.join(target)}` failed in the scratch copy",
                expected="every stage to run",
                remedy="read the stage's own message above",
            )


def verify(root: Path = Path()) -> tuple[list[Difference], bool]:
    """Re-run the embedded study in a scratch copy; (every scalar compared, all agree).

    The committed checkpoint is pinned data and is not trained anew, so its training metrics are not compared.
    """
    params = load_params(root / "params.yaml")
    recomputed = (
        f"metrics/{params.study}/**/*.json",
        "metrics/null_reference.json",
        f"data/{params.study}/manifest.json",
    )
    with tempfile.TemporaryDirectory(prefix="attention-collapse-verify-") as folder:
        scratch = Path(folder)
        copy_tracked(root, scratch)
        for pattern in recomputed:  # what stays behind would be compared with itself
            for file in scratch.glob(pattern):
                file.unlink()
        rerun(scratch)
        rows = compare(root, scratch, rtol=params.verify.rtol, atol=params.verify.atol, patterns=recomputed)
    return rows, all(row.agrees for row in rows)
