"""Is what is committed current? Asked of DVC without running anything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

ABSENT = {"deleted", "not in cache"}


def _findings(status: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(stage, file or parameter, state) of each difference that DVC reports."""
    for stage, changes in status.items():
        for change in changes:
            if isinstance(change, str):  # "changed command"
                yield stage, change, "modified"
                continue
            for files in change.values():
                for name, state in files.items():
                    for parameter, deeper in state.items() if isinstance(state, dict) else [(name, state)]:
                        yield stage, parameter, deeper


def stale(root: Path = Path()) -> tuple[list[str], list[str]]:
    """What is out of date, and which studies have not run here.

    A cached file that is merely absent (a fresh clone has no attention tables) is no staleness: its hash is pinned
    and the stage that rebuilds it is known. A study without a lock file has never run; that is said, not counted.
    """
    from dvc.repo import Repo

    with chdir(root), Repo() as repo:  # DVC names stages relative to the working folder
        status = repo.status()
        cached = {
            str(Path(out.fs_path).relative_to(Path(repo.root_dir)))
            for stage in repo.index.stages
            for out in stage.outs
            if out.use_cache
        }
        absent = sorted(
            {
                Path(stage.path).parent.relative_to(repo.root_dir).as_posix()
                for stage in repo.index.stages
                if not Path(stage.path).with_name("dvc.lock").is_file()
            }
        )
    problems = [
        f"{stage}: {name} is {state}"
        for stage, name, state in _findings(status)
        if not any(stage.startswith(f"{study}/") for study in absent) and not (state in ABSENT and name in cached)
    ]
    return problems, absent
