"""What two git revisions differ in, read through DVC and told as Markdown."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path
from typing import Any

from attention_collapse.errors import ParamsError, PipelineError
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
        If `root` is not in a git repository with DVC.
    """
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo
    from dvc.scm import SCMError

    try:
        with chdir(root), Repo() as repo:
            revisions = [_resolve(repo.scm, old), WORKING_TREE if new is None else _resolve(repo.scm, new)]
            if revisions[0] == revisions[1]:
                return f"# Metrics: `{old}` → `{new}`\n\nBoth are commit {revisions[0][:10]}: nothing differs.\n"
            # The function behind `dvc metrics diff --json --all`.
            found: dict[str, Any] = repo.metrics.diff(*revisions, all=True)
    except NotDvcRepoError:
        raise PipelineError(
            f"{root.absolute()} is in no DVC repository",
            expected="a clone of a repository with a .dvc folder",
            remedy="run from a clone, or `git init && dvc init` first",
        ) from None
    except SCMError as error:
        raise PipelineError(
            f"{root.absolute()}: {str(error).splitlines()[0]}",
            expected="a git repository with commits",
            remedy="run from a clone made by `git clone`, with `core.no_scm` unset",
        ) from None
    names = dict(zip(revisions, (old, new or "working tree"), strict=True))
    return difference_text(
        found.get("diff", {}), names[revisions[0]], names[revisions[1]], limit=limit, unread=_unread(found, names)
    )


def _resolve(scm: Any, revision: str) -> str:
    from dvc.scm import RevError, resolve_rev

    try:
        return str(resolve_rev(scm, revision))
    except RevError:
        raise ParamsError(
            f"{revision!r} is no revision of this repository",
            expected="a branch, tag or commit, such as main, origin/main or HEAD~1",
            remedy="see `git branch --all`; `git fetch origin` gets what the remote has",
        ) from None


def _unread(found: dict[str, Any], names: dict[str, str]) -> list[str]:
    """Files that are there but cannot be read; an absent file is one that a revision added or removed."""
    return sorted(
        f"{file} in {names[revision]}"
        for revision, errors in found.get("errors", {}).items()
        for file, error in (errors.items() if isinstance(errors, dict) else [("all metrics", errors)])
        if not isinstance(error, FileNotFoundError)
    )
