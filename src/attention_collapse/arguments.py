"""What a person passes to a function of this package: the right type and range, or an error that says which is."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from attention_collapse.errors import ParamsError

SEEDS = 2**32  # a seed lies below it


def shown(value: Any) -> str:
    """A value as it stands, and its type: True and 1, "4" and 4 are told apart."""
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:60] + '…'} ({type(value).__name__})"


def _wrong(name: str, value: Any, expected: str, remedy: str = "correct the argument") -> ParamsError:
    return ParamsError(f"{name} is {shown(value)}", expected=expected, remedy=remedy)


def whole(name: str, value: Any, *, least: int, below: int | None = None) -> int:
    """A whole number from `least` on; NumPy's are as good as Python's, a boolean is none."""
    upper = "" if below is None else f", below {below}"
    right = isinstance(value, Integral) and not isinstance(value, bool)
    if not right or int(value) < least or (below is not None and int(value) >= below):
        raise _wrong(name, value, f"a whole number, {least} or more{upper}")
    return int(value)


def optional_whole(name: str, value: Any, *, least: int) -> int | None:
    """The same, or None."""
    return None if value is None else whole(name, value, least=least)


def optional_number(name: str, value: Any, *, least: float, most: float) -> float | None:
    """A number of a range, ends included, or None."""
    return None if value is None else number(name, value, least=least, most=most)


def seed(value: Any, name: str = "seed") -> int:
    """A seed of NumPy's generators."""
    return whole(name, value, least=0, below=SEEDS)


def number(name: str, value: Any, *, least: float, most: float = math.inf) -> float:
    """A finite number of a range, ends included."""
    right = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(float(value))
    if not right or not least <= float(value) <= most:
        span = f"number from {least:g} to {most:g}" if math.isfinite(most) else f"finite number, {least:g} or more"
        raise _wrong(name, value, f"a {span}" if math.isfinite(least) else "a finite number")
    return float(value)


def flag(name: str, value: Any) -> bool:
    """True or False; NumPy's booleans too."""
    if type(value).__name__ not in ("bool", "bool_"):
        raise _wrong(name, value, "True or False")
    return bool(value)


def one_of(name: str, value: Any, known: Collection[str]) -> str:
    """One of some words."""
    if not isinstance(value, str) or value not in known:
        raise _wrong(name, value, f"one of {', '.join(known)}")
    return value


def device(value: Any) -> str:
    """The name of a device; whether there is one is for PyTorch to say. A torch.device is its own name."""
    if type(value).__name__ == "device":
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise _wrong("device", value, "a name such as 'cpu', 'cuda', 'cuda:1' or 'auto'")
    return value


def path(name: str, value: Any) -> Path:
    """A path, as text or as a path."""
    if not isinstance(value, str | os.PathLike) or isinstance(os.fspath(value), bytes) or not os.fspath(value):
        raise _wrong(name, value, "a path: text, or a pathlib.Path")
    if "\0" in os.fspath(value):
        raise _wrong(name, value, "a path without a null character")
    return Path(value)


def _exists(path: Path) -> bool:
    """Whether a path is there, as far as this user can see."""
    try:
        return path.exists()
    except OSError:  # in a folder that may not be entered, or of a name that is too long
        return False


def _nearest_folder(path: Path) -> Path:
    """The nearest folder above a path that exists; the root of the root itself."""
    return next((folder for folder in path.absolute().parents if _exists(folder)), path.absolute())


def output_file(
    name: str, value: Any, *, suffixes: Collection[str] = (), form: str = "result", keep_out: Collection[Path] = ()
) -> Path | None:
    """A path that a file can be written to, known before anything is computed; None is none.

    Parameters
    ----------
    suffixes
        The file's name ends in one of them, which says its format; () takes any name.
    form
        What will be written, a key of `OURS`: a file that is there and that holds no earlier one is not replaced.
    keep_out
        Folders, such as a checkpoint's, in which nothing may be written.
    """
    if value is None:
        return None
    file = path(name, value)
    if suffixes and file.suffix.lower() not in suffixes:
        raise _wrong(name, str(value), f"a file whose name ends in {' or '.join(suffixes)}", "name the format so")
    nearest, there = _nearest_folder(file), _exists(file)
    special = file.absolute().parts[1:2] in (("dev",), ("proc",))  # a device that a file would take the place of
    if (
        special
        or (there and not file.is_file())
        or not nearest.is_dir()
        or not os.access(file if there else nearest, os.W_OK)
    ):
        raise ParamsError(
            f"{name} is {value}, which cannot be written",
            expected="a path for a file, in a folder that can be written",
            remedy="give another path",
        )
    _require_outside(name, file, keep_out)
    if there and file.stat().st_size and not OURS[form](file):
        raise _would_be_lost(name, file, f"no earlier {form} of this package")
    return file


def output_folder(
    name: str, value: Any, *, pairs_of: Collection[str] = (), keep_out: Collection[Path] = ()
) -> Path | None:
    """A path of a folder that is there or can be made, and be written in; None is none.

    Parameters
    ----------
    pairs_of
        Stems of the figures that will be written there, each as PNG and PDF: one of the two alone is not replaced.
    keep_out
        As of `output_file`.
    """
    if value is None:
        return None
    folder = path(name, value)
    nearest = folder if _exists(folder) else _nearest_folder(folder)
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise ParamsError(
            f"{name} is {value}, in which nothing can be written",
            expected="a folder that can be written, there already or not",
            remedy="give another path",
        )
    _require_outside(name, folder, keep_out)
    for stem in pairs_of:
        there = [file for suffix in (".png", ".pdf") if (file := folder / f"{stem}{suffix}").exists()]
        if len(there) == 1:
            raise _would_be_lost(name, there[0], "no earlier figure of this package, which come as PNG and PDF")
    return folder


def _require_outside(name: str, place: Path, keep_out: Collection[Path]) -> None:
    """ParamsError for a place within a folder that is not to be written in, by whatever path it is named."""
    for folder in keep_out:
        if folder.is_dir() and place.resolve().is_relative_to(folder.resolve()):
            raise ParamsError(
                f"{name} is {place}, which lies in the model's folder {folder}",
                expected="a path outside of it: what lies there is part of the model",
                remedy="give another path",
            )


def _would_be_lost(name: str, file: Path, what: str) -> ParamsError:
    return ParamsError(
        f"{name} would replace {file}, which is {what}",
        expected="a path where nothing lies yet, or an earlier result of the same form",
        remedy="give another path, or move that file away if it is not needed",
    )


def _is_result(file: Path) -> bool:
    """Whether a file is JSON as `files.json_text` writes it, with the keys of a result."""
    with file.open("rb") as stream:
        if not stream.read(4).startswith(b'{\n "'):  # a large file of another form is not read
            return False
    try:
        found = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        return False
    return "schema" in found and any(found.keys() >= keys for keys in RESULTS)


def _is_page(file: Path) -> bool:
    """Whether a file begins as a page of `explore` does."""
    with file.open("rb") as stream:
        return PAGE in stream.read(1000)


def _is_table(file: Path) -> bool:
    """Whether a file is a table of pairs: its columns begin as such a table's."""
    with file.open("rb") as stream:
        head = stream.read(1000)
    if head.startswith(b"PAR1"):
        from pyarrow import ArrowException, parquet

        try:
            return tuple(parquet.read_schema(file).names[: len(TABLE)]) == TABLE
        except (ArrowException, OSError):
            return False
    return head.startswith(",".join(TABLE).encode())


RESULTS = ({"estimates", "settings"}, {"machines", "totals"})  # keys of a result, and of a plan
PAGE = b"""content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-"""
TABLE = ("image_id", "file", "image_sha256", "caption_id", "caption", "is_first")
OURS = {"result": _is_result, "page": _is_page, "table": _is_table}  # form -> whether a file holds an earlier one
