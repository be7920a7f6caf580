"""Stage fetch_coco: get a study's pairs, check each one, and write them out in COCO's layout with a manifest."""

from __future__ import annotations

import tempfile
from pathlib import Path

from attention_collapse.data.coco import Skipped, find_annotations, image_folder, read_entries
from attention_collapse.data.download import ANNOTATIONS_URL, Fetcher, default_cache
from attention_collapse.data.pairs import (
    Pair,
    check_images,
    choose,
    manifest,
    read_folder,
    require_usable,
    write_study,
)
from attention_collapse.data.scenes import write_coco
from attention_collapse.files import read_json, sha256_file, write_json
from attention_collapse.params import FetchCoco
from attention_collapse.stages.layout import Study, evidence_of, run_stage


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


def fetch(study: Study, fetcher: Fetcher) -> None:
    """Get the pairs from the source the parameters name; write `pairs/` and `manifest.json`."""
    params = study.params.fetch_coco
    official: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as scratch:
        if params.source == "val2017":
            pairs, skipped, file = download(params, study.manifest, fetcher)
            split = "val2017"
            official = {"official_annotations_sha256": sha256_file(file)}
        else:
            root = Path(params.path or "")
            if params.source == "embedded":
                root = Path(scratch)
                write_coco(root, params.n or 0, params.seed)
            n = params.n if params.source == "folder" else None
            pairs, skipped = read_folder(root, n=n, seed=params.seed, max_pixels=params.max_pixels)
            split = image_folder(find_annotations(root)).name
        require_usable(pairs, skipped, strict=params.strict, where=f"study {study.params.study}")
        annotations = write_study(study.pairs, split, pairs)
        record = manifest(study.params.study, params.source, annotations, pairs, skipped) | official
    used = params.model_dump(exclude={"path", "annotations_url"})
    record["evidence_id"] = evidence_of("fetch_coco", used, {"annotations": record["annotations"]["sha256"]})
    write_json(study.manifest, record)
    print(f"{len(pairs)} images, {record['n_captions']} captions, {len(skipped)} skipped -> {study.manifest}")
    for item in skipped[:10]:
        print(f"  skipped {item.kind} {item.id}: {item.reason}")


def main(study: Study) -> None:
    """Run the stage with the user's download cache."""
    fetch(study, Fetcher(default_cache()))


if __name__ == "__main__":
    run_stage(main)
