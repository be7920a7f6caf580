"""What a file is, by what it holds and not by its name alone."""

from __future__ import annotations

import json
from pathlib import Path

from attention_collapse.data.formats.hugging_face import read_parquet
from attention_collapse.data.formats.json_files import read_json_file, read_lines_file
from attention_collapse.data.formats.listing import Listing
from attention_collapse.data.formats.shards import SUFFIXES, read_shards
from attention_collapse.data.formats.tables import Reading, is_token_file, read_delimited, read_token_file
from attention_collapse.data.formats.text import head_of, open_text

LINES = (".jsonl", ".ndjson", ".jsonlines")


def read_file(path: Path, how: Reading) -> Listing:
    """A file, by whichever format it is in.

    Raises
    ------
    DataError
        For a file of a format that is not known, with what was looked for and what the file holds.
    """
    if path.name.endswith(SUFFIXES):
        return read_shards(str(path), [path], how)
    head = head_of(path)
    if head.startswith(b"PAR1"):
        return read_parquet(path, [path], how)
    if head[257:262] == b"ustar":
        return read_shards(str(path), [path], how)
    with open_text(path) as stream:
        first = next((line for line in stream if line.strip()), "")
        more = any(line.strip() for line in stream)
    if first.lstrip().startswith(("{", "[")):
        is_lines = path.name.removesuffix(".gz").endswith(LINES) or (more and _is_object(first))
        return read_lines_file(path, how) if is_lines else read_json_file(path, how)
    if is_token_file(first):
        return read_token_file(path, how)
    return read_delimited(path, how)


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
