"""JSON files of image and caption, each known by its structure and not by its name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from attention_collapse.data.coco import image_folder, read_annotations
from attention_collapse.data.entries import Skipped
from attention_collapse.data.foils import items_of, with_foils
from attention_collapse.data.formats.columns import find_columns, fits
from attention_collapse.data.formats.listing import (
    ID_RULE,
    Listing,
    Row,
    below,
    chosen_split,
    entries_of,
    folder_of_images,
    listed,
)
from attention_collapse.data.formats.tables import Reading, read_records, records_of
from attention_collapse.data.formats.text import read_any_json, read_json_lines
from attention_collapse.errors import DataError

LOOKED_FOR = (
    "COCO captions (images, annotations), Karpathy's splits (images with sentences), a list or lines of records with "
    "image and caption, an object of image -> caption(s), SugarCrepe or VALSE"
)


def read_json_file(path: Path, how: Reading) -> Listing:
    """A file of one JSON value, by whichever format it is in."""
    data = read_any_json(path)
    if what := questions(data):
        raise DataError(
            f"{path}: {what}, which holds no captions",
            expected=LOOKED_FOR,
            remedy="give a file of captions, or measure answers with `attention-collapse questions` "
            "(docs/questions.md)",
        )
    for fitting, read in READERS:
        if fitting(data, how):
            return read(path, data, how)
    raise DataError(
        f"{path}: none of the formats that are known; it holds {shape(data)}",
        expected=LOOKED_FOR,
        remedy="name the keys of its records (--columns image=KEY,caption=KEY), or write it as one of these",
    )


def read_lines_file(path: Path, how: Reading) -> Listing:
    """JSON Lines: one record per line."""
    records = records_of((f"line {number}", value) for number, value in read_json_lines(path))
    if not records:
        raise DataError(f"{path}: holds no record", expected="one JSON object per line", remedy="write the file again")
    if what := questions([value for _, value in records[:1]]):
        raise DataError(f"{path}: {what}, which holds no captions", expected=LOOKED_FOR, remedy="give captions")
    return read_records("JSON Lines", path, records, how)


def shape(data: Any) -> str:
    """What a JSON value looks like, in words: its type and its first keys."""
    if isinstance(data, Mapping):
        inner = next(iter(data.values()), None)
        beneath = f", the first of them {shape(inner)}" if isinstance(inner, Mapping | list) else ""
        return f"an object with the keys {listed([repr(key)[:40] for key in data]) or '(none)'}{beneath}"
    if isinstance(data, list):
        return f"a list of {len(data):,}, the first {shape(data[0])}" if data else "an empty list"
    return {str: "a text", bool: "true or false", type(None): "null"}.get(type(data), "a number")


def questions(data: Any) -> str:
    """What a file of visual questions is; "" if it is none: VQA's questions or annotations, GQA, and lists of such."""
    if isinstance(data, Mapping) and isinstance(data.get("questions"), list):
        return "VQA questions (VQAv2, OK-VQA, VizWiz)"
    records: Any = data.get("annotations", data) if isinstance(data, Mapping) else data
    many = records.values() if isinstance(records, Mapping) else records if isinstance(records, list) else ()
    first = next(iter(many), None)
    if not isinstance(first, Mapping):
        return ""
    if "imageId" in first and "question" in first:
        return "GQA questions"
    if "question_id" in first and ("answers" in first or "multiple_choice_answer" in first):
        return "VQA annotations: answers to questions"
    no_caption = not {"caption", "captions", "text"} & set(first)
    return "a file of questions and answers" if "question" in first and no_caption else ""


def _is_many(value: Any) -> bool:
    return isinstance(value, Mapping | list)


def _is_coco(data: Any, _: Reading) -> bool:
    return isinstance(data, Mapping) and isinstance(data.get("annotations"), list) and "images" in data


def read_coco(path: Path, data: Any, how: Reading) -> Listing:
    """A file of COCO captions, wherever it lies; its name says the split (`captions_<split>.json`)."""
    split = path.name.split(".")[0].removeprefix("captions_")
    chosen_split(how.split, {split: 0}, path)
    entries, skipped = read_annotations(path, data)
    root = how.images
    if root is None and path.parent.name == "annotations":
        root = image_folder(path)
    if root is None:
        root = folder_of_images(None, path.parent, [entry.file_name for entry in entries], [split, f"../{split}"])
    else:
        root = folder_of_images(root, path.parent, ())
    return Listing("COCO captions", str(path), entries, skipped, below(root), split, (f"images: {root}",))


def _is_karpathy(data: Any, _: Reading) -> bool:
    images = data.get("images") if isinstance(data, Mapping) else None
    return isinstance(images, list) and any(isinstance(one, Mapping) and "sentences" in one for one in images)


def read_karpathy(path: Path, data: Any, how: Reading) -> Listing:
    """Karpathy's dataset_coco.json, dataset_flickr30k.json and dataset_flickr8k.json, one split of it."""
    records = records_of((f"images[{index}]", record) for index, record in enumerate(data["images"]))
    good = [(where, record) for where, record in records if not isinstance(record, str)]
    counts = Counter(str(record["split"]) for _, record in good if record.get("split"))
    split = chosen_split(how.split, counts, path)
    skipped = [Skipped("row", where, record) for where, record in records if isinstance(record, str)]
    key = next((k for k in ("cocoid", "imgid") if all(isinstance(r.get(k), int) for _, r in good)), None)
    rows = []
    for where, record in good:
        if split is not None and record.get("split") != split:
            continue
        name, folder = record.get("filename"), record.get("filepath")
        image = str(PurePosixPath(str(folder), name)) if folder and isinstance(name, str) else name
        sentences = [one if isinstance(one, Mapping) else {"raw": one} for one in _list(record.get("sentences"))]
        ids = [one.get("sentid") for one in sentences]
        known = all(isinstance(i, int) for i in ids) and len(set(ids)) == len(ids)
        rows.append(Row(
            where, image, [one.get("raw") for one in sentences], image_id=record.get(key) if key else None,
            caption_ids=[int(i) for i in ids if i is not None] if known else None,
        ))  # fmt: skip
    root = folder_of_images(how.images, path.parent, [row.image for row in rows])
    about = f"an image's id is its {key}" if key else ID_RULE
    name = f"Karpathy's splits ({data.get('dataset') or 'of no named data set'})"
    return Listing(name, str(path), entries_of(rows, root, skipped), skipped, below(root), split,
                   (about, f"images: {root}"))  # fmt: skip


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_foils(data: Any, _: Reading) -> bool:
    first = next(iter(data.values()), None) if isinstance(data, Mapping) else None
    return isinstance(first, Mapping) and "caption" in first and bool({"negative_caption", "foil"} & set(first))


def read_foil_pairs(path: Path, data: Any, how: Reading) -> Listing:
    """SugarCrepe's or VALSE's file as pairs: its images with its captions and their foils, and no other captions."""
    chosen_split(how.split, {}, path)
    items, skipped = items_of(data, path)
    root = folder_of_images(how.images, path.parent, [item.file_name for item in items])
    repeated: list[Skipped] = []
    entries = entries_of([Row(item.name, item.file_name, [item.caption]) for item in items], root, repeated)
    skipped += [item for item in repeated if item.kind != "caption"]  # one caption with several foils is no fault
    found = with_foils(entries, items, skipped)
    return Listing("hard foils (SugarCrepe or VALSE)", str(path), found, skipped, below(root), None,
                   (ID_RULE, f"images: {root}"))  # fmt: skip


def _records(data: Any) -> list[Any] | None:
    """The records of a list, or of an object that holds one list of records beside what describes them."""
    if isinstance(data, list):
        return data
    lists = [v for v in data.values() if isinstance(v, list)] if isinstance(data, Mapping) else []
    return lists[0] if len(lists) == 1 and any(isinstance(one, Mapping) for one in lists[0]) else None


def _is_records(data: Any, _: Reading) -> bool:
    records = _records(data)
    return records is not None and any(isinstance(one, Mapping) for one in records)


def read_list(path: Path, data: Any, how: Reading) -> Listing:
    """A list of records."""
    values = enumerate(_records(data) or [], start=1)
    records = records_of((f"record {number}", value) for number, value in values)
    return read_records("JSON list", path, records, how)


def _is_columns(data: Any, how: Reading) -> bool:
    return isinstance(data, Mapping) and fits(list(map(str, data)), how.asked) and all(map(_is_many, data.values()))


def read_columns(path: Path, data: Any, how: Reading) -> Listing:
    """An object of columns, each a list, or an object of row -> value as pandas writes it."""
    columns = find_columns(list(data), how.asked, path)
    as_rows = {name: column if isinstance(column, Mapping) else dict(enumerate(column, start=1))
               for name, column in data.items()}  # fmt: skip
    keys = list(as_rows[columns.image])
    if any(list(column) != keys for column in as_rows.values()):
        raise DataError(
            f"{path}: its columns have {listed(f'{len(column):,}' for column in as_rows.values())} values",
            expected="columns with the same rows",
            remedy="write the file again",
        )
    records = records_of((str(key), {name: column[key] for name, column in as_rows.items()}) for key in keys)
    return read_records("JSON columns", path, records, how, header=list(data))


def _is_mapping(data: Any, _: Reading) -> bool:
    if not isinstance(data, Mapping) or not any("." in key for key in data):
        return False
    texts = [text for value in data.values() for text in (value if isinstance(value, list) else [value])]
    return bool(texts) and all(isinstance(text, str) for text in texts)


def read_mapping(path: Path, data: Any, how: Reading) -> Listing:
    """An object of image -> caption, or image -> list of captions."""
    records = [(f"key {name!r}", {"image": name, "caption": texts}) for name, texts in data.items()]
    plain = Reading(how.split, {}, how.images)
    return read_records("JSON object of image -> caption", path, records_of(records), plain)


READERS: Sequence[tuple[Callable[[Any, Reading], bool], Callable[[Path, Any, Reading], Listing]]] = (
    (_is_karpathy, read_karpathy),
    (_is_coco, read_coco),
    (_is_foils, read_foil_pairs),
    (_is_columns, read_columns),
    (_is_records, read_list),
    (_is_mapping, read_mapping),
)
