"""The JSON files of a checkpoint folder: read as objects, or refused with the place of what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from attention_collapse.errors import ModelError

# What the libraries read as JSON objects; other files of a folder are nobody's concern.
OBJECTS = (
    "config.json", "open_clip_config.json", "preprocessor_config.json", "processor_config.json",
    "image_processor_config.json", "video_preprocessor_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "generation_config.json", "chat_template.json",
    "model.safetensors.index.json", "pytorch_model.bin.index.json",
)  # fmt: skip
MARKS = {b"\xef\xbb\xbf": "UTF-8 with a byte order mark", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def is_there(file: Path) -> bool:
    """Whether anything of that name lies there, a folder or a link to nothing too: then it is not absent but wrong.

    Examples
    --------
    >>> is_there(Path("no such file.json"))
    False
    """
    return file.exists() or file.is_symlink()


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises
    ------
    ModelError
        Absent, a folder, unreadable, empty, in another encoding, not JSON (with line and column), or JSON that is no
        object.

    Examples
    --------
    >>> import tempfile

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "config.json").write_text('{"model_type": "clip"}')
    ...     read_object(Path(folder, "config.json"))
    {'model_type': 'clip'}
    """
    if not is_there(file):
        raise _wrong(file, "absent")
    if file.is_dir():
        raise _wrong(file, "a folder, not a file")
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise _wrong(file, "a link to a file that is not there") from None
    except OSError as error:
        raise _wrong(file, f"not readable: {error.strerror or error}") from None
    for mark, encoding in MARKS.items():
        if data.startswith(mark):
            raise _wrong(file, f"in {encoding}, which the model libraries do not read")
    if not data.strip():
        raise _wrong(file, "empty")
    try:
        found = json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _wrong(file, f"not UTF-8: byte 0x{data[error.start]:02x} in line {line}") from None
    except json.JSONDecodeError as error:
        raise _wrong(file, f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise _wrong(file, "not JSON that can be read: nested too deep") from None
    if not isinstance(found, dict):
        raise _wrong(file, f"JSON, but {_named(found)} in place of an object")
    return found


def _wrong(file: Path, what: str) -> ModelError:
    return ModelError(
        f"{file} is {what}",
        expected="a JSON object in UTF-8, as the library wrote it",
        remedy="restore the file from where the checkpoint came from",
    )


def _named(found: Any) -> str:
    names = {list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(found), "a number")


def require_objects(folder: Path) -> None:
    """ModelError for the first file of the folder that a library would read as a JSON object and that is none.

    Examples
    --------
    >>> import tempfile

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "config.json").write_text("[]")
    ...     try: require_objects(Path(folder))
    ...     except ModelError as error: error.got.removeprefix(folder)
    '/config.json is JSON, but a list in place of an object'
    """
    for name in OBJECTS:
        if is_there(folder / name):
            read_object(folder / name)
