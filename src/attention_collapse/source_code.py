"""What code a result was made by: the first-party modules it imports, and a digest that comments do not change."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from attention_collapse.files import sha256_bytes

PACKAGE = "attention_collapse"
SRC = Path(__file__).resolve().parents[1]
ENTRY_POINT = re.compile(rf"^({PACKAGE}(?:\.\w+)+):\w+$")  # "module:function", imported by name


def file_of(module: str) -> Path | None:
    """The source file of a first-party module, or None."""
    path = SRC / Path(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that runs: nothing below `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if not _is_type_checking(node):
            yield node
            yield from _nodes(node)


@cache
def imported(path: Path) -> frozenset[str]:
    """Every module that a file imports, first-party or not, also within functions and by "module:function"."""
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
    return frozenset(modules)


def closure(module: str) -> frozenset[Path]:
    """The first-party files that a module's code consists of, its own among them."""
    todo, done = {module}, set[Path]()
    while todo:
        path = file_of(todo.pop())
        if path is None or path in done:
            continue
        done.add(path)
        todo |= {other for other in imported(path) if other.startswith(PACKAGE)}
    return frozenset(done)


def _meaning(path: Path) -> str:
    """A file's syntax tree without positions, comments and docstrings."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and type(first.value.value) is str:
                del node.body[0]
    return ast.dump(tree)


@cache
def code_id(module: str) -> str:
    """16 hex digits of the code of a module and of all that it imports from this package.

    Comments, docstrings and layout change nothing; a Python whose syntax trees are written differently does.
    """
    meanings = (f"{path.relative_to(SRC).as_posix()}\n{_meaning(path)}\n" for path in sorted(closure(module)))
    return sha256_bytes("".join(meanings).encode())[:16]
