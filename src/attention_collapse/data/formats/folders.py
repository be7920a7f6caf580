"""What a folder is: COCO's layout, an imagefolder with metadata, saved `datasets`, shards, Parquet, or one table."""

from __future__ import annotations

from pathlib import Path

from attention_collapse.data.coco import find_annotations, image_folder, read_annotations
from attention_collapse.data.formats.files import read_file
from attention_collapse.data.formats.hugging_face import read_parquet, read_saved
from attention_collapse.data.formats.json_files import LOOKED_FOR
from attention_collapse.data.formats.listing import Listing, below, chosen_split, folder_of_images, listed
from attention_collapse.data.formats.shards import SUFFIXES, read_shards
from attention_collapse.data.formats.tables import Reading
from attention_collapse.data.formats.text import read_any_json
from attention_collapse.errors import DataError

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".token", ".txt")
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def read_folder_of_any_kind(folder: Path, how: Reading) -> Listing:
    """A folder, by whichever layout it has."""
    if sorted(folder.glob("captions_*.json")) and folder.name == "annotations":
        folder = folder.parent  # COCO's annotations stand in a folder of their own
    if sorted((folder / "annotations").glob("captions_*.json")):
        return read_coco_layout(folder, how)
    if (folder / "dataset_dict.json").is_file() or (folder / "dataset_info.json").is_file():
        return read_saved(folder, how)
    if metadata := _metadata(folder):
        return _read_imagefolder(folder, metadata, how)
    if shards := sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIXES) and path.is_file()):
        return read_shards(str(folder), shards, how)
    if parquet := sorted([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")]):
        return read_parquet(folder, parquet, how)
    return _read_only_table(folder, how)


def read_coco_layout(folder: Path, how: Reading) -> Listing:
    """COCO's layout, one split of it."""
    annotations = find_annotations(folder, how.split)
    entries, skipped = read_annotations(annotations, read_any_json(annotations))
    images = image_folder(annotations) if how.images is None else folder_of_images(how.images, folder, ())
    split = annotations.stem.removeprefix("captions_")
    return Listing("COCO layout", str(folder), entries, skipped, below(images), split, (f"images: {images}",))


def _metadata(folder: Path) -> dict[str, Path]:
    """Split -> the metadata file of an imagefolder; "" for one that has none."""
    places = {"": folder} | {path.name: path for path in sorted(folder.iterdir()) if path.is_dir()}
    found = {split: place / name for name in reversed(METADATA) for split, place in places.items()
             if (place / name).is_file()}  # fmt: skip
    return {"": found[""]} if "" in found else dict(sorted(found.items()))


def _read_imagefolder(folder: Path, metadata: dict[str, Path], how: Reading) -> Listing:
    """Hugging Face's imagefolder: images with `file_name` and a caption in a metadata file beside them."""
    if "" in metadata:
        file, split, rest = metadata[""], how.split, how.split
    else:
        split = chosen_split(how.split, dict.fromkeys(metadata, 0), folder)
        if split is None:
            raise DataError(
                f"{folder}: metadata of the splits {listed(metadata)}",
                expected="one split of an imagefolder",
                remedy="choose one with --split",
            )
        file, rest = metadata[split], None
    asked = {"image": ("file_name",), **how.asked}
    if file.suffix == ".parquet":
        found = read_parquet(file, [file], Reading(rest, asked, how.images or file.parent))
    else:
        found = read_file(file, Reading(rest, asked, how.images or file.parent))
    return Listing(
        f"imagefolder with {file.name}", str(folder), found.entries, found.skipped, found.locate,
        split if "" not in metadata else found.split, found.notes,
    )  # fmt: skip


def _read_only_table(folder: Path, how: Reading) -> Listing:
    """The one file in a folder that may hold captions."""
    inside = sorted(folder.iterdir())
    tables = [path for path in inside if path.is_file() and path.name.removesuffix(".gz").endswith(TABLES)]
    tables = [path for path in tables if not path.name.lower().startswith(("readme", "license", "requirements"))]
    if len(tables) == 1:
        return read_file(tables[0], how)
    several = f"several files could hold the captions: {listed(path.name for path in tables)}"
    pictures = sum(path.suffix.lower() in PICTURES for path in inside)
    with_words = " (images without captions)" if pictures and not tables else ""
    raise DataError(
        f"{folder}: {several if tables else 'nothing in it is known to hold captions' + with_words}; "
        f"it holds {listed(path.name + '/' * path.is_dir() for path in inside) or 'nothing'}",
        expected="annotations/captions_<split>.json (COCO); metadata.jsonl or metadata.csv (imagefolder); "
        "dataset_info.json (datasets' save_to_disk); *.tar (webdataset); *.parquet; or one table of image and caption",
        remedy="give the file with the captions itself" if tables
        else f"give the folder above or below it, or the file with the captions: {LOOKED_FOR}, CSV, TSV, token file",
    )  # fmt: skip
