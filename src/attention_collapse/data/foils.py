"""Other people's hard foils: SugarCrepe's and VALSE's files, as they are published, on images of a COCO-layout folder.

The two formats::

    SugarCrepe   {"0": {"filename": …, "caption": …, "negative_caption": …}}; the file's name says what was changed
    VALSE        {"<id>": {"image_file": …, "caption": …, "foil": …, "linguistic_phenomena": …, "mturk": {…}}}

VALSE publishes all of its foils, and calls valid those for which two of three annotators or more took the caption, and
not the foil, to describe the image (`mturk.caption`); the others are left out and named.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from attention_collapse.data.entries import Captioned, Entry, Foil, Skipped, fault_of_foil, is_text, normal
from attention_collapse.errors import DataError
from attention_collapse.files import read_json

VALID_VOTES = 2  # of VALSE's three annotators


@dataclass(frozen=True)
class Item:
    """A caption and its foil, of an image that is named by its file.

    Attributes
    ----------
    name
        The item's name: that of its file, and its key there.

    Examples
    --------
    >>> Item("swap_att/0", "1.jpg", "a red ring", Foil("a blue ring", "swap_att")).foil.caption
    'a blue ring'
    """

    name: str
    file_name: str
    caption: str
    foil: Foil


@dataclass(frozen=True)
class Format:
    """Which fields of an item hold the image's file name, the caption, the foil, and what was changed."""

    image: str
    foil: str
    changed: str | None  # None: the name of the file
    votes: str | None = None

    @property
    def fields(self) -> set[str]:
        """Those that every item has."""
        return {self.image, "caption", self.foil}


SUGARCREPE = Format("filename", "negative_caption", None)
VALSE = Format("image_file", "foil", "linguistic_phenomena", "mturk")


def read_foils(path: Path, name: str | None = None) -> tuple[list[Item], list[Skipped]]:
    """The items of a file of SugarCrepe or VALSE, and those that cannot be used.

    Parameters
    ----------
    name
        The file's published name, where it is stored under another.

    Raises
    ------
    DataError
        If it is a file of another format.

    Examples
    --------
    >>> import tempfile

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file, item = Path(folder, "swap_att.json"), '"filename": "1.jpg", "caption": "a red ring"'
    ...     _ = file.write_text('{"0": {%s, "negative_caption": "a blue ring"}}' % item)
    ...     read_foils(file)[0][0].foil
    Foil(caption='a blue ring', changed='swap_att')
    """
    return items_of(read_json(path), path, name)


def items_of(data: Any, path: Path, name: str | None = None) -> tuple[list[Item], list[Skipped]]:
    """As `read_foils`, of a file's JSON value that was read before.

    Examples
    --------
    >>> item = {"image_file": "1.jpg", "caption": "a ring", "foil": "a cross", "mturk": {"caption": 1}}
    >>> items_of({"7": item}, Path("existence.json"))[1][0].reason
    '1 annotators took the caption alone, 2 make a foil valid'
    """
    stem = PurePosixPath(name or path.name).stem
    known = [one for one in (SUGARCREPE, VALSE) if isinstance(data, Mapping) and _any_fits(data.values(), one)]
    if not known:
        shown = f"an object with keys {', '.join(list(data)[:4])}" if isinstance(data, dict) else type(data).__name__
        raise DataError(
            f"{name or path}: {shown}, and no item of SugarCrepe or VALSE in it",
            expected='{"0": {"filename", "caption", "negative_caption"}} (SugarCrepe), or {"…": {"image_file", '
            '"caption", "foil", "mturk"}} (VALSE)',
            remedy="give the file as published; foils of your own stand in COCO-layout annotations (docs/adding.md)",
        )
    items: list[Item] = []
    skipped: list[Skipped] = []
    for key, item in data.items():
        if fault := _fault(item, known[0]):
            skipped.append(Skipped("foil", f"{stem}/{key}", fault))
            continue
        changed = str(item.get(known[0].changed) or stem) if known[0].changed else stem
        texts = (_first(item[field]) for field in ("caption", known[0].foil))
        caption, foil = texts
        items.append(Item(f"{stem}/{key}", item[known[0].image], caption, Foil(foil, changed)))
    return items, skipped


def _any_fits(items: Iterable[Any], known: Format) -> bool:
    return any(isinstance(item, Mapping) and known.fields <= item.keys() for item in items)


def _first(value: Any) -> Any:
    """A text, also where it stands alone in a list."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _fault(item: Any, known: Format) -> str:
    """Why an item cannot be used; "" if it can, as far as it shows without its image."""
    if not isinstance(item, Mapping) or (lacking := sorted(known.fields - item.keys())):
        return f"the item has no {', '.join(lacking)}" if isinstance(item, Mapping) else "the item is no object"
    if not is_text(item[known.image]):
        return f"{known.image} is no file name"
    if not is_text(_first(item["caption"])):
        return "caption is empty or not text"
    fault = fault_of_foil(_first(item[known.foil]), _first(item["caption"]), (), ())
    return fault or (_fault_of_votes(item, known.votes) if known.votes else "")


def _fault_of_votes(item: Mapping[str, Any], field: str) -> str:
    votes = item.get(field)
    for_caption = votes.get("caption") if isinstance(votes, Mapping) else None
    if not isinstance(for_caption, int):
        return f"no {field}.caption, the annotators' votes for the caption"
    few = for_caption < VALID_VOTES
    return f"{for_caption} annotators took the caption alone, {VALID_VOTES} make a foil valid" if few else ""


def with_foils(entries: Sequence[Entry], items: Iterable[Item], skipped: list[Skipped]) -> list[Entry]:
    """The entries that the items are about, with their foils; items that cannot be used are named in `skipped`.

    A caption that the image has keeps its id; another is added, under an id above all others. Images that no item is
    about are left out: they have nothing to say about hard foils.

    Examples
    --------
    >>> entry = Entry(1, "1.jpg", None, None, (7,), ("a red ring",))
    >>> item = Item("swap_att/0", "1.jpg", "a red ring", Foil("a blue ring", "swap_att"))
    >>> with_foils([entry], [item], [])[0].foils
    ((Foil(caption='a blue ring', changed='swap_att'),),)
    """
    by_name: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_name[_plain(entry.file_name)].append(entry)
    captions: dict[int, list[Captioned]] = {entry.image_id: entry.captioned for entry in entries}
    last = known = max((caption_id for entry in entries for caption_id in entry.caption_ids), default=0)
    checked: list[tuple[Item, int]] = []
    for item in items:  # captions first: a foil must not be any of them
        found = by_name.get(_plain(item.file_name), [])
        if len(found) != 1:
            many = f"{len(found)} images are called {item.file_name}" if found else f"no image {item.file_name}"
            skipped.append(Skipped("foil", item.name, f"{many} in the annotations"))
            continue
        own = captions[found[0].image_id]
        if normal(item.caption) not in {normal(text) for _, text, _ in own}:
            last += 1
            own.append((last, item.caption, ()))
        checked.append((item, found[0].image_id))
    for item, image_id in checked:
        own, texts = captions[image_id], [text for _, text, _ in captions[image_id]]
        place = next(index for index, text in enumerate(texts) if normal(text) == normal(item.caption))
        caption_id, text, foils = own[place]
        if fault := fault_of_foil(item.foil.caption, text, texts, foils):
            skipped.append(Skipped("foil", item.name, fault))
        else:
            own[place] = caption_id, text, (*foils, item.foil)
    kept = {image: [item for item in some if item[2] or item[0] <= known] for image, some in captions.items()}
    given = [entry.with_captions(kept[entry.image_id]) for entry in entries]
    return [entry for entry in given if entry.foils]


def _plain(file_name: str) -> str:
    """An image's name without its folder and without the year that COCO wrote before it until 2014."""
    return re.sub(r"^COCO_(train|val)\d{4}_", "", PurePosixPath(file_name).name)
