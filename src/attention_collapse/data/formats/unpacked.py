"""Images out of archives and tables, as files: unpacked into the download cache, each under the sha256 of its bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from attention_collapse.data.download import default_cache
from attention_collapse.data.entries import Entry
from attention_collapse.data.images import UnusableImageError
from attention_collapse.errors import DataError
from attention_collapse.files import sha256_bytes, sha256_file, whole_file

MAX_BYTES = 1 << 28  # of one image; 256 MiB packed is more than `images.MAX_PIXELS` pixels unpacked
NOTE = "images are unpacked into the download cache, each under the sha256 of its bytes"


def keep(data: bytes) -> Path:
    """The file in the cache that holds these bytes."""
    digest = sha256_bytes(data)
    path = default_cache() / "sha256" / digest[:2] / digest
    try:
        if not path.is_file() or sha256_file(path) != digest:
            with whole_file(path) as temporary:
                temporary.write_bytes(data)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror})",
            expected="a cache folder with room for the images that are used",
            remedy="make room, or name another folder in the environment variable ATTENTION_COLLAPSE_CACHE",
        ) from None
    return path


def looked_up(found: Mapping[int, Path | str]) -> Callable[[Entry], Path]:
    """From an entry to its file; UnusableImageError where there is a reason in its place."""

    def path_of(entry: Entry) -> Path:
        path = found.get(entry.image_id, "the image is not in it")
        if isinstance(path, str):
            raise UnusableImageError(Path(entry.file_name), path)
        return path

    return path_of
