"""Files that are whole or absent, and bytes that are the same on every machine.

Everything is written under a temporary name beside its place and then renamed, so a killed run leaves either
the old file or the new one. Numbers go to disk with 6 significant digits: summary statistics agree to about
1e-7 between kinds of CPU, so six digits are the same everywhere and eight are not.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attention_collapse.errors import DataError, PipelineError

SIGNIFICANT_DIGITS = 6


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it onto `path` if the block succeeds, else remove it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mine = f"{os.getpid()}-{secrets.token_hex(4)}"  # processes of two machines may have one number
    temporary = path.with_name(f".{path.name}.{mine}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 with LF line ends."""
    with whole_file(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))


def significant(value: float, digits: int = SIGNIFICANT_DIGITS) -> float | None:
    """Round to `digits` significant digits; NaN and infinities, which JSON cannot hold, become None."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def _plain(value: Any) -> Any:
    """NumPy scalars and nested containers as what JSON holds."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):  # a NumPy or torch scalar
        value = value.item()
    return significant(value) if isinstance(value, float) else value


def json_text(value: Any) -> str:
    """JSON with sorted keys, one scalar per line, undefined numbers as null."""
    return json.dumps(_plain(value), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write `json_text(value)` whole."""
    write_text(path, json_text(value))


def read_json(path: Path, of_pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Read a JSON file; raise DataError if it is absent or not JSON.

    `of_pairs`: makes what stands for an object of its keys and values, in which a key may stand twice; None: a dict.
    """
    try:
        return json.loads(path.read_text("utf-8"), object_pairs_hook=of_pairs)
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file", expected="a JSON file", remedy="check the path, or run the stage that writes it"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(
            f"{path}: not JSON ({error})", expected="a JSON file", remedy="restore the file, or run `dvc repro`"
        ) from None
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror})", expected="a readable JSON file", remedy="check the path"
        ) from None


def csv_text(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A CSV table; floats with 6 significant digits, undefined ones empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([["" if (cell := _plain(value)) is None else cell for value in row] for row in rows])
    return buffer.getvalue()


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write `csv_text(columns, rows)` whole."""
    write_text(path, csv_text(columns, rows))


def sha256_bytes(data: bytes) -> str:
    """Hex sha256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def evidence_id(stage: str, params: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Content address of a result: 16 hex digits of the sha256 over (stage, params, hashes of the inputs).

    `inputs` maps a name to the sha256 of its bytes or, for attention tables (whose bytes differ between kinds
    of CPU), to the evidence id of the run that wrote them; so the id is the same on every machine.
    """
    canonical = json.dumps([stage, params, inputs], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256_bytes(canonical.encode("utf-8"))[:16]


def need(mapping: Any, key: str, where: str) -> Any:
    """`mapping[key]`; a missing key is a file of another version, never a default."""
    if not isinstance(mapping, Mapping) or key not in mapping:
        raise PipelineError(
            f"{where} has no {key!r}",
            expected="a file as this version writes it",
            remedy="run `dvc repro`",
        )
    return mapping[key]
