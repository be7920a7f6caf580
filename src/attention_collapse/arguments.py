"""What a person passes to a function of this package: the right type and range, or an error that says which is."""

from __future__ import annotations

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


def number(name: str, value: Any, *, least: float, most: float) -> float:
    """A number of a range, ends included."""
    if not isinstance(value, Real) or isinstance(value, bool) or not least <= float(value) <= most:
        raise _wrong(name, value, f"a number from {least:g} to {most:g}")
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


def _nearest_folder(file: Path) -> Path:
    """The nearest folder above a file that exists."""
    return next(folder for folder in file.absolute().parents if folder.exists())


def output_file(name: str, value: Any, *, suffixes: Collection[str] = ()) -> Path | None:
    """A path that a file can be written to, known before anything is computed; None is none.

    Parameters
    ----------
    suffixes
        The file's name ends in one of them, which says its format; () takes any name.
    """
    if value is None:
        return None
    file = path(name, value)
    if suffixes and file.suffix.lower() not in suffixes:
        raise _wrong(name, str(value), f"a file whose name ends in {' or '.join(suffixes)}", "name the format so")
    nearest = _nearest_folder(file)
    special = file.absolute().parts[1:2] in (("dev",), ("proc",))  # a device that a file would take the place of
    if (
        special
        or (file.exists() and not file.is_file())
        or not nearest.is_dir()
        or not os.access(file if file.exists() else nearest, os.W_OK)
    ):
        raise ParamsError(
            f"{name} is {value}, which cannot be written",
            expected="a path for a file, in a folder that can be written",
            remedy="give another path",
        )
    return file


def output_folder(name: str, value: Any) -> Path | None:
    """A path of a folder that is there or can be made, and be written in; None is none."""
    if value is None:
        return None
    folder = path(name, value)
    nearest = folder if folder.exists() else _nearest_folder(folder)
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise ParamsError(
            f"{name} is {value}, in which nothing can be written",
            expected="a folder that can be written, there already or not",
            remedy="give another path",
        )
    return folder
