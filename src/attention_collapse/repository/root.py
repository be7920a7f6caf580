"""Where the repository is that a command works on."""

from __future__ import annotations

from pathlib import Path

from attention_collapse.errors import PipelineError


def find_root(start: Path = Path()) -> Path:
    """The nearest folder, from `start` upwards, that holds `.dvc` and a `params.yaml` or a `dvc.yaml`.

    One of the two files is enough, so that a repository which lacks the other is found, and what is missing is named.

    Raises
    ------
    PipelineError
        There is no such folder, or the current one is gone.
    """
    try:
        here = start.absolute()
    except FileNotFoundError:
        raise PipelineError(
            "the current folder has been removed", expected="one that is there", remedy="change to your clone"
        ) from None
    for folder in (here, *here.parents):
        if (folder / ".dvc").is_dir() and any((folder / name).is_file() for name in ("params.yaml", "dvc.yaml")):
            return folder
    raise PipelineError(
        f"{here} lies in no repository of a study",
        expected="a folder that holds .dvc and params.yaml, or a folder below one",
        remedy="change to your clone (`git clone` makes one), or begin with `git init && dvc init` and a params.yaml",
    )
