"""What two git revisions differ in, read through DVC and told as Markdown."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

from attention_collapse.errors import ParamsError, PipelineError
from attention_collapse.explain import explain, explained
from attention_collapse.identity.tolerance import ATOL, RTOL
from attention_collapse.report.difference import LIMIT, difference_text

WORKING_TREE = "workspace"  # DVC's word


def difference(old: str, new: str | None = None, root: Path = Path(), *, limit: int | None = LIMIT) -> str:
    """Markdown of the metrics and decisions that differ between two revisions.

    Parameters
    ----------
    old, new
        Git revisions: branch, tag, commit, `HEAD~1` …; no `new` is the working tree.
    root
        A folder of the repository.
    limit
        Rows in all; None lists everything.

    Raises
    ------
    ParamsError
        If a revision is unknown.
    PipelineError
        If `root` is not in a git repository with DVC, if DVC cannot read a revision, or if neither has metrics.
    """
    from dvc.repo import Repo

    with explained(), _silent_dvc(), chdir(root), Repo() as repo:
        revisions = [_resolve(repo.scm, old), WORKING_TREE if new is None else _resolve(repo.scm, new)]
        if revisions[0] == revisions[1]:
            return f"# Metrics: `{old}` → `{new}`\n\nBoth are commit {revisions[0][:10]}: nothing differs.\n"
        # The function behind `dvc metrics diff --json --all`.
        found: dict[str, Any] = repo.metrics.diff(*revisions, all=True)
        names = dict(zip(revisions, (old, new or "working tree"), strict=True))
        unread = _unread(found, names)
    metrics = {file: values for file, values in found.get("diff", {}).items() if file not in unread}
    listed = [f"{file} in {where}" for file, places in unread.items() for where in places]
    if not any(metrics.values()):
        raise PipelineError(
            f"no metrics to compare in {names[revisions[0]]} and {names[revisions[1]]}"
            + (f" (cannot be read: {', '.join(listed)})" if listed else ""),
            expected="metrics files of a dvc.yaml in one of the two",
            remedy="name another revision, or run `dvc repro` and commit dvc.yaml and metrics/",
        )
    first, second = (names[revision] for revision in revisions)
    return difference_text(metrics, first, second, limit=limit, unread=listed, rtol=RTOL, atol=ATOL)


@contextmanager
def _silent_dvc() -> Iterator[None]:
    """Keep DVC from warning of what cannot be read: it is said here."""
    logger = logging.getLogger("dvc")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _resolve(scm: Any, revision: str) -> str:
    from dvc.scm import RevError, resolve_rev

    try:
        return str(resolve_rev(scm, f"{revision}^{{commit}}"))  # no tag, tree or file may stand for a commit
    except RevError:
        raise ParamsError(
            f"{revision!r} is no revision of this repository",
            expected="a branch, tag or commit, such as main, origin/main or HEAD~1",
            remedy="see `git branch --all`; `git fetch origin` gets what the remote has",
        ) from None


def _unread(found: dict[str, Any], names: dict[str, str]) -> dict[str, list[str]]:
    """File -> where it is there but cannot be read; an absent file is one that a revision added or removed.

    An error about a whole revision is raised: of nothing in it may be said that it is gone.
    """
    unread: dict[str, list[str]] = {}
    for revision, errors in found.get("errors", {}).items():
        if isinstance(errors, Exception):
            told = explain(errors)
            if told is None:
                raise errors
            raise PipelineError(f"{names[revision]}: {told.got}", expected=told.expected, remedy=told.remedy)
        for file, error in errors.items():
            if not isinstance(error, FileNotFoundError):
                unread.setdefault(file, []).append(names[revision])
    return dict(sorted(unread.items()))
