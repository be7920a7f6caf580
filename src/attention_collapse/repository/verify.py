"""Does the pipeline still produce what is committed? Re-run in a scratch copy, then compare value by value.

The copy holds no result. Each stage computes its own, is compared with the committed one, and where they agree the
committed one stands in the copy too: so a difference shows at the stage that made it, and everything that follows from
equal numbers must be equal to the byte.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attention_collapse.errors import PipelineError
from attention_collapse.identity.settle import ABSENT, LOG, STANDING, Value, csv_values, json_values

# All of the embedded study but the training. null_reference alone: every study's tables stand downstream of it.
TARGETS = (
    ("--single-item", "code"),
    ("--single-item", "null_reference"),
    # One by one, since what follows from the verdict on measures are reports of other studies too.
    ("--single-item", "measure_planted"),
    ("--single-item", "validity"),
    ("--single-item", "doses"),
    ("--single-item", "prevention"),
    ("--single-item", "answers"),
    ("--downstream", "fetch_coco"),
)
PIXEL_TOLERANCE = 2  # of 255: other processors round the edges of shapes differently
SHOWN = 200  # mismatches at most


@dataclass
class Verification:
    """What was compared, and what does not agree.

    Attributes
    ----------
    values, files
        How many values were recomputed, and how many committed files there are of the stages that ran.
    largest
        (file, value) of the largest relative difference that counts as rounding.
    close
        Values that may differ because a comparison is too close to call, as "file: key".
    mismatches
        (file, value) of everything beyond the tolerance.
    """

    values: int = 0
    files: int = 0
    largest: tuple[str, Value] | None = None
    close: list[str] = field(default_factory=list)
    mismatches: list[tuple[str, Value]] = field(default_factory=list)


def copy_tracked(root: Path, scratch: Path) -> None:
    """The files git tracks, as they stand in the working tree (plus the checkpoint data DVC tracks as committed)."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=False)
    if listing.returncode != 0:
        raise PipelineError(
            f"{root}: {listing.stderr.decode().strip()}", expected="a git checkout", remedy="run from a clone"
        )
    names = [name for name in listing.stdout.decode().split("\0") if name and (root / name).is_file()]
    if not names:
        raise PipelineError(
            f"{root.absolute()}: git tracks no file here", expected="a clone with its files", remedy="run from a clone"
        )
    for name in names:
        (scratch / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / name, scratch / name)


def targets_outputs(root: Path) -> list[Path]:
    """Files and folders, relative to the root, that the stages of `TARGETS` write and git holds."""
    from dvc.repo import Repo

    found: set[str] = set()
    with chdir(root), Repo() as repo:
        for flag, target in TARGETS:
            todo, ran = list(repo.stage.collect(target)), set[Any]()
            while todo:
                stage = todo.pop()
                ran.add(stage)
                if flag == "--downstream":  # DVC's edges lead from a stage to what it needs
                    todo += [other for other in repo.index.graph.predecessors(stage) if other not in ran]
            found |= {
                Path(out.fs_path).relative_to(repo.root_dir).as_posix()
                for stage in ran
                for out in stage.outs
                if not out.use_cache
            }
    return [Path(name) for name in sorted(found)]


def _files(root: Path, outputs: Iterable[Path]) -> set[str]:
    """Every file of some outputs that are there."""
    return {
        file.relative_to(root).as_posix()
        for path in outputs
        for file in ([root / path] if (root / path).is_file() else (root / path).rglob("*"))
        if file.is_file()
    }


def rerun(scratch: Path, root: Path, log: Path) -> None:
    """`dvc repro`, forced, of all but the training, in a copy without git, without a cache and without results."""
    (scratch / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n", "utf-8")
    # The copy's own source must run, not the installed one.
    environment = os.environ | {"PYTHONPATH": str(scratch / "src"), STANDING: str(root.resolve()), LOG: str(log)}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    for target in TARGETS:
        command = [sys.executable, "-m", "dvc", "repro", "--force", *target]
        if subprocess.run(command, cwd=scratch, env=environment, check=False).returncode != 0:
            raise PipelineError(
                f"`dvc repro {' '.join(target)}` failed in the scratch copy",
                expected="every stage to run",
                remedy="read the stage's own message above",
            )


def _lines(old: str, new: str) -> Iterator[Value]:
    one, two = old.splitlines(), new.splitlines()
    for index in range(max(len(one), len(two))):
        pair = [lines[index] if index < len(lines) else ABSENT for lines in (one, two)]
        if pair[0] != pair[1]:
            yield Value(f"line {index + 1}", pair[0], pair[1])


def _pixels_agree(old: bytes, new: bytes) -> bool:
    import numpy as np
    from PIL import Image

    one, two = (np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"), np.int16) for data in (old, new))
    return one.shape == two.shape and int(np.abs(one - two).max(initial=0)) <= PIXEL_TOLERANCE


def differences(name: str, old: bytes, new: bytes) -> list[Value]:
    """What differs between a committed file and the recomputed one; nothing if they say the same.

    Numbers that agree have the same bytes by now. A picture may differ by what no eye sees; a PDF is drawn with its
    picture and is compared through that.
    """
    if old == new or old.replace(b"\r\n", b"\n") == new:
        return []
    suffix = Path(name).suffix
    if suffix == ".pdf" or (suffix == ".png" and _pixels_agree(old, new)):
        return []
    try:
        texts = old.decode("utf-8").replace("\r\n", "\n"), new.decode("utf-8")
        if suffix == ".json":
            return [value for value in json_values(*texts) if not value.agrees]
        if suffix == ".csv":
            return [value for value in csv_values(*texts) if not value.agrees]
        return list(_lines(*texts))
    except ValueError:  # not text, or JSON no more
        return [Value("bytes", f"{len(old)} bytes", f"{len(new)} other bytes")]


def compare(root: Path, scratch: Path, outputs: Iterable[Path], log: Path) -> Verification:
    """Every file of some outputs in the root and in the copy; what is on one side only is a mismatch.

    Raises
    ------
    PipelineError
        If there is nothing to compare.
    """
    outputs, found = list(outputs), Verification()
    names = [_files(folder, outputs) for folder in (root, scratch)]
    if not names[0] | names[1] or not log.is_file():
        raise PipelineError(
            f"{root}: no results", expected="committed metrics, tables and reports", remedy="run `dvc repro` and commit"
        )
    for line in log.read_text("utf-8").splitlines():
        entry = json.loads(line)
        found.values += entry["values"]
        found.close += [f"{entry['file']}: {key}" for key in entry["too_close_to_call"]]
        largest = Value(**entry["largest"]) if entry["largest"] else None
        if largest and largest.agrees and (not found.largest or largest.relative > found.largest[1].relative):
            found.largest = entry["file"], largest
    for name in sorted(names[0] | names[1]):
        found.files += 1
        sides = [(folder / name).read_bytes() if name in some else None for folder, some in zip((root, scratch), names)]  # noqa: B905
        if sides[0] is None or sides[1] is None:
            shown = [ABSENT if side is None else f"{len(side)} bytes" for side in sides]
            found.mismatches.append((name, Value("file", shown[0], shown[1])))
        else:
            found.mismatches += [(name, value) for value in differences(name, sides[0], sides[1])]
    return found


def verify(root: Path = Path()) -> Verification:
    """Re-run the embedded study in a scratch copy and compare everything that git holds of it.

    The committed checkpoints are pinned data and are not trained anew, so the metrics of training are not compared.
    """
    outputs = targets_outputs(root)
    with tempfile.TemporaryDirectory(prefix="attention-collapse-verify-") as folder:
        scratch, log = Path(folder) / "copy", Path(folder) / "settled.jsonl"
        scratch.mkdir()
        copy_tracked(root, scratch)
        for path in outputs:  # what stays behind would be compared with itself
            file = scratch / path
            shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)
        rerun(scratch, root, log)
        return compare(root, scratch, outputs, log)


def verification_text(found: Verification) -> str:
    """What `verify` found, for a person: the largest difference that is rounding, and every one that is not."""
    lines = [f"{found.values:,} values recomputed, {found.files} committed files compared"]
    if found.largest is None or not found.largest[1].relative:
        lines.append("no number differs within the tolerance: all that agree are equal")
    else:
        file, value = found.largest
        lines.append(
            f"largest difference within the tolerance: {value.relative:.2g} of the value or its column, in {file}: "
            f"{value.key} ({value.old} committed, {value.new} recomputed)"
        )
    if found.close:
        lines.append(f"too close to call on this processor: {', '.join(found.close[:10])}")
    lines += [
        f"MISMATCH {file}: {value.key}: {value.old} committed, {value.new} recomputed"
        for file, value in found.mismatches[:SHOWN]
    ]
    if len(found.mismatches) > SHOWN:
        lines.append(f"… and {len(found.mismatches) - SHOWN} more")
    lines.append(f"{len(found.mismatches)} differ beyond the tolerance")
    return "\n".join(lines)
