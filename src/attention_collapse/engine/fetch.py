"""Get a study's pairs from the source that its parameters name, each one checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from attention_collapse.data.coco import read_entries
from attention_collapse.data.download import ANNOTATIONS_URL, Fetcher, pinned_url
from attention_collapse.data.entries import Skipped
from attention_collapse.data.foils import Item, read_foils, with_foils
from attention_collapse.data.pairs import (
    Pair,
    check_images,
    choose,
)
from attention_collapse.errors import DataError
from attention_collapse.files import read_json, sha256_file
from attention_collapse.params import FetchCoco


def download(
    params: FetchCoco, pinned: Path, fetcher: Fetcher, foils: Sequence[Item] | None = None
) -> tuple[list[Pair], list[Skipped], Path]:
    """COCO val2017 pairs through the cache; whatever a committed manifest already pins must come unchanged.

    With `foils`, the pairs are drawn from those that the foils are about.
    """
    known = read_json(pinned) if pinned.is_file() else {}
    pins = {image["id"]: image["sha256"] for image in known.get("images", []) if image["url"]}
    annotations = fetcher.fetch_annotations(
        params.annotations_url or ANNOTATIONS_URL, known.get("official_annotations_sha256")
    )
    entries, skipped = read_entries(annotations)
    if foils is not None:
        entries = with_foils(entries, foils, skipped)
    chosen = choose(entries, params.n, params.seed)
    paths, gone = fetcher.fetch_images(chosen, pins)
    available = [entry for entry in chosen if entry.image_id in paths]
    pairs, unreadable = check_images(available, lambda entry: paths[entry.image_id], max_pixels=params.max_pixels)
    return pairs, skipped + gone + unreadable, annotations


def foils_of(
    sources: Iterable[str], pinned: Path, fetcher: Fetcher
) -> tuple[list[Item], list[Skipped], list[dict[str, Any]]]:
    """The foils in some files, folders and URLs, what of them cannot be used, and what the manifest says of each file.

    What it says: file, sha256, how many items can be used and how many not; url, where there is one, whose bytes must
    be those that the source itself (`URL#sha256=…`) or else a committed manifest pins.
    """
    known = read_json(pinned) if pinned.is_file() else {}
    pins = {record["url"]: record["sha256"] for record in known.get("foils", []) if "url" in record}
    items: list[Item] = []
    skipped: list[Skipped] = []
    records = []
    for source in sources:
        for name, path, url in _files(source, pins, fetcher):
            found, faulty = read_foils(path, name)
            items += found
            skipped += faulty
            record = {"file": name, "sha256": sha256_file(path), "n": len(found), "n_skipped": len(faulty)}
            records.append(record | url)
    return items, skipped, records


def _files(source: str, pins: Mapping[str, str], fetcher: Fetcher) -> list[tuple[str, Path, dict[str, str]]]:
    """Name, path, and `url` if there is one, of each file that a source stands for."""
    if source.startswith(("http://", "https://")):
        url, sha256 = pinned_url(source)
        return [(PurePosixPath(urlsplit(url).path).name, fetcher.fetch(url, sha256 or pins.get(url)), {"url": url})]
    path = Path(source)
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise DataError(
            f"{path}: no *.json in this folder",
            expected="the files of SugarCrepe or VALSE as published",
            remedy="correct fetch_coco.foils in the study's parameters",
        )
    return [(file.name, file, {}) for file in files]
