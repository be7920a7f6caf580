"""The door for pairs: whatever people keep images with captions in is recognised here, and read into checked pairs.

Its two calls::

    Listing = recognise(source)     entries, and where the images are: no image is opened
    Pairs = read_pairs(source)      the chosen ones, each image decoded once
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attention_collapse.data.copies import look_alikes
from attention_collapse.data.entries import Skipped
from attention_collapse.data.foils import Item, read_foils, with_foils
from attention_collapse.data.formats.columns import parse_columns
from attention_collapse.data.formats.files import read_file
from attention_collapse.data.formats.folders import read_folder_of_any_kind
from attention_collapse.data.formats.hugging_face import HUB_ID, is_dataset, read_hub, read_object
from attention_collapse.data.formats.listing import Listing, listed
from attention_collapse.data.formats.shards import read_shards, shards_of
from attention_collapse.data.formats.tables import Reading, read_records, records_of
from attention_collapse.data.images import MAX_PIXELS
from attention_collapse.data.pairs import Pair, check_images, choose, require_usable, with_each_picture_once
from attention_collapse.errors import DataError, ParamsError

FORMATS = (
    "COCO's layout or its captions_*.json, CSV, TSV, JSON or JSON Lines of image and caption, an imagefolder with "
    "metadata, saved or Parquet `datasets`, webdataset tars, Flickr30k's token file, Karpathy's JSON, SugarCrepe, VALSE"
)
Columns = str | Mapping[str, object] | None
Foils = str | Path | Sequence[str | Path | Item] | None


@dataclass(frozen=True)
class Pairs:
    """What was read.

    Attributes
    ----------
    format, where, split, notes
        As in `Listing`: what the source was recognised as, and what was decided on the way.
    pairs, skipped
        Usable images with their captions, in order of their ids; what could not be used, and why.
    n_listed
        Images with a usable caption that the source lists; `n` chooses among them.
    """

    format: str
    where: str
    split: str | None
    notes: tuple[str, ...]
    n_listed: int
    pairs: list[Pair]
    skipped: list[Skipped]

    def describe(self) -> dict[str, Any]:
        """What the source was, ready for JSON."""
        return {"format": self.format, "split": self.split, "notes": list(self.notes), "n_listed": self.n_listed,
                "skipped_by_reason": dict(Counter(item.kind for item in self.skipped))}  # fmt: skip


def recognise(
    source: Any, *, split: str | None = None, columns: Columns = None, images: str | Path | None = None
) -> Listing:
    """What a source is, and the entries that it lists. Arguments and errors are those of `read_pairs`.

    Examples
    --------
    >>> listing = recognise([{"image": "1.png", "caption": "a ring"}, {"image": "2.png", "caption": "a cross"}])
    >>> listing.format, sorted(entry.captions for entry in listing.entries)
    ('records in memory', [('a cross',), ('a ring',)])
    """
    for name, value in (("split", split), ("images", images)):
        if value is not None and not isinstance(value, str | os.PathLike):
            raise ParamsError(f"{name} is {value!r}", expected="a text, or None", remedy="correct the argument")
    how = Reading(split, parse_columns(columns), None if images is None else Path(images))
    if is_dataset(source):
        return read_object(source, how)
    if type(source).__module__.split(".")[0] == "pandas" and hasattr(source, "to_dict"):
        source = source.to_dict("records")
    if isinstance(source, list | tuple) and source and all(isinstance(record, Mapping) for record in source):
        records = records_of((f"record {number}", record) for number, record in enumerate(source, start=1))
        return read_records("records in memory", Path("records"), records, how)
    if not isinstance(source, str | os.PathLike) or not str(source):
        raise ParamsError(
            f"pairs is {type(source).__name__} {source!r:.60}",
            expected=f"a path, an object of `datasets`, or records in memory: {FORMATS}",
            remedy="give a path",
        )
    path = Path(source).expanduser()
    try:
        if path.is_dir():
            return read_folder_of_any_kind(path, how)
        if path.is_file():
            return read_file(path, how)
        if any(sign in str(path) for sign in "{*?["):
            return read_shards(str(source), shards_of(str(path)), how)
    except OSError as error:
        raise DataError(
            f"{error.filename or path}: cannot be read ({error.strerror or error})",
            expected="files and folders that you may read",
            remedy="check the path and its permissions",
        ) from None
    if "://" in str(source) and not str(source).startswith("hf://datasets/"):
        raise DataError(
            f"{source}: an address", expected=FORMATS, remedy="download it, and give the file or the folder"
        )
    if HUB_ID.fullmatch(str(source)) and not path.parent.exists():
        return read_hub(str(source), how)
    raise DataError(
        f"{source}: {'no file and no folder' if path.exists() else 'no such folder or file'}",
        expected=FORMATS,
        remedy="check the path; docs/data.md lists every format with its command",
    )


def read_pairs(
    source: Any,
    *,
    split: str | None = None,
    columns: Columns = None,
    images: str | Path | None = None,
    foils: Foils = None,
    n: int | None = None,
    seed: int = 0,
    strict: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Pairs:
    """Checked pairs of any source that is recognised.

    Parameters
    ----------
    source
        A path, a pattern of shards, the id of a data set of the hub, a `datasets` object, or records in memory: a list
        of mappings or a data frame, whose names of images begin in the working directory or in `images`.
    split
        The one to read, of a source with several; "all" takes every row of a table that has a column of splits.
    columns
        `image=NAME,caption=NAME` (also `id`, `split`), or a mapping, where the names of the columns are not known.
    images
        The folder in which the names of the images begin; None: that of the file, or one beside it.
    foils
        Files or folders of SugarCrepe or VALSE; the pairs are then those images that the foils are about.
    n, seed
        A seeded subset of `n` images; None takes all.
    strict
        Fail if anything is skipped.

    Raises
    ------
    AttentionCollapseError
        For a source that is not recognised, with what was looked for and what it holds; for several splits of which
        none was chosen; for ambiguous columns; if nothing usable is left.

    Examples
    --------
    >>> import tempfile
    >>> from attention_collapse.data.scenes import write_scenes

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = write_scenes(folder, 3, seed=0)
    ...     pairs = read_pairs(folder, n=2)
    >>> pairs.format, pairs.n_listed, len(pairs.pairs), pairs.skipped
    ('COCO layout', 3, 2, [])
    """
    for name, value, least in (("n", n, 1), ("seed", seed, 0)):
        if not (name == "n" and value is None) and (type(value) is not int or value < least):
            raise ParamsError(f"{name} is {value!r}", expected=f"a whole number, {least} or more", remedy="correct it")
    listing = recognise(source, split=split, columns=columns, images=images)
    entries, skipped = list(listing.entries), list(listing.skipped)
    if foils is not None:
        items, faulty = _items(foils)
        skipped += faulty
        entries = with_foils(entries, items, skipped)
    if not entries:
        require_usable([], skipped, strict=strict, where=listing.where)
    chosen = choose(entries, n, seed)
    pairs, unreadable = check_images(chosen, listing.locate(chosen), max_pixels=max_pixels)
    skipped += unreadable
    pairs = with_each_picture_once(pairs, skipped)
    require_usable(pairs, skipped, strict=strict, where=listing.where)
    notes = [*listing.notes]
    if alike := look_alikes(pairs):
        named = listed(f"{one} and {other}" for one, other in alike)
        notes.append(f"images that look the same, and count each: {named}")
    return Pairs(listing.format, listing.where, listing.split, tuple(notes), len(entries), pairs, skipped)


def _items(foils: Foils) -> tuple[list[Item], list[Skipped]]:
    """The hard foils of files and folders, and those that cannot be used."""
    given: Any = [foils] if isinstance(foils, str | os.PathLike) else foils
    if not isinstance(given, Sequence) or not all(isinstance(one, str | os.PathLike | Item) and one for one in given):
        raise ParamsError(f"foils is {foils!r:.60}", expected="a path or several", remedy="correct it")
    items = [one for one in given if isinstance(one, Item)]
    skipped: list[Skipped] = []
    for one in given:
        if isinstance(one, Item):
            continue
        path = Path(one).expanduser()
        files = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if not files:
            raise DataError(
                f"{path}: no *.json in this folder", expected="files of SugarCrepe or VALSE as published",
                remedy="correct --foils",
            )  # fmt: skip
        for file in files:
            found, faulty = read_foils(file)
            items += found
            skipped += faulty
    return items, skipped
