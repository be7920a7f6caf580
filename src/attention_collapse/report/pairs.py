"""What a source of pairs is, in words: for `attention-collapse pairs show` and `pairs convert`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from attention_collapse.data.entries import Entry, Skipped
from attention_collapse.data.formats.listing import Listing
from attention_collapse.data.images import UnusableImageError
from attention_collapse.data.source import Pairs

LISTED = 10  # skipped items that are printed
SHOWN = 3  # images that are shown with their captions


def skipped_lines(skipped: Sequence[Skipped], limit: int = LISTED) -> list[str]:
    """How many items of each kind were skipped, the first of them with their reasons, and how many more there are."""
    if not skipped:
        return ["nothing skipped"]
    counts = Counter(item.kind for item in skipped)
    lines = ["skipped: " + ", ".join(f"{count:,} {kind}{'s' * (count != 1)}" for kind, count in counts.items())]
    lines += [f"  skipped {item.kind} {item.id}: {item.reason}" for item in skipped[:limit]]
    return lines + [f"  … and {len(skipped) - limit:,} more"] * (len(skipped) > limit)


def _counted(entries: Sequence[Entry]) -> str:
    foils = sum(len(some) for entry in entries for some in entry.foils)
    captions = sum(len(entry.captions) for entry in entries)
    return f"{len(entries):,} images, {captions:,} captions" + (f", {foils:,} hard foils" if foils else "")


def _recognised(listing: Listing | Pairs) -> list[str]:
    split = f", split {listing.split}" if listing.split else ""
    return [f"{listing.where}: {listing.format}{split}", *(f"  {note}" for note in listing.notes)]


def shown(listing: Listing) -> str:
    """A source before its images are opened: what it is, how much it lists, and its first items."""
    first = list(listing.entries[:SHOWN])
    path_of = listing.locate(first)
    lines = [*_recognised(listing), f"{_counted(listing.entries)} (no image was opened yet)"]
    for entry in first:
        try:
            absent = "" if path_of(entry).is_file() else "   (no such file)"
        except UnusableImageError as error:
            absent = f"   ({error.reason})"
        lines.append(f"  image {entry.image_id}  {entry.file_name}{absent}")
        lines += [f"    {caption}" for caption in entry.captions[:SHOWN]]
        lines += [f"    … and {len(entry.captions) - SHOWN} more captions"] * (len(entry.captions) > SHOWN)
    return "\n".join([*lines, *skipped_lines(listing.skipped)])


def converted(pairs: Pairs, out: object) -> str:
    """What a conversion wrote and what it left out."""
    counted = _counted([pair.entry for pair in pairs.pairs])
    return "\n".join([*_recognised(pairs), *skipped_lines(pairs.skipped), f"{counted} written to {out}"])
