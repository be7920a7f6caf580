"""COCO's caption layout, the data contract of every study.

    <root>/annotations/captions_<split>.json      {"images": [...], "annotations": [...], "licenses": [...]}
    <root>/<split>/<file_name>                    or <root>/images/<file_name>

`read_entries` never drops anything silently: what cannot be used comes back as `Skipped` with its reason.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from attention_collapse.errors import DataError
from attention_collapse.files import read_json


@dataclass(frozen=True)
class Skipped:
    """An image or caption left out, and why."""

    kind: str  # "image" or "caption"
    id: str
    reason: str


@dataclass(frozen=True)
class Entry:
    """One image of the annotation file with the captions that can be used."""

    image_id: int
    file_name: str
    url: str | None
    license: str | None
    caption_ids: tuple[int, ...]
    captions: tuple[str, ...]


def find_annotations(root: Path) -> Path:
    """The one `annotations/captions_*.json` below a COCO-layout folder."""
    found = sorted((root / "annotations").glob("captions_*.json")) if root.is_dir() else []
    if len(found) == 1:
        return found[0]
    got = "no such folder" if not root.is_dir() else f"{len(found)} files match annotations/captions_*.json"
    raise DataError(
        f"{root}: {got}{': ' + ', '.join(path.name for path in found) if found else ''}",
        expected="a COCO-layout folder with exactly one annotations/captions_<split>.json",
        remedy="give the folder that holds `annotations/`, with the captions of one split in it",
    )


def image_folder(annotations: Path) -> Path:
    """Where the images of an annotation file lie: `<root>/<split>`, else `<root>/images`."""
    root = annotations.parent.parent
    split = annotations.stem.removeprefix("captions_")
    for folder in (root / split, root / "images"):
        if folder.is_dir():
            return folder
    raise DataError(
        f"{root}: neither {split}/ nor images/ is there",
        expected=f"the images of {annotations.name} in one of these folders",
        remedy="put the image files there, under the names that the annotation file gives",
    )


def safe_file_name(name: object) -> bool:
    """True for a relative file name that stays inside its folder."""
    if not isinstance(name, str) or not name or not _is_unicode(name) or "\\" in name or "\0" in name or ":" in name:
        return False
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63  # tables hold 64 bits


def _is_unicode(text: str) -> bool:
    """False for a lone surrogate, which JSON can spell and UTF-8 cannot."""
    return text.encode("utf-8", "ignore").decode("utf-8") == text


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


def _captions_by_image(records: list[dict[str, Any]], skipped: list[Skipped]) -> dict[int, list[tuple[int, str]]]:
    repeated = _repeated(records)
    by_image: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for record in records:
        caption_id: Any = record.get("id")
        text = record.get("caption")
        if not _is_id(caption_id) or not _is_id(record.get("image_id")):
            skipped.append(Skipped("caption", str(caption_id), "id or image_id is not a 64-bit integer"))
        elif str(caption_id) in repeated:
            skipped.append(Skipped("caption", str(caption_id), "duplicate caption id; which one is meant is unknown"))
        elif not isinstance(text, str) or not text.strip() or not _is_unicode(text):
            skipped.append(Skipped("caption", str(caption_id), "caption is empty or not text"))
        else:
            by_image[record["image_id"]].append((caption_id, text))
    return by_image


def read_entries(annotations: Path) -> tuple[list[Entry], list[Skipped]]:
    """Read an annotation file; entries sorted by image id, captions by caption id."""
    data = read_json(annotations)
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
        if not _is_id(image_id):
            skipped.append(Skipped("image", str(image_id), "id is not a 64-bit integer"))
            continue
        known.add(image_id)
        captions = sorted(by_image.get(image_id, []))
        if str(image_id) in repeated:
            reason = "duplicate image id; which one is meant is unknown"
        elif not safe_file_name(name):
            reason = f"file name {name!r} is not a plain path inside the image folder"
        elif not captions:
            reason = "no usable caption"
        else:
            url, licence = record.get("coco_url"), licences.get(str(record.get("license")))
            ids, texts = zip(*captions, strict=True)
            entries.append(Entry(image_id, str(name), str(url) if url else None, licence, ids, texts))
            continue
        skipped.append(Skipped("image", str(image_id), reason))
    for image_id in sorted(by_image.keys() - known):
        for caption_id, _ in by_image[image_id]:
            skipped.append(Skipped("caption", str(caption_id), f"its image {image_id} is not listed"))
    return sorted(entries, key=lambda entry: entry.image_id), skipped
