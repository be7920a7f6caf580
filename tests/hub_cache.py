"""The hub's cache as it lies on disk after a download."""

import shutil

REVISION = "0123456789abcdef0123456789abcdef01234567"


def put(cache, repo, source, revision=REVISION):
    """A repository in the cache, of the files of a folder; `REVISION` is its newest."""
    root = cache / f"models--{repo.replace('/', '--')}"
    shutil.copytree(source, root / "snapshots" / revision)
    (root / "refs").mkdir(exist_ok=True)
    if revision == REVISION:
        (root / "refs" / "main").write_text(revision)
