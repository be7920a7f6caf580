"""Is what is committed current? Asked of DVC without running anything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

from attention_collapse.errors import PipelineError
from attention_collapse.explain import explained

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

    Raises
    ------
    PipelineError
        No stage of the repository has run, or DVC cannot read it or lock it.
    """
    from dvc.repo import Repo, lock_repo

    # DVC names stages relative to the working folder. Hashes are compared, so git is not needed. It forgets the stages
    # when it gives its lock back: held throughout, they are read once.
    with explained(), chdir(root), Repo(config={"core": {"no_scm": True}}) as repo, lock_repo(repo):
        status = repo.status()
        cached = {
            str(Path(out.fs_path).relative_to(Path(repo.root_dir)))
            for stage in repo.index.stages
            for out in stage.outs
            if out.use_cache
        }
        files = {Path(stage.path).parent.relative_to(repo.root_dir): Path(stage.path) for stage in repo.index.stages}
    studies = {folder.as_posix(): file.with_name("dvc.lock").is_file() for folder, file in files.items()}
    absent = sorted(study for study, has_run in studies.items() if not has_run)
    if len(absent) == len(studies):
        raise PipelineError(
            f"no stage to check in {root.absolute()}"
            + (f": no dvc.lock in {', '.join(absent)}" if absent else ": no dvc.yaml has one"),
            expected="a dvc.yaml with stages, and the dvc.lock of their run",
            remedy="restore both (`git checkout -- dvc.yaml dvc.lock`), or run `dvc repro`",
        )
    problems = [
        f"{stage}: {name} is {state}"
        for stage, name, state in _findings(status)
        if not any(stage.startswith(f"{study}/") for study in absent) and not (state in ABSENT and name in cached)
    ]
    return problems, absent
