"""What code a result was made by: the first-party modules it imports, and a digest that comments do not change."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from attention_collapse.files import sha256_bytes, sha256_file

PACKAGE = "attention_collapse"
SRC = Path(__file__).resolve().parents[2]
FILE = re.compile(r"[\w-]+\.\w+")
ENTRY_POINT = re.compile(rf"^({PACKAGE}(?:\.\w+)+):\w+$")  # "module:function", imported by name


def file_of(module: str) -> Path | None:
    """The source file of a first-party module, or None."""
    path = SRC / Path(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _nodes(tree: ast.AST, kind: str | None) -> Iterator[ast.AST]:
    """Every node that runs: nothing below `if TYPE_CHECKING`, and no entry point of another kind of model."""
    for node in ast.iter_child_nodes(tree):
        if _is_type_checking(node):
            continue
        if kind is not None and isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if not (_entry_point(value) and isinstance(key, ast.Constant) and key.value != kind):
                    yield value
                    yield from _nodes(value, kind)
            continue
        yield node
        yield from _nodes(node, kind)


def _entry_point(node: ast.AST) -> str | None:
    """The module of a string "module:function"; None for anything else."""
    if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        return None
    found = ENTRY_POINT.match(node.value)
    return found[1] if found else None


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@cache
def imported(path: Path, kind: str | None = None) -> frozenset[str]:
    """Every module that a file imports, first-party or not, also within functions and by "module:function".

    Of entry points in a table by kind of model, those of `kind` alone; of all kinds if it is None.
    """
    modules: set[str] = set()
    for node in _nodes(_tree(path), kind):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                modules.add(inner if node.module.startswith(PACKAGE) and file_of(inner) else node.module)
        elif found := _entry_point(node):
            modules.add(found)
    return frozenset(modules)


def closure(module: str, kind: str | None = None) -> frozenset[Path]:
    """The first-party files that a module's code consists of, its own among them; `kind` as of `imported`."""
    todo, done = {module}, set[Path]()
    while todo:
        path = file_of(todo.pop())
        if path is None or path in done:
            continue
        done.add(path)
        todo |= {other for other in imported(path, kind) if other.startswith(PACKAGE)}
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
    """A file's code without comments, layout and docstrings; a file that is no Python as it is."""
    if path.suffix != ".py":
        return sha256_file(path)
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and type(first.value.value) is str:
                del node.body[0]
    return _written(tree)


@cache
def code_id(module: str, kind: str | None = None) -> str:
    """16 hex digits of the code of a module and of all that it uses of this package; `kind` as of `imported`.

    Comments, docstrings and layout change nothing.
    """
    code = closure(module, kind)
    files = sorted({*code, *(file for path in code for file in _files_named(path))})
    meanings = (f"{path.relative_to(SRC).as_posix()}\n{_meaning(path)}\n" for path in files)
    return sha256_bytes("".join(meanings).encode())[:16]
