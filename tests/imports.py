"""First-party imports, as the tests name files: relative to the repository."""

from attention_collapse.identity import source_code
from attention_collapse.identity.source_code import PACKAGE, SRC, file_of, imported

__all__ = ["PACKAGE", "ROOT", "SRC", "closure", "file_of", "imported"]
ROOT = SRC.parent


def closure(module: str) -> set[str]:
    """Files, relative to the repository, that a module's code consists of."""
    return {path.relative_to(ROOT).as_posix() for path in source_code.closure(module)}
