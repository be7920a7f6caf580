"""Get a study's pairs from the source that its parameters name, each one checked."""

from __future__ import annotations

from pathlib import Path

from attention_collapse.data.coco import Skipped, read_entries
from attention_collapse.data.download import ANNOTATIONS_URL, Fetcher
from attention_collapse.data.pairs import (
    Pair,
    check_images,
    choose,
)
from attention_collapse.files import read_json
from attention_collapse.params import FetchCoco


def download(params: FetchCoco, pinned: Path, fetcher: Fetcher) -> tuple[list[Pair], list[Skipped], Path]:
    """COCO val2017 pairs through the cache; whatever a committed manifest already pins must come unchanged."""
    known = read_json(pinned) if pinned.is_file() else {}
    pins = {image["id"]: image["sha256"] for image in known.get("images", []) if image["url"]}
    annotations = fetcher.fetch_annotations(
        params.annotations_url or ANNOTATIONS_URL, known.get("official_annotations_sha256")
    )
    entries, skipped = read_entries(annotations)
    chosen = choose(entries, params.n, params.seed)
    paths, gone = fetcher.fetch_images(chosen, pins)
    available = [entry for entry in chosen if entry.image_id in paths]
    pairs, unreadable = check_images(available, lambda entry: paths[entry.image_id], max_pixels=params.max_pixels)
    return pairs, skipped + gone + unreadable, annotations
