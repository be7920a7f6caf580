"""What every reader of a format gives: entries in the house's contract, what was skipped, and where the images are.

Ids. A format with whole numbers as ids keeps them. In any other, an image's id is `id_of_name` of its name, which does
not change when rows are added or taken out, and a caption's id is its place in the file, counted from 1, so that an
image's captions keep their order.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from attention_collapse.data.entries import Entry, Foil, Skipped, is_id, is_text, normal, safe_file_name
from attention_collapse.errors import DataError
from attention_collapse.files import sha256_bytes

ID_BITS = 53  # whole numbers that every JSON reader and every float64 column holds exactly
ID_RULE = "an image's id is a hash of its name, a caption's its place in the file"
LISTED = 10  # names of a list that are printed
PROBED = 50  # names by which the folder of the images is found
FOLDERS = ("", "images", "Images", "image", "imgs", "flickr30k-images", "flickr30k_images", "Flicker8k_Dataset")

Locate = Callable[[Sequence[Entry]], Callable[[Entry], Path]]


@dataclass(frozen=True)
class Listing:
    """A source that was recognised and read, before any image is opened.

    Attributes
    ----------
    format
        What the source was recognised as, in words: "COCO captions", "CSV table".
    locate
        From the entries that are used to the file of each; images in archives are unpacked here, and no others. The
        function that it returns raises UnusableImageError where there is no such image.
    split
        The one that was read; None where the source has none.
    notes
        What was decided on the way: which columns, which folder of images, whose ids.
    """

    format: str
    where: str
    entries: Sequence[Entry]
    skipped: list[Skipped]
    locate: Locate
    split: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """An image with its captions, as a file gives them, unchecked.

    Attributes
    ----------
    where
        Its place, in words that lead there: "line 17".
    image
        The name of its file.
    image_id
        A whole number, where the format has one.
    foils
        A tuple per caption, or none at all.
    """

    where: str
    image: Any
    captions: Sequence[Any]
    image_id: int | None = None
    caption_ids: Sequence[int] | None = None
    url: str | None = None
    foils: Sequence[tuple[Foil, ...]] = ()


def listed(names: Iterable[object], limit: int = LISTED) -> str:
    """The names with commas between them; of many the first ones, and how many more."""
    shown = [str(name) for name in names]
    more = f" and {len(shown) - limit} more" if len(shown) > limit else ""
    return ", ".join(shown[:limit]) + more


def id_of_name(name: str) -> int:
    """A whole number of `ID_BITS` bits from a name: the first bits of its sha256 as UTF-8."""
    return int(sha256_bytes(name.encode("utf-8", "surrogatepass"))[:16], 16) >> (64 - ID_BITS)


def plain_name(value: object, root: Path) -> tuple[str, str]:
    """The name of an image relative to the folder of the images, with `/` between its parts, and what is wrong with it.

    An absolute path and one with `..` may stand there if they stay inside the folder. `\\` counts as `/`.

    Returns
    -------
    name, fault
        One of them is empty.
    """
    if not is_text(value):
        return "", "the image has no name" if value is None or value == "" else f"{value!r} is no file name"
    given = str(value).strip()
    if given.split(":", 1)[0].lower() in {"http", "https", "ftp", "s3", "gs", "data"} and ":" in given:
        return "", f"{given[:80]!r} is an address: images are read from files, so download it first"
    given = given.removeprefix("file://").replace("\\", "/")
    if PureWindowsPath(given).drive:
        return "", f"{given!r} is an absolute path of Windows; give names below a folder, and the folder as `images`"
    top = os.path.normpath(root.absolute())
    inside = os.path.relpath(os.path.normpath(os.path.join(top, given)), top)  # noqa: PTH118 — no link is resolved
    name = PurePosixPath(inside).as_posix()
    if name == "." or name.split("/", 1)[0] == "..":
        return "", f"{given!r} lies outside {top}; name the folder that holds all images as `images` (--images DIR)"
    return (name, "") if safe_file_name(name) else ("", f"{given!r} is not a plain path inside the image folder")


@dataclass
class _Image:
    """One image while its rows are gathered."""

    name: str
    where: str
    url: str | None
    captions: dict[str, tuple[int, str, tuple[Foil, ...], str]] = field(default_factory=dict)  # normal text -> …


def entries_of(rows: Iterable[Row], root: Path, skipped: list[Skipped]) -> list[Entry]:
    """Entries in order of their ids; what cannot be used is named in `skipped`.

    Raises
    ------
    DataError
        If two names have one id: nobody could tell which image is meant.
    """
    images: dict[int, _Image] = {}
    place = 0
    for row in rows:
        name, fault = plain_name(row.image, root)
        if row.image_id is not None and not is_id(row.image_id):
            fault = f"its image id {row.image_id!r} is not a 64-bit integer"
        if fault:
            place += len(row.captions)
            skipped.append(Skipped("row", row.where, fault))
            continue
        image_id = id_of_name(name) if row.image_id is None else row.image_id
        image = images.setdefault(image_id, _Image(name, row.where, row.url))
        if image.name != name:
            raise DataError(
                f"{row.where}: image id {image_id} is that of {name}, and at {image.where} that of {image.name}",
                expected="one file for each image id",
                remedy="correct the ids, or leave the column of ids out: ids are then made from the names",
            )
        for number, text in enumerate(row.captions):
            place += 1
            caption_id = place if row.caption_ids is None else row.caption_ids[number]
            foils = row.foils[number] if row.foils else ()
            _add_caption(image, (caption_id, text, foils), row.where, skipped)
        if not row.captions:
            skipped.append(Skipped("row", row.where, "it has no caption"))
    return [_entry(image_id, image) for image_id, image in sorted(images.items()) if image.captions]


def _add_caption(image: _Image, given: tuple[int, Any, tuple[Foil, ...]], where: str, skipped: list[Skipped]) -> None:
    caption_id, text, foils = given
    if not is_text(text):
        what = "empty" if text is None or (isinstance(text, str) and not text.strip()) else f"{text!r:.60}, no text"
        skipped.append(Skipped("caption", where, f"the caption of {image.name} is {what}"))
    elif earlier := image.captions.get(normal(text)):
        skipped.append(Skipped("caption", where, f"{image.name} has this caption already, at {earlier[3]}"))
    else:
        image.captions[normal(text)] = (caption_id, str(text), foils, where)


def _entry(image_id: int, image: _Image) -> Entry:
    bare = Entry(image_id, image.name, image.url, None, (), ())
    return bare.with_captions([(key, text, foils) for key, text, foils, _ in image.captions.values()])


def common_folder(names: Iterable[object]) -> Path:
    """The folder above all names if they are absolute paths, else the working directory."""
    folders = [Path(name).parent for name in names if isinstance(name, str) and name]
    if not folders or not all(folder.is_absolute() for folder in folders):
        return Path()
    return Path(os.path.commonpath(folders))


def folder_of_images(
    given: Path | None, beside: Path | None, names: Sequence[object], more: Sequence[str] = ()
) -> Path:
    """The folder that names of images begin in: the given one, else that beside the file which holds most of them.

    Parameters
    ----------
    beside
        The folder of the file that names the images; None for a table in memory.
    more
        Folders below `beside` to look into, beside `FOLDERS`.
    """
    if given is not None:
        if not given.is_dir():
            raise DataError(
                f"{given}: {'not a folder' if given.exists() else 'no such folder'}",
                expected="the folder of the images",
                remedy="correct `images` (--images DIR)",
            )
        return given
    if beside is None:
        return common_folder(names)
    asked = names[:PROBED]

    def found(root: Path) -> int:
        return sum(bool(name) and _is_file(in_folder(root, name)) for name, _ in (plain_name(n, root) for n in asked))

    candidates = [beside / name for name in dict.fromkeys([*FOLDERS, *more]) if (beside / name).is_dir()]
    return max(candidates, key=found, default=beside)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long for the file system
        return False


def in_folder(root: Path, name: str) -> Path:
    """The file of a name; where there is none, that of the same letters composed otherwise (Unicode NFC and NFD)."""
    path = root / name
    try:
        if path.exists():
            return path
        others = (root / unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
        return next((other for other in others if other.exists()), path)
    except OSError:  # a name that is too long for the file system
        return path


def below(root: Path) -> Locate:
    """`Listing.locate` of images that are files below a folder."""
    return lambda _: lambda entry: in_folder(root, entry.file_name)


def chosen_split(split: str | None, counts: Mapping[str, int], where: object) -> str | None:
    """The split to read, None for all: the one asked for, or the only one there is.

    Raises DataError, which lists the splits, if there are several and none is asked for, or not the one asked for.
    """
    if split == "all" and "all" not in counts:
        return None
    if split is not None and split in counts:
        return split
    if split is None and len(counts) <= 1:
        return next(iter(counts), None)
    shown = listed([f"{name} ({count:,})" if count else name for name, count in sorted(counts.items())])
    raise DataError(
        f"{where}: {f'no split {split!r}' if split is not None else f'{len(counts)} splits and none was named'}"
        f"; the splits are {shown or 'not named in it'}",
        expected="the name of one split" + ("" if counts else ", of a source that has splits"),
        remedy="choose with --split NAME (`split` in Python and in params.yaml)" if counts else "leave --split out",
    )
