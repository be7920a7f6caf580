"""What code a result was made by: the first-party modules it imports, and a digest that comments do not change."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from attention_collapse.files import sha256_bytes, sha256_file
from attention_collapse.registry import kinds, own_kinds

PACKAGE = "attention_collapse"
SRC = Path(__file__).resolve().parents[2]
FILE = re.compile(r"[\w-]+\.\w+")
LOADER = f"{PACKAGE}.models"  # imports the module of a kind by its name


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
def _tree(path: Path) -> ast.Module:
    """A file's code without comments, layout and docstrings."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and type(first.value.value) is str:
                del node.body[0]
    return tree


@cache
def imported(path: Path) -> frozenset[str]:
    """Every module that a file imports, first-party or not, also within functions."""
    modules: set[str] = set()
    for node in _nodes(_tree(path)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                modules.add(inner if node.module.startswith(PACKAGE) and file_of(inner) else node.module)
    return frozenset(modules)


def closure(module: str, kind: str | None = None) -> frozenset[Path]:
    """The files that a module's code consists of, its own among them: those of this package.

    Where models are loaded, the module of `kind` is among them, also one of another package; of None, those of all the
    kinds of this package.
    """
    todo, done = {file_of(module)}, set[Path]()
    while todo:
        path = todo.pop()
        if path is None or path in done:
            continue
        done.add(path)
        todo |= {file_of(other) for other in imported(path) if other.startswith(PACKAGE)}
        if path == file_of(LOADER):
            todo |= {found.file for found in ([kinds()[kind]] if kind else own_kinds().values())}
    return frozenset(done)


@cache
def _files_named(path: Path) -> frozenset[Path]:
    """Files beside a module that it names, such as a style sheet."""
    words = (node.value for node in ast.walk(_tree(path)) if isinstance(node, ast.Constant))
    named = (path.with_name(word) for word in words if isinstance(word, str) and FILE.fullmatch(word))
    return frozenset(file for file in named if file.suffix != ".py" and file.is_file())


def _written(node: Any) -> str:
    """A syntax tree as text, without positions and without what is empty: the same for Pythons that add fields."""
    if isinstance(node, ast.AST):
        fields = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
        return f"{type(node).__name__}({','.join(f'{name}={_written(value)}' for name, value in fields)})"
    if isinstance(node, list):
        return f"[{','.join(_written(item) for item in node)}]"
    return repr(node)


@cache
def _meaning(path: Path) -> str:
    """A digest of what a file's code means; of a file that is no Python, of its bytes."""
    return sha256_bytes(_written(_tree(path)).encode()) if path.suffix == ".py" else sha256_file(path)


@cache
def code_id(module: str, kind: str | None = None) -> str:
    """16 hex digits of the code of a module and of all that it uses of this package; `kind` as of `closure`.

    Comments, docstrings and layout change nothing.
    """
    code = closure(module, kind)
    files = sorted({*code, *(file for path in code for file in _files_named(path))})
    names = {path: path.relative_to(SRC).as_posix() if path.is_relative_to(SRC) else path.name for path in files}
    meanings = (f"{name}\n{_meaning(path)}\n" for path, name in names.items())
    return sha256_bytes("".join(meanings).encode())[:16]
