"""Which columns of a table, or keys of its records, hold the image, the captions, the id and the split."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attention_collapse.data.formats.listing import listed
from attention_collapse.errors import DataError, ParamsError

KNOWN = {
    "image": (
        "image", "image_path", "image_file", "image_filename", "image_file_name", "image_name", "image_filepath",
        "img", "img_path", "img_file", "filepath", "file_path", "filename", "file_name", "file", "path", "picture",
    ),
    "caption": (
        "caption", "captions", "text", "texts", "sentence", "sentences", "title", "description", "comment",
        "caption_text", "alt_text", "alt", "raw",
    ),
    "id": ("image_id",),
    "split": ("split",),
}  # fmt: skip
NUMBERED = re.compile(r"(caption|sentence|text|comment)_?\d+")  # caption_0 … caption_4: one caption each
NEEDED = ("image", "caption")
REMEDY = "name them: --columns image=NAME,caption=NAME (or by place, image=1,caption=2, in a table without a header)"


@dataclass(frozen=True)
class Columns:
    """The columns that are read; several of `caption` are a caption each."""

    image: str
    caption: tuple[str, ...]
    id: str | None = None
    split: str | None = None

    def __str__(self) -> str:
        named = [f"image {self.image!r}", f"caption {', '.join(map(repr, self.caption))}"]
        named += [f"{role} {name!r}" for role, name in (("id", self.id), ("split", self.split)) if name is not None]
        return "columns: " + "; ".join(named)


def parse_columns(given: str | Mapping[str, object] | None) -> dict[str, tuple[str, ...]]:
    """Role -> names, from `image=path,caption=text` or a mapping of roles to a name or several.

    Raises ParamsError for a role that there is not, or a text of another form.
    """
    if given is None:
        return {}
    found: dict[str, tuple[str, ...]] = {}
    if isinstance(given, str):
        parts: list[tuple[str, object]] = []
        for part in given.split(","):
            role, _, name = part.partition("=")
            parts.append((role, name.strip()))
    elif isinstance(given, Mapping):
        parts = list(given.items())
    else:
        parts = [("", given)]
    for role, names in parts:
        several: Any = (names,) if isinstance(names, str | int) else names
        valid = isinstance(several, Sequence) and all(isinstance(n, str | int) and str(n).strip() for n in several)
        if str(role).strip() not in KNOWN or not valid or not several:
            raise ParamsError(
                f"columns is {given!r}",
                expected=f"image=NAME,caption=NAME, and where there are such columns {' and '.join(list(KNOWN)[2:])}",
                remedy="correct --columns (`columns` in Python); repeat caption=NAME for several columns of captions",
            )
        found[str(role).strip()] = found.get(str(role).strip(), ()) + tuple(str(name) for name in several)
    return found


def _plain(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip()).casefold()


def find_columns(header: Sequence[str], asked: Mapping[str, Sequence[str]], where: object) -> Columns:
    """The columns of each role: those that were asked for, else those whose names are known.

    Raises DataError if image or caption has no column, or if several could be meant: none is guessed.
    """
    found: dict[str, tuple[str, ...]] = {}
    for role, known in KNOWN.items():
        if names := asked.get(role):
            if absent := [name for name in names if name not in header]:
                raise _unclear(header, f"no column {listed(map(repr, absent))}", where)
            found[role] = tuple(names)
            continue
        fitting = [name for name in header if _plain(name) in known]
        numbered = [name for name in header if NUMBERED.fullmatch(_plain(name))] if role == "caption" else []
        if not fitting and numbered:
            found[role] = tuple(numbered)
        elif len(fitting) > 1 and role in NEEDED:
            raise _unclear(header, f"several columns could be the {role}: {listed(fitting)}", where)
        elif fitting:
            found[role] = (fitting[0],)
        elif role in NEEDED:
            raise _unclear(header, f"no column is known to be the {role}", where)
    single = {role: names[0] for role, names in found.items() if role != "caption"}
    return Columns(single["image"], found["caption"], single.get("id"), single.get("split"))


def fits(header: Sequence[str], asked: Mapping[str, Sequence[str]]) -> bool:
    """True if image and caption each have a column."""
    try:
        find_columns(header, asked, "")
    except DataError:
        return False
    return True


def _unclear(header: Sequence[str], why: str, where: object) -> DataError:
    return DataError(
        f"{where}: {why}; its columns are {listed([repr(name)[:60] for name in header]) or 'none'}",
        expected=f"a column of the images' file names (such as {', '.join(KNOWN['image'][:3])}, file_name) and one of "
        f"captions (such as {', '.join(KNOWN['caption'][:3])}, title)",
        remedy=REMEDY,
    )
