"""Tables of image and caption: CSV, TSV, JSON and JSON Lines, Flickr30k's two files, and imagefolder's metadata."""

from __future__ import annotations

import ast
import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from attention_collapse.data.entries import Skipped
from attention_collapse.data.formats.columns import Columns, find_columns, fits
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
from attention_collapse.data.formats.text import open_text
from attention_collapse.errors import DataError

DELIMITERS = (",", "\t", ";", "|")
TOKEN = re.compile(r"(?P<image>[^\t]+?)#(?P<number>\d+)\t(?P<caption>.*)")  # 1000092795.jpg#0<tab>Two young guys …

Record = tuple[str, Mapping[str, Any] | str]  # its place; its values, or what is wrong with it


@dataclass(frozen=True)
class Reading:
    """How a table is read: what of the caller's wishes its reader needs."""

    split: str | None
    asked: Mapping[str, Sequence[str]]
    images: Path | None


def is_token_file(first: str) -> bool:
    """True for the first line of Flickr8k's or Flickr30k's token file."""
    return TOKEN.fullmatch(first.rstrip("\r\n")) is not None


def read_token_file(path: Path, how: Reading) -> Listing:
    """Flickr's token file: `1000092795.jpg#0`, a tab, a caption."""
    skipped: list[Skipped] = []
    rows: list[Row] = []
    chosen_split(how.split, {}, path)
    with open_text(path) as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            found = TOKEN.fullmatch(line.rstrip("\r\n"))
            if found is None:
                skipped.append(Skipped("row", f"line {number}", "no `NAME#NUMBER`, tab and caption"))
            else:
                rows.append(Row(f"line {number}", found["image"], [found["caption"]]))
    return _listing("Flickr's token file", path, rows, how, skipped=skipped)


def read_delimited(path: Path, how: Reading) -> Listing:
    """A CSV or TSV file with a header; the delimiter is the one under which the header names image and caption."""
    skipped: list[Skipped] = []
    header, delimiter = _header(path, how)
    format_ = {"\t": "TSV table", ",": "CSV table"}.get(delimiter, f"CSV table with {delimiter!r} between columns")
    notes: list[str] = []
    try:
        records = list(_delimited(path, header, delimiter, skipped, quoting=csv.QUOTE_MINIMAL))
    except csv.Error as error:
        if delimiter != "\t":
            raise _not_csv(path, error) from None
        skipped.clear()
        records = list(_delimited(path, header, delimiter, skipped, quoting=csv.QUOTE_NONE))
        notes.append(f"quotation marks are letters here: they enclose no columns ({error})")
    return read_records(format_, path, records, how, header=header, skipped=skipped, notes=notes)


def _not_csv(path: Path, error: csv.Error | str) -> DataError:
    return DataError(
        f"{path}: not CSV ({error})",
        expected='a header and rows; a column that holds a comma, a quote or a line end stands in "…", quotes doubled',
        remedy="mend the quotes at that place, or write the file by a CSV library",
    )


def _by_place(asked: Mapping[str, Sequence[str]]) -> bool:
    """True if all columns are named by their place, from 1."""
    return bool(asked) and all(name.isascii() and name.isdigit() for names in asked.values() for name in names)


def _header(path: Path, how: Reading) -> tuple[list[str] | None, str]:
    """The names of the columns (None: the table has no header) and the delimiter."""
    usual = "\t" if ".tsv" in path.suffixes or ".tab" in path.suffixes else ","
    found: dict[str, list[str]] = {}
    for delimiter in dict.fromkeys([usual, *DELIMITERS]):
        with open_text(path) as stream:
            try:
                found[delimiter] = [name.strip() for name in next(filter(any, csv.reader(stream, delimiter=delimiter)))]
            except StopIteration:
                raise DataError(
                    f"{path}: holds no row",
                    expected="a header, and a row per caption",
                    remedy="copy or write the file again",
                ) from None
            except csv.Error as error:
                raise _not_csv(path, error) from None
        header = found[delimiter]
        if fits(header, how.asked):
            if repeated := [name for name, count in Counter(header).items() if count > 1]:
                raise DataError(
                    f"{path}: several columns are called {listed(map(repr, repeated))}",
                    expected="a different name for each column",
                    remedy="rename them in the first line",
                )
            return header, delimiter
    if _by_place(how.asked):
        return None, max(found, key=lambda delimiter: (len(found[delimiter]) > 1, delimiter == usual))
    find_columns(max(found.values(), key=len), how.asked, path)  # raises, since it does not fit
    raise AssertionError  # pragma: no cover


def _delimited(
    path: Path, header: list[str] | None, delimiter: str, skipped: list[Skipped], *, quoting: Any
) -> Iterator[Record]:
    with open_text(path) as stream:
        reader = csv.reader(_limited(stream), delimiter=delimiter, strict=True, quoting=quoting)
        names, begins = header, 1
        for cells in reader:
            where, begins = f"line {begins}", reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if names is None:
                names = [str(place) for place in range(1, len(cells) + 1)]
            elif header is not None and [cell.strip() for cell in cells] == header:
                continue  # the header itself, or that of another file which was appended
            if len(cells) != len(names):
                why = f"{len(cells)} columns, and {len(names)} in the first line"
                hint = f" (a {delimiter!r} within a column needs quotes around it)" if len(cells) > len(names) else ""
                skipped.append(Skipped("row", where, why + hint))
            else:
                plain = (cell.strip() if delimiter == "|" else cell for cell in cells)  # written with spaces around it
                yield where, dict(zip(names, plain, strict=True))


def _limited(stream: TextIO) -> Iterator[str]:
    """The lines; a zero character, which CSV cannot mean, raises csv.Error."""
    for number, line in enumerate(stream, start=1):
        if "\0" in line:
            raise csv.Error(f"a zero character in line {number}")
        yield line


def read_records(
    format_: str, path: Path, records: Sequence[Record], how: Reading, *, header: Sequence[str] | None = None,
    skipped: list[Skipped] | None = None, notes: Sequence[str] = (),
) -> Listing:  # fmt: skip
    """Records of named columns as a listing; `header` None takes the names from the records."""
    skipped = [] if skipped is None else skipped
    good = [record for _, record in records if not isinstance(record, str)]
    skipped += [Skipped("row", where, record) for where, record in records if isinstance(record, str)]
    names = list(dict.fromkeys(name for record in good for name in record)) if header is None else header
    columns = find_columns(names, how.asked, path)
    split = None
    if columns.split is not None:
        split = chosen_split(how.split, Counter(str(record.get(columns.split)) for record in good), path)
    else:
        chosen_split(how.split, {}, path)
    wanted = [
        (where, record) for where, record in records
        if not isinstance(record, str) and (split is None or str(record.get(columns.split or "")) == split)
    ]  # fmt: skip
    ids, about_ids = _ids([record for _, record in wanted], columns)
    rows = [
        Row(where, record.get(columns.image), _captions(record, columns.caption), image_id=ids[index] if ids else None)
        for index, (where, record) in enumerate(wanted)
    ]
    return _listing(format_, path, rows, how, skipped=skipped, split=split, notes=(str(columns), *notes, *about_ids))


def _ids(records: Sequence[Mapping[str, Any]], columns: Columns) -> tuple[list[int] | None, list[str]]:
    """The ids of a column of whole numbers; None, and why, where there is no such column."""
    if columns.id is None:
        return None, [ID_RULE]
    found: list[int] = []
    for record in records:
        given = record.get(columns.id)
        try:
            whole = int(given) if isinstance(given, str) else given
        except ValueError:
            whole = None
        if not isinstance(whole, int) or isinstance(whole, bool):
            shown = json.dumps(given, default=str)[:60]
            return None, [f"the column {columns.id!r} holds {shown}, no whole number: {ID_RULE}"]
        found.append(whole)
    return found, [f"an image's id is that of the column {columns.id!r}"]


def _captions(record: Mapping[str, Any], columns: Sequence[str]) -> list[Any]:
    """The captions of a record: a text, a list of texts, or a list as JSON text in one cell."""
    found: list[Any] = []
    for column in columns:
        value = record.get(column)
        if isinstance(value, str) and value.startswith(('["', "['")) and value.endswith("]"):
            value = _list_in(value)
        texts = value if isinstance(value, list | tuple) else [value]
        if len(columns) > 1:  # of caption_0 … caption_4 some may be empty
            texts = [text for text in texts if text not in (None, "")]
        found += [text.get("raw", text.get("caption")) if isinstance(text, Mapping) else text for text in texts]
    return found


def _list_in(text: str) -> Any:
    """The list that a cell spells, as JSON does or as Python does (pandas writes it so); else the text."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else text


def _listing(
    format_: str, path: Path, rows: Sequence[Row], how: Reading, *, skipped: list[Skipped], split: str | None = None,
    notes: Sequence[str] = (ID_RULE,),
) -> Listing:  # fmt: skip
    beside = path if path.is_dir() else path.parent if path.exists() else None
    root = folder_of_images(how.images, beside, [row.image for row in rows], [split] if split else ())
    entries = entries_of(rows, root, skipped)
    return Listing(format_, str(path), entries, skipped, below(root), split, (*notes, f"images: {root}"))


def records_of(values: Iterable[tuple[str, Any]]) -> list[Record]:
    """Records with their places; what is no object is kept as its fault."""
    return [(where, value if isinstance(value, Mapping) else "the record is no object") for where, value in values]
