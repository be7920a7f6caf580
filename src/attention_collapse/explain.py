"""What other programs' errors mean: DVC's, git's, MLflow's and the operating system's, in three parts.

Errors are known by the name of their class or of one it derives from, so that nothing is imported to know them.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from attention_collapse.errors import AttentionCollapseError, PipelineError, UnwrittenError
from attention_collapse.extras import missing

LONGEST = 400  # characters of a message that is passed on
MENDING = "mend the file, or `git checkout -- FILE`; `git diff` shows what changed in it"
STORE = (
    "a tracking store or server that can be reached and written",
    "correct --uri or $MLFLOW_TRACKING_URI (such as sqlite:///mlflow.db), or start the server",
)
KNOWN = {  # class -> what was expected, what to do
    "dvc.lock.LockError": (
        "no other DVC process in this repository",
        "wait until it ends, or end it; run `dvc status` to see whether the lock is free",
    ),
    "dvc.exceptions.NotDvcRepoError": ("a repository with a .dvc folder", "run from a clone, or `dvc init` first"),
    "dvc.scm.SCMError": (
        "a git repository with commits",
        "run from a clone made by `git clone`, with `core.no_scm` unset",
    ),
    "scmrepo.exceptions.SCMError": ("a git repository with commits", "run from a clone made by `git clone`"),
    "_pygit2.GitError": ("a git repository that you own", "run in a clone of yours (`git clone`)"),
    "dvc.parsing.ResolveError": (
        "a params.yaml beside dvc.yaml, with every key that dvc.yaml asks for",
        "restore params.yaml (`git checkout -- params.yaml`), or add the key",
    ),
    "dvc.exceptions.DvcException": ("files that DVC can read: dvc.yaml, dvc.lock, params.yaml, .dvc/config", MENDING),
    "mlflow.exceptions.MlflowException": STORE,
    "sqlalchemy.exc.SQLAlchemyError": STORE,
    "sqlite3.Error": STORE,
    "requests.exceptions.RequestException": ("a server that answers", "check the address and the network"),
    "builtins.ImportError": (
        "every package that this command needs",
        "install it (`pip install -r requirements.txt`), or choose what does not need it",
    ),
    "builtins.UnicodeDecodeError": ("text in UTF-8", MENDING),
}
PERMISSION = ("a file or folder that you may read and write", "correct its permissions, or run in a clone of yours")
SYSTEM = {  # errno -> the same
    errno.EROFS: ("a folder that can be written", "copy the repository to where you may write (`git clone`)"),
    errno.EACCES: PERMISSION,
    errno.EPERM: PERMISSION,
    errno.ENOSPC: ("room on the disk", "make room, then run it again"),
    errno.ENOTDIR: ("a folder where a file stands", "move that file away, or correct the path"),
    errno.ENOENT: ("a file, folder or program that is there", "restore or install it, or correct the path"),
}
OTHERWISE = ("a file or folder that can be read and written", "check the path and its permissions")


def _message(error: BaseException) -> str:
    """The message in one line, with what lies at its root where that says more."""
    lines = [" ".join(str(error).split()) or type(error).__name__]
    root = error
    while root.__cause__ is not None:
        root = root.__cause__
    if root is not error and (deeper := " ".join(str(root).split())) and deeper not in lines[0]:
        lines.append(f"({deeper})")
    text = " ".join(lines)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"


def explain(error: BaseException) -> AttentionCollapseError | None:
    """The error in three parts; None if it is none that a user can cause or mend."""
    if isinstance(error, AttentionCollapseError):
        return error
    if isinstance(error, ImportError) and (told := missing(error)):
        return told
    for kind in type(error).__mro__:
        if parts := KNOWN.get(f"{kind.__module__}.{kind.__qualname__}"):
            return PipelineError(_message(error), expected=parts[0], remedy=parts[1])
    if isinstance(error, OSError):
        expected, remedy = SYSTEM.get(error.errno or 0, OTHERWISE)
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        got = f"{' -> '.join(names)}: {error.strerror}" if names and error.strerror else _message(error)
        return PipelineError(got, expected=expected, remedy=remedy)
    return None


def unwritten(result: object, error: OSError) -> UnwrittenError:
    """The error for a result that could not be written; the result is in it."""
    told = explain(error)
    parts = (told.got, told.expected, told.remedy) if told else (str(error), *OTHERWISE)
    return UnwrittenError(parts[0], expected=parts[1], remedy=parts[2], result=result)


@contextmanager
def explained() -> Iterator[None]:
    """Turn an error that `explain` knows into one in three parts; let any other through as it is.

    A pipe that its reader has closed is no mistake of anybody's, and passes too.
    """
    try:
        yield
    except (AttentionCollapseError, BrokenPipeError):
        raise
    except Exception as error:
        told = explain(error)
        if told is None:
            raise
        raise told from error
