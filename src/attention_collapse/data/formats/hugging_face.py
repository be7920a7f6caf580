"""Hugging Face's ways to keep pairs: a `datasets` object, a folder of `save_to_disk`, Parquet files, a hub id.

Images stand within the table, or their paths do. The id of an embedded image is made from its name where every row has
a name of its own; else from its bytes, so that rows with one image are one image.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from attention_collapse.data.entries import Entry
from attention_collapse.data.formats.columns import find_columns
from attention_collapse.data.formats.listing import (
    Listing,
    Locate,
    chosen_split,
    common_folder,
    listed,
    plain_name,
)
from attention_collapse.data.formats.tables import Reading, read_records, records_of
from attention_collapse.data.formats.unpacked import NOTE, keep, looked_up
from attention_collapse.errors import DataError, DownloadError
from attention_collapse.files import sha256_bytes

HUB_ID = re.compile(r"(?:hf://datasets/)?(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<revision>[\w./-]+))?")
ROWS = 1000  # read at once
SUFFIXES = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"GI": ".gif", b"RI": ".webp", b"BM": ".bmp"}


@dataclass(frozen=True)
class Columnar:
    """A table in Arrow's form, as `datasets` and Parquet files hold it.

    Attributes
    ----------
    columns
        Name -> its Arrow type.
    batches
        From names of columns to tables of some rows each, in order.
    take
        From row numbers and a column to that column's values, in their order.
    """

    where: str
    columns: dict[str, Any]
    batches: Callable[[list[str]], Iterator[Any]]
    take: Callable[[list[int], str], list[Any]]


def is_dataset(source: object) -> bool:
    """True for an object of the library `datasets`, which is not imported to know it."""
    return type(source).__module__.split(".")[0] == "datasets"


def read_object(source: Any, how: Reading, where: str = "a datasets object") -> Listing:
    """A `datasets.Dataset`, or one split of a `DatasetDict`."""
    from datasets import Dataset, DatasetDict

    split = None
    if isinstance(source, DatasetDict):
        split = chosen_split(how.split, {name: len(one) for name, one in source.items()}, where)
        if split is None:
            raise DataError(
                f"{where}: several splits, and one of them has to be read alone",
                expected="the name of one split",
                remedy=f"choose one with --split (`split` in Python): {listed(source)}",
            )
        source = source[split]
        how = Reading(None, how.asked, how.images)
    if not isinstance(source, Dataset):
        raise DataError(
            f"{where}: a {type(source).__name__}",
            expected="a datasets.Dataset or DatasetDict, whose rows can be counted",
            remedy="load it without streaming, or take the first rows: Dataset.from_list(list(stream.take(1000)))",
        )
    source = source.with_format(None)
    arrow = Columnar(
        where,
        {field.name: field.type for field in source.features.arrow_schema},
        lambda names: source.select_columns(names).with_format("arrow").iter(ROWS),
        lambda rows, name: source.select_columns([name]).with_format("arrow")[rows].column(name).to_pylist(),
    )
    return _read("datasets table", arrow, how, split)


def read_saved(folder: Path, how: Reading) -> Listing:
    """A folder that `save_to_disk` wrote."""
    from datasets import load_from_disk

    try:
        found = load_from_disk(str(folder))
    except Exception as error:  # damaged files make pyarrow and datasets raise anything
        raise _unreadable(folder, error, "a folder that save_to_disk wrote") from None
    return read_object(found, how, str(folder))


def read_parquet(where: Path, files: Sequence[Path], how: Reading) -> Listing:
    """Parquet files of one table; those of a hub data set say their split in their names (train-00000-of-00002)."""
    import pyarrow.dataset

    splits: dict[str, int] = {}
    named = {file: re.fullmatch(r"(.+?)-\d{5}-of-\d{5}(?:-\w+)?", file.stem) for file in files}
    of_file = {file: found[1] for file, found in named.items() if found}
    for name in of_file.values():
        splits[name] = 0
    split = chosen_split(how.split, splits, where) if splits and len(of_file) == len(files) else None
    used = [file for file in files if split is None or of_file.get(file) == split]
    try:
        table = pyarrow.dataset.dataset([str(file) for file in used], format="parquet")
        arrow = Columnar(
            str(where),
            {field.name: field.type for field in table.schema},
            lambda names: iter(table.to_batches(columns=names, batch_size=ROWS)),
            lambda rows, name: table.take(rows, columns=[name]).column(name).to_pylist(),
        )
        return _read("Parquet", arrow, Reading(None if splits else how.split, how.asked, how.images), split)
    except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
        raise _unreadable(where, error, "Parquet files") from None


def _unreadable(where: Path, error: Exception, expected: str) -> DataError:
    said = " ".join(str(error).split())[:300] or type(error).__name__
    return DataError(f"{where}: cannot be read ({said})", expected=expected, remedy="copy or write it again")


def read_hub(given: str, how: Reading) -> Listing:
    """A data set of the hub, at a revision: `owner/name@<40 hex digits>`; without one, the newest, which is named."""
    from datasets import load_dataset
    from huggingface_hub import HfApi

    found = HUB_ID.fullmatch(given)
    if found is None:
        raise ValueError(given)
    repo, revision = found["repo"], found["revision"]
    try:
        revision = revision or HfApi().dataset_info(repo).sha
        data = load_dataset(repo, revision=revision)
    except Exception as error:  # no connection, no such repository, a layout that datasets cannot read: anything
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise DownloadError(
            f"{given}: no such folder or file, and no data set of that name could be read from the hub ({said})",
            expected="a path that exists, or the id of a data set of the hub (owner/name) and a connection to it",
            remedy="check the path; or download the data set into a folder, and give the folder",
        ) from None
    listing = read_object(data, how, f"{repo}@{revision}")
    return Listing("hub data set", f"{repo}@{revision}", listing.entries, listing.skipped, listing.locate,
                   listing.split, (*listing.notes, f"revision {revision}"))  # fmt: skip


def _read(format_: str, table: Columnar, how: Reading, split: str | None) -> Listing:
    """The pairs of a table whose images are embedded, or are named by their paths."""
    asked = dict(how.asked)
    embedded = [name for name, type_ in table.columns.items() if _is_image(type_)]
    if not asked.get("image") and len(embedded) == 1:
        asked["image"] = (embedded[0],)
    columns = find_columns(list(table.columns), asked, table.where)
    others = [*columns.caption, *(name for name in (columns.id, columns.split) if name)]
    pictures = _pictures(table, columns.image) if columns.image in embedded else None
    values = dict[str, list[Any]]((name, []) for name in dict.fromkeys([columns.image, *others]))
    for batch in table.batches([name for name in values if pictures is None or name != columns.image]):
        for name in batch.schema.names:
            values[name] += batch.column(name).to_pylist()
    notes: tuple[str, ...] = ()
    images = how.images
    if pictures is not None:
        values[columns.image], images, notes = pictures.names, pictures.root, pictures.notes
    rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    records = records_of((str(number), row) for number, row in enumerate(rows))
    found = read_records(
        format_, Path(table.where), records, Reading(how.split, asked, images), header=list(values), notes=notes
    )
    locate = found.locate if pictures is None else _locate(table, columns.image, pictures)
    kept = tuple(note for note in found.notes if pictures is None or not note.startswith("images: "))
    return Listing(format_, table.where, found.entries, found.skipped, locate, split or found.split, kept)


def _is_image(type_: Any) -> bool:
    """True for Arrow's type of the feature datasets.Image, which is bytes and path, and for bytes alone."""
    import pyarrow.types as kind

    if kind.is_binary(type_) or kind.is_large_binary(type_):
        return True
    return kind.is_struct(type_) and {"bytes", "path"} == {type_.field(i).name for i in range(type_.num_fields)}


@dataclass(frozen=True)
class _Pictures:
    """The embedded images of a table: a name for each row, None where it has none; and how the names were made."""

    names: list[str | None]
    root: Path
    notes: tuple[str, ...]


def _pictures(table: Columnar, column: str) -> _Pictures:
    from pyarrow import compute

    paths: list[str | None] = []
    within: list[bool] = []
    for batch in table.batches([column]):
        data, names = _parts(batch.column(column))
        paths += [None] * len(data) if names is None else names.to_pylist()
        within += compute.is_valid(data).to_pylist()
    if paths and not any(within):  # the images are files; their names begin in the folder above them all
        top = common_folder([str(Path(path).absolute()) for path in paths if path])
        return _Pictures(paths, top, (f"images: files below {top}",))
    names = [PurePosixPath(path.replace("\\", "/")).name if path else None for path in paths]
    if all(names) and len(set(names)) == len(names) and all(not plain_name(name, Path())[1] for name in names):
        return _Pictures(names, Path(), (NOTE,))
    hashed: list[str | None] = []
    for batch in table.batches([column]):
        hashed += [_name_of(data) for data in _parts(batch.column(column))[0].to_pylist()]
    return _Pictures(hashed, Path(), ("images have no names of their own: each is named by a hash of its bytes", NOTE))


def _parts(column: Any) -> tuple[Any, Any]:
    """The bytes of a column of images, and their paths, None where it has none."""
    import pyarrow.types as kind
    from pyarrow import compute

    if not kind.is_struct(column.type):
        return column, None
    return compute.struct_field(column, "bytes"), compute.struct_field(column, "path")


def _name_of(data: bytes | None) -> str | None:
    return f"{sha256_bytes(data)[:24]}{SUFFIXES.get(data[:2], '')}" if data else None


def _locate(table: Columnar, column: str, pictures: _Pictures) -> Locate:
    """Write the images of the entries that are used; those that are files stay where they are."""
    row_of: dict[str, int] = {}
    for number, name in enumerate(pictures.names):
        row_of.setdefault(plain_name(name, pictures.root)[0], number)

    def locate(entries: Sequence[Entry]) -> Callable[[Entry], Path]:
        found: dict[int, Path | str] = {}
        for begin in range(0, len(entries), 64):
            some = sorted(entries[begin : begin + 64], key=lambda entry: row_of[entry.file_name])
            for entry, value in zip(some, table.take([row_of[e.file_name] for e in some], column), strict=True):
                data, path = (value["bytes"], value["path"]) if isinstance(value, dict) else (value, None)
                found[entry.image_id] = keep(data) if data else Path(path) if path else "its row holds no image"
        return looked_up(found)

    return locate
