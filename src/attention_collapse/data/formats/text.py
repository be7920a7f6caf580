"""Text files as people have them: UTF-8 with and without a byte order mark, UTF-16, gzip; anything else is refused.

A file in another encoding is never guessed at: captions with wrong letters would be measured as if they were right.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from attention_collapse.errors import DataError

HEAD = 4096  # bytes by which a file is recognised
MARKS = (  # UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
OF_OTHERS = {
    b"PK\x03\x04": "a zip archive (or a spreadsheet, .xlsx); unpack it, or export it as CSV",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it first",
    b"BZh": "compressed by bzip2; unpack it first",
    b"\xfd7zXZ": "compressed by xz; unpack it first",
    b"7z\xbc\xaf": "a 7z archive; unpack it first",
    b"SQLite format 3": "an SQLite database; export it as CSV",
    b"\x89HDF": "an HDF5 file; export its captions as CSV, and its images as files",
    b"\x80\x04": "a pickle, which runs code when it is read and is never opened; save it as JSON or CSV",
    b"\x80\x03": "a pickle, which runs code when it is read and is never opened; save it as JSON or CSV",
    b"\x80\x05": "a pickle, which runs code when it is read and is never opened; save it as JSON or CSV",
    b"\xff\xd8\xff": "a JPEG image; give the file that holds the captions",
    b"\x89PNG": "a PNG image; give the file that holds the captions",
    b"%PDF": "a PDF file; give the captions as CSV or JSON",
}


def wrong(path: Path, got: str, remedy: str = "save it again as UTF-8, uncompressed or by gzip") -> DataError:
    """An error about a file that is no readable text."""
    return DataError(f"{path}: {got}", expected="a readable file of text in UTF-8", remedy=remedy)


def head_of(path: Path) -> bytes:
    """The first bytes of a file, unpacked if it is a gzip file; raises DataError if there are none."""
    try:
        with _bytes_of(path) as stream:
            head = stream.read(HEAD)
    except (OSError, EOFError, zlib.error) as error:
        raise wrong(path, f"cannot be read ({_reason(error)})", "check the path, or copy the file again") from None
    if not head:
        raise wrong(path, "is empty (0 bytes)", "copy or download the file again")
    return head


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def _bytes_of(path: Path) -> BinaryIO:
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path, "rb")) if packed else path.open("rb")


def _encoding(path: Path, head: bytes) -> str:
    for mark, name in MARKS:
        if head.startswith(mark):
            return name
    for magic, what in OF_OTHERS.items():
        if head.startswith(magic):
            raise wrong(path, f"is {what.split(';')[0]}", what.split("; ")[-1])
    if b"\0" in head:
        raise wrong(path, "holds zero bytes: UTF-16 without a byte order mark, or no text at all")
    return "utf-8"


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """The text of a file, line ends as they are; DataError, with the line, where it is in another encoding."""
    encoding = _encoding(path, head_of(path))
    try:
        with _bytes_of(path) as stream, io.TextIOWrapper(stream, encoding=encoding, newline="") as text:
            yield text
    except UnicodeDecodeError as error:
        raise _not_encoded(path, encoding, error) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise wrong(path, f"the gzip file is damaged or cut short ({error})", "copy it again") from None


def _not_encoded(path: Path, encoding: str, error: UnicodeDecodeError) -> DataError:
    name = encoding.removesuffix("-sig").upper()
    where, shown = str(path), error.object[error.start : error.start + 1].hex()
    if name == "UTF-8":
        with _bytes_of(path) as stream:
            for number, line in enumerate(stream, start=1):
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError as found:
                    around = line[max(found.start - 15, 0) : found.start + 15].decode("ascii", "replace").strip()
                    where, shown = f"{path}, line {number}", f"{line[found.start]:02x} in “{around}”"
                    break
    return DataError(
        f"{where}: byte 0x{shown} is not {name}",
        expected="text in UTF-8 (or UTF-16 with a byte order mark); no other encoding is guessed",
        remedy=f"save it again as UTF-8, such as `iconv -f latin1 -t utf-8 {path.name}` if it is Latin-1",
    )


def read_any_json(path: Path) -> Any:
    """The value in a JSON file; DataError if there is none."""
    with open_text(path) as stream:
        try:
            return json.load(stream)
        except UnicodeDecodeError:
            raise
        except (ValueError, RecursionError) as error:  # ValueError also for numbers of thousands of digits
            raise DataError(
                f"{path}: not JSON ({error})",
                expected="one JSON value, or one JSON object per line (JSON Lines)",
                remedy="mend the file at that place, or copy it again",
            ) from None


def read_json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Line number and value of each line that is not blank; DataError, with the line, for one that is not JSON."""
    with open_text(path) as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(
                    f"{path}, line {number}: not JSON ({error})",
                    expected="one JSON object per line",
                    remedy="mend that line; a file that was cut short has to be copied again",
                ) from None
            yield number, value
