"""From entries of an annotation file to checked pairs, a manifest, and a `datasets` table.

A manifest holds ids, hashes and licences, never captions or pixels, so it can be committed for any data set.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attention_collapse.data.coco import find_annotations, image_folder, read_entries
from attention_collapse.data.copies import Look, without_copies
from attention_collapse.data.entries import Entry, Skipped, without_lost_partners
from attention_collapse.data.foils import Item, with_foils
from attention_collapse.data.images import MAX_PIXELS, UnusableImageError, load_rgb
from attention_collapse.errors import DataError
from attention_collapse.files import json_text, read_json, sha256_bytes, sha256_file, write_text
from attention_collapse.progress import steps

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Pair:
    """One usable image with its captions."""

    entry: Entry
    path: Path
    sha256: str
    bytes: int
    width: int
    height: int
    notes: tuple[str, ...]
    look: Look | None = None  # None where the file is known by its hash and was not decoded


def choose(entries: Sequence[Entry], n: int | None, seed: int) -> list[Entry]:
    """A seeded subset of `n` entries in order of their ids; the subset for a smaller `n` lies inside it.

    Raises DataError if fewer than `n` are there: n never shrinks silently.

    Examples
    --------
    >>> set(choose("abcd", 2, seed=0)) < set(choose("abcd", 3, seed=0)), choose("abcd", None, seed=0)
    (True, ['a', 'b', 'c', 'd'])
    """
    if n is None:
        return list(entries)
    if n < 1 or n > len(entries) or seed < 0:
        raise DataError(
            f"n = {n} with seed {seed}, and {len(entries)} images with captions to choose from",
            expected=f"n between 1 and {len(entries)}, or no n for all (in a params file null); a seed of 0 or more",
            remedy="correct n or seed, or give a larger data set",
        )
    order = np.random.default_rng(seed).permutation(len(entries))[:n]
    return [entries[index] for index in sorted(order)]


def check_images(
    entries: Sequence[Entry], path_of: Callable[[Entry], Path], *, max_pixels: int = MAX_PIXELS, threads: int = 2
) -> tuple[list[Pair], list[Skipped]]:
    """Decode every image once; return the usable pairs, and the others with their reasons.

    A pair whose partner is not among the usable ones has none, and that is among the reasons.
    """

    def check(entry: Entry) -> Pair | Skipped:
        try:
            path = path_of(entry)
            image, notes = load_rgb(path, max_pixels)
        except UnusableImageError as error:
            named = "" if entry.file_name in error.reason else f": {entry.file_name}"
            return Skipped("image", str(entry.image_id), error.reason + named)
        return Pair(
            entry, path, sha256_file(path), path.stat().st_size, image.width, image.height, notes, Look.of(image)
        )

    with ThreadPoolExecutor(threads) as pool:
        results = list(steps(pool.map(check, entries), "checking images", "image", total=len(entries)))
    pairs = [result for result in results if isinstance(result, Pair)]
    skipped = [result for result in results if isinstance(result, Skipped)]
    return _with_found_partners(pairs, skipped), skipped


def _with_found_partners(pairs: Sequence[Pair], skipped: list[Skipped]) -> list[Pair]:
    kept = without_lost_partners([pair.entry for pair in pairs], skipped)
    return [replace(pair, entry=entry) for pair, entry in zip(pairs, kept, strict=True)]


def with_each_picture_once(pairs: Sequence[Pair], skipped: list[Skipped]) -> list[Pair]:
    """The pairs without copies of a picture (`copies.without_copies`), and without partners that were copies."""
    return _with_found_partners(without_copies(pairs, skipped), skipped)


def require_usable(pairs: Sequence[Pair], skipped: Sequence[Skipped], *, strict: bool, where: object) -> None:
    """Raise DataError if nothing is left, or in strict mode if anything was left out."""
    if pairs and not (strict and skipped):
        return
    listing = "; ".join(f"{item.kind} {item.id}: {item.reason}" for item in skipped[:5])
    more = f" and {len(skipped) - 5} more" if len(skipped) > 5 else ""
    raise DataError(
        f"{where}: {len(pairs)} usable images, {len(skipped)} items skipped"
        + (f" ({listing}{more})" if skipped else ""),
        expected="no skipped item under --strict" if pairs else "at least one usable image–caption pair",
        remedy="mend or remove the named items" + (", or run without --strict" if pairs else ""),
    )


def read_folder(
    root: Path, *, n: int | None = None, seed: int = 0, strict: bool = False, max_pixels: int = MAX_PIXELS,
    foils: Sequence[Item] | None = None,
) -> tuple[list[Pair], list[Skipped]]:  # fmt: skip
    """Checked pairs of a COCO-layout folder, used in place; with `foils`, those images that the foils are about.

    Examples
    --------
    >>> import tempfile
    >>> from attention_collapse.data.scenes import write_scenes

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = write_scenes(folder, 3, seed=0)
    ...     [(pair.entry.image_id, pair.width, pair.height) for pair in read_folder(Path(folder))[0]]
    [(1, 64, 64), (2, 64, 64), (3, 64, 64)]
    """
    annotations = find_annotations(root)
    entries, skipped = read_entries(annotations)
    if foils is not None:
        entries = with_foils(entries, foils, skipped)
    folder = image_folder(annotations)
    pairs, unreadable = check_images(
        choose(entries, n, seed), lambda entry: folder / entry.file_name, max_pixels=max_pixels
    )
    skipped += unreadable
    require_usable(pairs, skipped, strict=strict, where=root)
    return pairs, skipped


def write_study(out: Path, split: str, pairs: Sequence[Pair]) -> Path:
    """Lay the pairs out as a self-contained COCO-layout folder; return its annotation file."""
    staging = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    for pair in steps(pairs, "copying images", "image"):
        target = staging / split / pair.entry.file_name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(pair.path, target)  # a hard link would let DVC make the original read-only
    annotations = {
        "images": [
            {
                "id": pair.entry.image_id,
                "file_name": pair.entry.file_name,
                "width": pair.width,
                "height": pair.height,
                "coco_url": pair.entry.url,
                "license": pair.entry.license,
            }
            | ({} if pair.entry.partner is None else {"partner": pair.entry.partner})
            for pair in pairs
        ],
        "licenses": [
            {"id": licence, "url": licence} for licence in sorted({pair.entry.license or "unknown" for pair in pairs})
        ],
        "annotations": [
            {"id": caption_id, "image_id": pair.entry.image_id, "caption": caption}
            | ({"foils": [asdict(foil) for foil in foils]} if foils else {})
            for pair in pairs
            for caption_id, caption, foils in pair.entry.captioned
        ],
    }
    file = staging / "annotations" / f"captions_{split}.json"
    write_text(file, json_text(annotations))
    shutil.rmtree(out, ignore_errors=True)
    staging.replace(out)
    return out / "annotations" / file.name


def _beyond_coco(entry: Entry) -> dict[str, Any]:
    """What a manifest pins of an image's foils and partner; what is absent has no key."""
    pinned: dict[str, Any] = {}
    if entry.foils:
        said = [[caption_id, [asdict(foil) for foil in foils]] for caption_id, _, foils in entry.captioned]
        pinned = {"n_foils": sum(map(len, entry.foils)), "foils_sha256": sha256_bytes(json_text(said).encode("utf-8"))}
    return pinned | ({} if entry.partner is None else {"partner": entry.partner})


def manifest(
    study: str, source: str, annotations: Path, pairs: Sequence[Pair], skipped: Sequence[Skipped]
) -> dict[str, Any]:
    """What a study's pairs are, in hashes: the committed record of `fetch_coco`."""
    return {
        "study": study,
        "source": source,
        "annotations": {
            "file": annotations.name,
            "sha256": sha256_file(annotations),
            "bytes": annotations.stat().st_size,
        },
        "n_images": len(pairs),
        "n_captions": sum(len(pair.entry.captions) for pair in pairs),
        "n_skipped": len(skipped),
        "skipped": [asdict(item) for item in sorted(skipped, key=lambda item: (item.kind, item.id, item.reason))],
        "images": [
            {
                "id": pair.entry.image_id,
                "file_name": pair.entry.file_name,
                "url": pair.entry.url,
                "license": pair.entry.license,
                "sha256": pair.sha256,
                "bytes": pair.bytes,
                "width": pair.width,
                "height": pair.height,
                "caption_ids": pair.entry.caption_ids,
                "captions_sha256": sha256_bytes("\n".join(pair.entry.captions).encode("utf-8")),
                "notes": pair.notes,
            }
            | _beyond_coco(pair.entry)
            for pair in pairs
        ],
    } | ({"n_foils": n_foils} if (n_foils := sum(map(_count_foils, pairs))) else {})


def _count_foils(pair: Pair) -> int:
    return sum(map(len, pair.entry.foils))


def table(pairs: Iterable[Pair], source: str) -> Dataset:
    """The pairs as a Hugging Face `datasets` table, one row per image.

    Columns: image_id, image (undecoded: path), captions, caption_ids, license, sha256, source, foils (a list per
    caption, of captions and what was changed), partner (image id, or None). Images are decoded with `images.load_rgb`,
    which refuses what `datasets` would decode wrongly (16-bit, animated, oversized).

    Examples
    --------
    >>> entry = Entry(1, "1.jpg", None, None, (7,), ("a ring",))
    >>> table([Pair(entry, Path("1.jpg"), "ab", 9, 64, 64, ())], "mine")[0]["captions"]
    ['a ring']
    """
    from datasets import Dataset, Features, Image, List, Value

    features = Features(
        {
            "image_id": Value("int64"),
            "image": Image(decode=False),
            "captions": List(Value("string")),
            "caption_ids": List(Value("int64")),
            "license": Value("string"),
            "sha256": Value("string"),
            "source": Value("string"),
            "foils": List(List({"caption": Value("string"), "changed": Value("string")})),
            "partner": Value("int64"),
        }
    )
    rows = [
        {
            "image_id": pair.entry.image_id,
            "image": {"path": str(pair.path), "bytes": None},
            "captions": list(pair.entry.captions),
            "caption_ids": list(pair.entry.caption_ids),
            "license": pair.entry.license,
            "sha256": pair.sha256,
            "source": source,
            "foils": [[asdict(foil) for foil in foils] for *_, foils in pair.entry.captioned],
            "partner": pair.entry.partner,
        }
        for pair in pairs
    ]
    return Dataset.from_list(rows, features=features)


def read_study(folder: Path, manifest_path: Path) -> Dataset:
    """The table of a study's pairs, every image and caption checked against the manifest's hashes."""
    pinned = read_json(manifest_path)
    annotations = find_annotations(folder)
    images = image_folder(annotations)
    entries = {entry.image_id: entry for entry in read_entries(annotations)[0]}
    pairs = []
    for record in pinned["images"]:
        entry = entries.get(record["id"])
        path = images / record["file_name"]
        if entry is None or not path.is_file() or sha256_file(path) != record["sha256"]:
            raise DataError(
                f"{path}: absent, or not the file that {manifest_path} names",
                expected=f"image {record['id']} with sha256 {record['sha256'][:12]}…",
                remedy="run `dvc repro -f fetch_coco` for this study",
            )
        if sha256_bytes("\n".join(entry.captions).encode("utf-8")) != record["captions_sha256"]:
            raise DataError(
                f"{annotations}: the captions of image {record['id']} differ from those in {manifest_path}",
                expected=f"captions with sha256 {record['captions_sha256'][:12]}…",
                remedy="run `dvc repro -f fetch_coco` for this study",
            )
        if _beyond_coco(entry) != {key: record[key] for key in ("n_foils", "foils_sha256", "partner") if key in record}:
            raise DataError(
                f"{annotations}: foils or partner of image {record['id']} differ from those in {manifest_path}",
                expected=f"{record.get('n_foils', 0)} foils, partner {record.get('partner', 'none')}, as pinned",
                remedy="run `dvc repro -f fetch_coco` for this study",
            )
        width, height = record["width"], record["height"]
        pairs.append(Pair(entry, path, record["sha256"], record["bytes"], width, height, tuple(record["notes"])))
    return table(pairs, pinned["source"])
