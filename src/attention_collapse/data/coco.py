"""COCO's caption layout, the data contract of every study.

The files::

    <root>/annotations/captions_<split>.json      {"images": [...], "annotations": [...], "licenses": [...]}
    <root>/<split>/<file_name>                    or <root>/images/<file_name>

Beyond COCO, an annotation may hold `"foils": [{"caption": …, "changed": …}]`, alternatives with one thing changed that
are false of the image, and an image `"partner": <id>`, the other image of its group of two images and two captions.

`read_entries` never drops anything silently: what cannot be used comes back as `Skipped` with its reason.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from attention_collapse.data.entries import (
    Captioned,
    Entry,
    Foil,
    Skipped,
    fault_of_file_name,
    fault_of_foil,
    fault_of_id,
    is_id,
    is_text,
    without_lost_partners,
)
from attention_collapse.errors import DataError
from attention_collapse.files import read_json


def find_annotations(root: Path, split: str | None = None) -> Path:
    """The `annotations/captions_<split>.json` below a COCO-layout folder; without a split, the only one there is.

    Examples
    --------
    >>> import tempfile

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, "annotations").mkdir()
    ...     Path(folder, "annotations", "captions_val.json").touch()
    ...     find_annotations(Path(folder)).name
    'captions_val.json'
    """
    found = sorted((root / "annotations").glob("captions_*.json")) if root.is_dir() else []
    fitting = [path for path in found if split in (None, path.stem.removeprefix("captions_"))]
    if len(fitting) == 1:
        return fitting[0]
    got = "no such folder" if not root.is_dir() else f"{len(found)} files match annotations/captions_*.json"
    splits = ", ".join(path.stem.removeprefix("captions_") for path in found)
    raise DataError(
        f"{root}: {f'no split {split!r}; ' if split is not None and found else ''}{got}"
        f"{': ' + ', '.join(path.name for path in found) if found else ''}",
        expected="a COCO-layout folder with one annotations/captions_<split>.json, or the name of a split",
        remedy=f"choose with --split: {splits} (`split` in Python and in params.yaml)" if found
        else "give the folder that holds `annotations/`",
    )  # fmt: skip


def image_folder(annotations: Path) -> Path:
    """Where the images of an annotation file lie: `<root>/<split>`, `<root>/images/<split>`, else `<root>/images`.

    Examples
    --------
    >>> import tempfile

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, "val").mkdir()
    ...     image_folder(Path(folder, "annotations", "captions_val.json")).name
    'val'
    """
    root = annotations.parent.parent
    split = annotations.stem.removeprefix("captions_")
    for folder in (root / split, root / "images" / split, root / "images"):
        if folder.is_dir():
            return folder
    raise DataError(
        f"{root}: neither {split}/ nor images/ is there",
        expected=f"the images of {annotations.name} in one of these folders",
        remedy="put the image files there, under the names that the annotation file gives",
    )


def _records(path: Path, data: Any, key: str) -> list[dict[str, Any]]:
    records = data.get(key) if isinstance(data, dict) else None
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise DataError(
            f"{path}: no list of records under {key!r}",
            expected='COCO caption annotations: {"images": [...], "annotations": [...]}',
            remedy="give a captions_<split>.json in COCO's layout",
        )
    if not records:
        raise DataError(
            f"{path}: {key!r} is empty", expected="at least one record", remedy="give an annotation file with pairs"
        )
    return records


def _repeated(records: list[dict[str, Any]]) -> set[Any]:
    return {key for key, count in Counter(str(record.get("id")) for record in records).items() if count > 1}


def _captions_by_image(records: list[dict[str, Any]], skipped: list[Skipped]) -> dict[int, list[tuple[int, str, Any]]]:
    """Image id -> id, caption and `foils` as given of each usable caption."""
    repeated = _repeated(records)
    by_image: dict[int, list[tuple[int, str, Any]]] = defaultdict(list)
    for record in records:
        caption_id: Any = record.get("id")
        text = record.get("caption")
        if faults := [fault for key in ("id", "image_id") if (fault := fault_of_id(key, record.get(key)))]:
            skipped.append(Skipped("caption", str(caption_id), "; ".join(faults)))
        elif str(caption_id) in repeated:
            skipped.append(Skipped("caption", str(caption_id), "duplicate caption id; which one is meant is unknown"))
        elif not is_text(text):
            skipped.append(Skipped("caption", str(caption_id), "caption is empty or not text"))
        else:
            by_image[record["image_id"]].append((caption_id, str(text), record.get("foils")))
    return by_image


def _with_foils(captions: list[tuple[int, str, Any]], skipped: list[Skipped]) -> list[Captioned]:
    """An image's captions with those of their foils that can be used."""
    found: list[Captioned] = []
    texts = [text for _, text, _ in captions]
    for caption_id, text, given in captions:
        foils: list[Foil] = []
        listed = given if isinstance(given, list) else []
        if given is not None and not isinstance(given, list):
            skipped.append(Skipped("foil", str(caption_id), 'foils is no list of {"caption": …, "changed": …}'))
        for number, item in enumerate(listed, start=1):
            foil, changed = (item.get(key) if isinstance(item, dict) else None for key in ("caption", "changed"))
            if fault := fault_of_foil(foil, text, texts, foils):
                skipped.append(Skipped("foil", f"{caption_id}, foil {number}", fault))
            else:
                foils.append(Foil(str(foil), str(changed) if is_text(changed) else ""))
        found.append((caption_id, text, tuple(foils)))
    return found


def read_entries(annotations: Path) -> tuple[list[Entry], list[Skipped]]:
    """Read an annotation file; entries sorted by image id, captions as `Entry` says.

    Examples
    --------
    >>> import tempfile
    >>> from attention_collapse.data.scenes import write_scenes

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     entries, skipped = read_entries(write_scenes(folder, 2, seed=0))
    >>> [len(entry.captions) for entry in entries], skipped
    ([5, 5], [])
    """
    return read_annotations(annotations, read_json(annotations))


def read_annotations(annotations: Path, data: Any) -> tuple[list[Entry], list[Skipped]]:
    """As `read_entries`, of a file's JSON value that was read before.

    Examples
    --------
    >>> captions = [{"id": 7, "image_id": 1, "caption": "a ring"}, {"id": 8, "image_id": 2, "caption": "a cross"}]
    >>> data = {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": captions}
    >>> entries, skipped = read_annotations(Path("captions_val.json"), data)
    >>> entries[0].captions, skipped[0].reason
    (('a ring',), 'its image 2 is not listed')
    """
    images = _records(annotations, data, "images")
    if not any("caption" in record for record in _records(annotations, data, "annotations")):
        raise DataError(
            f"{annotations}: the annotations hold no captions",
            expected='records with a "caption" text',
            remedy="give captions_<split>.json; instances_*.json and person_keypoints_*.json hold none",
        )
    licences = {
        str(licence.get("id")): licence.get("url") or licence.get("name")
        for licence in (data.get("licenses") if isinstance(data.get("licenses"), list) else [])
        if isinstance(licence, dict)
    }
    skipped: list[Skipped] = []
    by_image = _captions_by_image(data["annotations"], skipped)
    repeated, entries, known = _repeated(images), [], set()
    for record in images:
        image_id: Any = record.get("id")
        name = record.get("file_name")
        if not is_id(image_id):
            skipped.append(Skipped("image", str(image_id), fault_of_id("id", image_id)))
            continue
        known.add(image_id)
        captions = by_image.get(image_id, [])
        partner = record.get("partner")
        if str(image_id) in repeated:
            reason = "duplicate image id; which one is meant is unknown"
        elif fault := fault_of_file_name(name):
            reason = fault
        elif not captions:
            reason = "no usable caption"
        else:
            url, licence = record.get("coco_url"), licences.get(str(record.get("license")))
            if partner is not None and (fault := fault_of_id("partner", partner)):
                skipped.append(Skipped("partner", str(image_id), fault))
            entry = Entry(image_id, str(name), str(url) if url else None, licence, (), ())
            entry = replace(entry, partner=partner if is_id(partner) else None)
            entries.append(entry.with_captions(_with_foils(captions, skipped)))
            continue
        skipped.append(Skipped("image", str(image_id), reason))
    for image_id in sorted(by_image.keys() - known):
        for caption_id, *_ in by_image[image_id]:
            skipped.append(Skipped("caption", str(caption_id), f"its image {image_id} is not listed"))
    ordered = sorted(entries, key=lambda entry: entry.image_id)
    return without_lost_partners(ordered, skipped), skipped
