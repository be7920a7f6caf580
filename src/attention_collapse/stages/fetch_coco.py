"""Stage fetch_coco: get a study's pairs, check each one, and write them out in COCO's layout with a manifest."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from attention_collapse.data.coco import find_annotations, image_folder
from attention_collapse.data.convert import folder_name
from attention_collapse.data.download import Fetcher, default_cache
from attention_collapse.data.entries import Skipped
from attention_collapse.data.foils import Item
from attention_collapse.data.pairs import (
    manifest,
    read_folder,
    require_usable,
    with_each_picture_once,
    write_study,
)
from attention_collapse.data.scenes import write_scenes
from attention_collapse.data.source import read_pairs
from attention_collapse.engine.fetch import download, foils_of
from attention_collapse.files import sha256_file, write_json
from attention_collapse.stages.run import run_stage
from attention_collapse.study.layout import Study, evidence_of


def fetch(study: Study, fetcher: Fetcher) -> None:
    """Get the pairs from the source the parameters name; write `pairs/` and `manifest.json`."""
    params = study.params.fetch_coco
    official: dict[str, Any] = {}
    foils: list[Item] | None = None
    faulty: list[Skipped] = []
    if params.foils is not None:
        foils, faulty, official["foils"] = foils_of(params.foils, study.manifest, fetcher)
    with tempfile.TemporaryDirectory() as scratch:
        if params.source == "val2017":
            pairs, skipped, file = download(params, study.manifest, fetcher, foils)
            split = "val2017"
            official["official_annotations_sha256"] = sha256_file(file)
            pairs = with_each_picture_once(pairs, skipped)
        elif params.source == "folder":
            read = read_pairs(
                params.path, split=params.split, columns=params.columns, images=params.images, n=params.n,
                seed=params.seed, max_pixels=params.max_pixels, foils=foils,
            )  # fmt: skip
            pairs, skipped, split = read.pairs, read.skipped, folder_name(read.split)
            official["recognised_as"] = {"format": read.format, "split": read.split}
        else:
            root = Path(scratch)
            write_scenes(root, params.n or 0, params.seed)
            pairs, skipped = read_folder(root, max_pixels=params.max_pixels)
            split = image_folder(find_annotations(root)).name
        skipped = faulty + skipped
        require_usable(pairs, skipped, strict=params.strict, where=f"study {study.params.study}")
        annotations = write_study(study.pairs, split, pairs)
        record = manifest(study.params.study, params.source, annotations, pairs, skipped) | official
    used = params.model_dump(exclude={"path", "split", "columns", "images", "annotations_url", "foils"})
    record["evidence_id"] = evidence_of("fetch_coco", used, {"annotations": record["annotations"]["sha256"]})
    write_json(study.manifest, record)
    print(f"{len(pairs)} images, {record['n_captions']} captions, {len(skipped)} skipped -> {study.manifest}")
    if found := record.get("n_foils"):
        print(f"  {found} hard foils")
    for item in skipped[:10]:
        print(f"  skipped {item.kind} {item.id}: {item.reason}")
    if len(skipped) > 10:
        print(f"  … and {len(skipped) - 10} more, all in {study.manifest}")


def main(study: Study) -> None:
    """Run the stage with the user's download cache."""
    fetch(study, Fetcher(default_cache()))


if __name__ == "__main__":
    run_stage(main)
