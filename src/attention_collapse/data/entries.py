"""What a source of pairs gives: images with captions and foils, what was left out and why, and what can be none."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath


@dataclass(frozen=True)
class Skipped:
    """An image, a caption, a foil or a partner left out, and why.

    Examples
    --------
    >>> Skipped("caption", "7", "caption is empty or not text").reason
    'caption is empty or not text'
    """

    kind: str  # "image", "caption", "foil" or "partner"
    id: str
    reason: str


@dataclass(frozen=True)
class Foil:
    """A caption with one thing changed, so that it is false of its image.

    Attributes
    ----------
    changed
        What was changed, such as "colour" or "swap_att"; "" where the file does not say.

    Examples
    --------
    >>> Foil("a blue ring", "colour").changed
    'colour'
    """

    caption: str
    changed: str


@dataclass(frozen=True)
class Entry:
    """One image of the annotation file with the captions that can be used, those with more foils first, then by id.

    Attributes
    ----------
    foils
        A tuple per caption, or none at all where no caption has a foil.
    partner
        The id of the other image of its group, or None.

    Examples
    --------
    >>> entry = Entry(1, "1.jpg", None, None, (4, 5), ("a ring", "a red ring"))
    >>> entry.with_captions([(4, "a ring", ()), (5, "a red ring", (Foil("a blue ring", "colour"),))]).captions
    ('a red ring', 'a ring')
    """

    image_id: int
    file_name: str
    url: str | None
    license: str | None
    caption_ids: tuple[int, ...]
    captions: tuple[str, ...]
    foils: tuple[tuple[Foil, ...], ...] = ()
    partner: int | None = None

    @property
    def captioned(self) -> list[Captioned]:
        """Each caption with its id and its foils."""
        return list(zip(self.caption_ids, self.captions, self.foils or ((),) * len(self.captions), strict=True))

    def with_captions(self, captioned: Iterable[Captioned]) -> Entry:
        """The entry with these captions instead, in their order."""
        ids, texts, foils = zip(*sorted(captioned, key=lambda item: (-len(item[2]), item[0])), strict=True)
        return replace(self, caption_ids=ids, captions=texts, foils=foils if any(foils) else ())


Captioned = tuple[int, str, tuple[Foil, ...]]  # id, caption, foils


def normal(text: str) -> str:
    """A caption in the form in which captions are compared: without regard to case and to the width of spaces.

    Examples
    --------
    >>> normal("A  red Ring ")
    'a red ring'
    """
    return " ".join(text.split()).casefold()


def is_text(value: object) -> bool:
    """True for a caption: words that UTF-8 can hold.

    Examples
    --------
    >>> is_text("a ring"), is_text("  "), is_text(7)
    (True, False, False)
    """
    return isinstance(value, str) and bool(value.strip()) and _is_unicode(value)


def fault_of_foil(foil: object, own: str, captions: Collection[str], earlier: Iterable[Foil]) -> str:
    """Why a text cannot be the foil of the caption `own`; "" if it can.

    Parameters
    ----------
    captions
        All of the image's captions, which are true of it.
    earlier
        Foils that the caption has.

    Examples
    --------
    >>> fault_of_foil("A  Ring", "a ring", ["a ring"], [])
    'foil equals its caption'
    >>> fault_of_foil("a cross", "a ring", ["a ring"], [])
    ''
    """
    if not is_text(foil):
        return "foil is empty or not text"
    said = normal(str(foil))
    if said == normal(own):
        return "foil equals its caption"
    if said in {normal(caption) for caption in captions}:
        return "foil equals another caption of its image"
    return "the same foil twice" if said in {normal(other.caption) for other in earlier} else ""


def safe_file_name(name: object) -> bool:
    """True for a relative file name that stays inside its folder.

    Examples
    --------
    >>> safe_file_name("a/1.jpg"), safe_file_name("../1.jpg"), safe_file_name("/1.jpg")
    (True, False, False)
    """
    if not isinstance(name, str) or not name or not _is_unicode(name) or "\\" in name or "\0" in name or ":" in name:
        return False
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def fault_of_file_name(name: object) -> str:
    """Why a name is no `safe_file_name`; "" if it is one.

    Examples
    --------
    >>> fault_of_file_name("../1.jpg")
    "file name '../1.jpg' is not a plain path inside the image folder"
    """
    if safe_file_name(name):
        return ""
    hint = "; \\ is no separator here, write /" if isinstance(name, str) and "\\" in name else ""
    return f"file name {name!r} is not a plain path inside the image folder{hint}"


def is_id(value: object) -> bool:
    """True for a whole number that a table of 64 bits holds.

    Examples
    --------
    >>> is_id(7), is_id("7"), is_id(True), is_id(2**63)
    (True, False, False, False)
    """
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def fault_of_id(key: str, value: object) -> str:
    """Why a value of a JSON file is no id, with the value as it stands there and its type; "" if it is one.

    Examples
    --------
    >>> fault_of_id("id", "7")
    'id "7" is a string, not a 64-bit integer'
    """
    if is_id(value):
        return ""
    kinds = {str: "a string", bool: "true or false", type(None): "null", float: "no whole number", int: "too large"}
    shown, kind = json.dumps(value, ensure_ascii=True, default=str)[:60], kinds.get(type(value), "a list or an object")
    return f"{key} {shown} is {kind}, not a 64-bit integer"


def _is_unicode(text: str) -> bool:
    """False for a lone surrogate, which JSON can spell and UTF-8 cannot."""
    return text.encode("utf-8", "ignore").decode("utf-8") == text


def without_lost_partners(entries: Iterable[Entry], skipped: list[Skipped]) -> list[Entry]:
    """The entries, without partners that are not among them or make no group; those are named in `skipped`.

    Examples
    --------
    >>> alone, skipped = Entry(1, "1.jpg", None, None, (1,), ("a ring",), partner=2), []
    >>> without_lost_partners([alone], skipped)[0].partner, skipped[0].reason
    (None, 'its partner, image 2, is not among the pairs')
    """
    known = {entry.image_id: entry for entry in entries}
    kept = []
    for entry in known.values():
        fault, other = "", known.get(entry.partner) if entry.partner is not None else None
        if entry.partner == entry.image_id:
            fault = "an image is no partner of itself"
        elif entry.partner is not None and other is None:
            fault = f"its partner, image {entry.partner}, is not among the pairs"
        elif other and normal(other.captions[0]) == normal(entry.captions[0]):
            fault = f"its partner, image {entry.partner}, has the same caption"
        if fault:
            skipped.append(Skipped("partner", str(entry.image_id), fault))
        kept.append(replace(entry, partner=None) if fault else entry)
    return kept
