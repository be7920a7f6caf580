"""First-party imports read from the source: what a stage's code consists of, and which room imports which."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src"
PACKAGE = "attention_collapse"
ENTRY_POINT = re.compile(rf"^({PACKAGE}(?:\.\w+)+):\w+$")  # "module:function", imported by name


def file_of(module: str) -> Path | None:
    """The source file of a first-party module, or None."""
    path = SRC / Path(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _nodes(tree: ast.AST):  # every node that runs: nothing below `if TYPE_CHECKING`
    for node in ast.iter_child_nodes(tree):
        if not _is_type_checking(node):
            yield node
            yield from _nodes(node)


def imported(path: Path) -> set[str]:
    """Every module a file imports, first-party or not, entry points in strings included."""
    modules: set[str] = set()
    for node in _nodes(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                modules.add(inner if node.module.startswith(PACKAGE) and file_of(inner) else node.module)
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and (found := ENTRY_POINT.match(node.value))
        ):
            modules.add(found[1])
    return modules


def closure(module: str) -> set[str]:
    """Files, relative to the repository, that a module's code consists of."""
    todo, done = {module}, set()
    while todo:
        name = todo.pop()
        path = file_of(name)
        if path is None or path in done:
            continue
        done.add(path)
        todo |= {other for other in imported(path) if other.startswith(PACKAGE)}
    return {path.relative_to(ROOT).as_posix() for path in done}
