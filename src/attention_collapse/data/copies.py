"""One picture under several ids: it would count as several observations, and stand for an absent image of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from attention_collapse.data.entries import Skipped
from attention_collapse.files import sha256_bytes

if TYPE_CHECKING:
    from attention_collapse.data.pairs import Pair

SIDE = 16  # cells of a thumbnail, each way
ALIKE = 8  # levels of 255 by which a cell's mean may move when a picture is stored again with loss
PLAIN = 24  # levels; a picture whose cells all differ by less shows nothing by which it could be known


@dataclass(frozen=True)
class Look:
    """What two files of one picture have in common: the hash of its pixels and size, and the means of `SIDE`² cells."""

    pixels: str
    cells: bytes

    @classmethod
    def of(cls, image: Image.Image) -> Look:
        """Of an RGB image."""
        cells = image.resize((SIDE, SIDE), Image.Resampling.BOX)
        return cls(sha256_bytes(f"{image.size}".encode() + image.tobytes()), cells.tobytes())


def without_copies(pairs: Sequence[Pair], skipped: list[Skipped]) -> list[Pair]:
    """The pairs, each picture once: that with the lowest id; the others are named in `skipped`.

    A file stored twice and one stored again without loss have the same pixels. An image whose partner is a copy of
    itself loses the copy, and with it the group.
    """
    first: dict[str, Pair] = {}
    kept = []
    for pair in pairs:
        known = first.setdefault(pair.look.pixels, pair) if pair.look else pair
        if known is pair:
            kept.append(pair)
            continue
        how = "the same file" if known.sha256 == pair.sha256 else "the same pixels in another file"
        name = known.entry.file_name
        reason = f"{pair.entry.file_name} is {how} as image {known.entry.image_id} ({name}), which counts once"
        skipped.append(Skipped("image", str(pair.entry.image_id), reason))
    return kept


def look_alikes(pairs: Sequence[Pair]) -> list[tuple[int, int]]:
    """Ids of images that are probably one picture, stored again with loss or in another size.

    All cells agree within `ALIKE`, and the picture shows something. These are named and not left out: two pictures that
    differ in a small thing look alike too. Partners are never among them.
    """
    looks = [(pair.entry, pair.look, pair.width / pair.height) for pair in pairs if pair.look is not None]
    if len(looks) < 2:
        return []
    cells = np.array([np.frombuffer(look.cells, np.uint8) for _, look, _ in looks]).astype(np.int16)
    order = np.argsort(cells.mean(axis=1), kind="stable")
    means, found = cells.mean(axis=1)[order], []
    plain = np.ptp(cells.reshape(len(cells), -1, 3), axis=1).max(axis=1) < PLAIN
    for place, index in enumerate(order):
        others = order[place + 1 : np.searchsorted(means, means[place] + ALIKE, side="right")]
        close = others[(np.abs(cells[others] - cells[index]) <= ALIKE).all(axis=1)] if len(others) else others
        for other in close:
            (one, _, shape), (two, _, shape_of_two) = looks[index], looks[other]
            grouped = one.partner == two.image_id or two.partner == one.image_id
            if not grouped and not plain[index] and abs(shape / shape_of_two - 1) < 0.02:
                found.append((min(one.image_id, two.image_id), max(one.image_id, two.image_id)))
    return sorted(found)
