"""The pairs that a study's costs are counted on: its own where they are there, else as many as its source is known for.

What stands in for pairs that are not fetched has as many captions and hard foils as theirs and captions as long; only
its words mean nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from attention_collapse.data.download import pinned_url
from attention_collapse.data.entries import Entry, Foil
from attention_collapse.data.pairs import Pair, read_folder, read_study, table
from attention_collapse.data.scenes import write_scenes
from attention_collapse.errors import ParamsError
from attention_collapse.files import read_json
from attention_collapse.params import FetchCoco

if TYPE_CHECKING:
    from datasets import Dataset

IMAGES = 5_000  # of val2017
CONTROL_TOKENS = 2  # start and end, which the committed lengths count
FOIL_WORD = "other"


@dataclass(frozen=True)
class PlannedPairs:
    """A table of `data.pairs.table`, where it is from in words, and whether it is the study's own."""

    table: Dataset
    source: str
    own: bool


def planned_pairs(
    fetch: FetchCoco, *, pairs: Path, manifest: Path, lengths: Path, foils: Path, where: str
) -> PlannedPairs:
    """The pairs of a study, without fetching any.

    Parameters
    ----------
    fetch
        What the study fetches.
    pairs, manifest
        Its pairs, and the manifest that pins them; either may be absent.
    lengths, foils
        Committed counts of COCO val2017's captions and of SugarCrepe's foils.
    where
        The parameter file, for messages.

    Raises
    ------
    ParamsError
        The pairs are not there, and nothing says how many there will be.
    """
    if pairs.is_dir() and manifest.is_file():
        return PlannedPairs(read_study(pairs, manifest), f"the fetched pairs in {pairs}", True)
    if fetch.source == "embedded":
        with tempfile.TemporaryDirectory() as folder:
            write_scenes(Path(folder), fetch.n or 0, fetch.seed)
            made = table(read_folder(Path(folder))[0], fetch.source)
        return PlannedPairs(made, f"fetch_coco in {where}: the scenes that it renders", True)
    if fetch.source == "folder":
        raise ParamsError(
            f"{where}: the pairs of {fetch.path} are not fetched, and nothing else says what they are",
            expected=f"the fetched pairs in {pairs}",
            remedy="fetch them first: `dvc repro fetch_coco`, for the study's own dvc.yaml",
        )
    return _of_val2017(fetch, read_json(lengths), read_json(foils) if fetch.foils else None, where)


def _of_val2017(
    fetch: FetchCoco, known: Mapping[str, Any], foiled: Mapping[str, Any] | None, where: str
) -> PlannedPairs:
    """As many images as are asked for, with captions (and foils) as all of val2017 (of SugarCrepe) have them."""
    images, captions = IMAGES, known["n_captions"]
    if foiled is not None:
        if {PurePosixPath(pinned_url(name)[0]).name for name in fetch.foils or ()} != set(foiled["files"]):
            raise ParamsError(
                f"{where}: the pairs are not fetched, and nothing says what foils {', '.join(fetch.foils or ())} hold",
                expected=f"SugarCrepe's {len(foiled['files'])} files, whose counts are committed, or fetched pairs",
                remedy="fetch the pairs first: `dvc repro fetch_coco`, for the study's own dvc.yaml",
            )
        images, captions = foiled["n_images"], foiled["n_captions"]
    n = fetch.n or images
    if n > images:
        raise ParamsError(
            f"{where}: fetch_coco.n is {n}, and there are {images:,} such images",
            expected=f"n between 1 and {images}, or null for all of them",
            remedy="correct fetch_coco.n",
        )
    per_image = _spread(n, captions / images)
    words = _as_counted(known["n_tokens"], sum(per_image)) - CONTROL_TOKENS
    own_foils = [0] * n if foiled is None else _as_counted(foiled["foils_of_first_captions"], n).tolist()
    entries, start = [], 0
    for image, (count, more) in enumerate(zip(per_image, own_foils, strict=True)):
        texts = tuple(" ".join([str(start + k)] * max(int(words[start + k]), 1)) for k in range(count))
        made = tuple(Foil(f"{texts[0]} {FOIL_WORD} {k}", "") for k in range(more))
        ids = tuple(range(start, start + count))
        entries.append(Entry(image, "", None, None, ids, texts, (made, *((),) * (count - 1)) if made else ()))
        start += count
    rows = [Pair(entry, Path(), str(entry.image_id), 0, 0, 0, ()) for entry in entries]
    with_foils = f" that SugarCrepe is about ({images:,} of them)" if foiled else ""
    said = (
        f"fetch_coco in {where}, not fetched yet: images of val2017{with_foils}, as many captions and foils as counted"
    )
    return PlannedPairs(table(rows, fetch.source), said, False)


def _spread(n: int, each: float) -> list[int]:
    """Whole numbers of `n` images that add to n · `each`, rounded."""
    edges = np.floor(np.arange(n + 1) * each + 0.5).astype(int)
    return [int(count) for count in np.diff(edges)]


def _as_counted(histogram: Mapping[str, int], n: int) -> np.ndarray:
    """(n,) numbers distributed as a histogram (number -> how often), in an order that means nothing."""
    numbers = np.array([int(number) for number in histogram])
    order = np.argsort(numbers)
    ends = np.cumsum(np.array(list(histogram.values()))[order])
    places = np.searchsorted(ends, (np.arange(n) + 0.5) / n * ends[-1])
    drawn: np.ndarray = np.random.default_rng(0).permutation(numbers[order][places])
    return drawn
