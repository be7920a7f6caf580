"""Webdataset shards: tar archives whose files of one stem are one sample, `000.jpg` with `000.txt` or `000.json`.

Only plain files are read, each straight from the archive: nothing is written under a name that an archive gives.
"""

from __future__ import annotations

import itertools
import json
import lzma
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from attention_collapse.data.entries import Entry, Skipped, safe_file_name
from attention_collapse.data.formats.columns import KNOWN
from attention_collapse.data.formats.listing import ID_RULE, Listing, Locate, Row, chosen_split, entries_of, listed
from attention_collapse.data.formats.tables import Reading
from attention_collapse.data.formats.unpacked import MAX_BYTES, NOTE, keep, looked_up
from attention_collapse.errors import DataError
from attention_collapse.progress import steps

PICTURES = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm", "pgm", "pbm")
TEXTS = ("txt", "text", "caption", "cap")
MAX_TEXT = 1 << 20  # bytes of one caption or JSON record
MAX_SHARDS = 100_000
DAMAGE = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError)
SUFFIXES = (".tar", ".tar.gz", ".tgz")
KINDS = {tarfile.SYMTYPE: "a symbolic link", tarfile.LNKTYPE: "a hard link", tarfile.CHRTYPE: "a device",
         tarfile.BLKTYPE: "a device", tarfile.FIFOTYPE: "a named pipe"}  # fmt: skip


@dataclass
class _Sample:
    """The members of one stem, in one shard."""

    key: str
    pictures: list[str] = field(default_factory=list)
    texts: dict[str, bytes] = field(default_factory=dict)


def shards_of(pattern: str) -> list[Path]:
    """The archives of a pattern such as `data/shard-{000..003}.tar` or `data/*.tar`, in order.

    Raises DataError if one that braces name is absent, or if nothing matches.
    """
    names = list(itertools.islice(_expanded(pattern), MAX_SHARDS + 1))
    if len(names) > MAX_SHARDS:
        raise DataError(
            f"{pattern}: more than {MAX_SHARDS:,} files", expected="fewer files", remedy="name fewer shards"
        )
    found: list[Path] = []
    absent: list[str] = []
    for name in names:
        if any(sign in name for sign in "*?[") and not Path(name).exists():
            anchor = Path(name).anchor
            found += sorted(path for path in Path(anchor or ".").glob(name.removeprefix(anchor)) if path.is_file())
        elif Path(name).is_file():
            found.append(Path(name))
        else:
            absent.append(name)
    if absent or not found:
        raise DataError(
            f"{pattern}: {f'no such file: {listed(absent)}' if absent else 'no file matches'}",
            expected="the shards of a data set, such as shard-{000..003}.tar, *.tar or one file",
            remedy="correct the pattern; in a shell it needs quotes",
        )
    if others := [path.name for path in found if not path.name.endswith(SUFFIXES)]:
        raise DataError(
            f"{pattern}: matches {listed(others)}",
            expected=f"files whose names end in {', '.join(SUFFIXES)}: a pattern stands for shards alone",
            remedy="narrow the pattern, or give one file or folder",
        )
    return list(dict.fromkeys(found))


def _expanded(pattern: str) -> Iterator[str]:
    """Every text that a pattern with {000..003} or {a,b} stands for."""
    braces = re.search(r"\{([^{}]*)\}", pattern)
    if braces is None:
        yield pattern
        return
    if numbers := re.fullmatch(r"(\d+)\.\.(\d+)", braces[1]):
        first, last = int(numbers[1]), int(numbers[2])
        width = max(len(n) for n in numbers.groups()) if any(n.startswith("0") for n in numbers.groups()) else 0
        texts: Iterator[str] = (f"{n:0{width}d}" for n in range(first, last + 1))
    else:
        texts = iter(braces[1].split(","))
    for text in texts:
        yield from _expanded(pattern[: braces.start()] + text + pattern[braces.end() :])


def read_shards(source: str, shards: Sequence[Path], how: Reading) -> Listing:
    """Every sample of the shards with one image and a caption."""
    chosen_split(how.split, {}, source)
    skipped: list[Skipped] = []
    rows: list[Row] = []
    places: dict[str, tuple[Path, str]] = {}  # the image's name in the listing -> shard, name of the member
    others: Counter[str] = Counter()
    stems = _stems(shards)
    for shard in steps(shards, "reading shards", "shard"):
        for sample in _samples(shard, skipped, others):
            where = f"{shard.name}: {sample.key}"
            captions, fault = _captions(sample, how.asked.get("caption", ()))
            if not sample.pictures and not fault:
                fault = "no image"
            elif len(sample.pictures) > 1:
                fault = f"{len(sample.pictures)} images: {listed(sample.pictures)}"
            if fault:
                skipped.append(Skipped("row", where, fault))
                continue
            name = f"{stems[shard]}/{sample.pictures[0].lstrip('./')}"
            places[name] = (shard, sample.pictures[0])
            rows.append(Row(where, name, captions))
    notes = [f"{len(shards)} shard{'s' * (len(shards) != 1)}", ID_RULE, NOTE]
    if others:
        notes.append(f"other members, not read: {listed(f'.{kind} ({n})' for kind, n in sorted(others.items()))}")
    return Listing(
        "webdataset", source, entries_of(rows, Path(), skipped), skipped, _locate(places), None, tuple(notes)
    )


def _stems(shards: Sequence[Path]) -> dict[Path, str]:
    """A folder name for each shard: its stem, with those of the folders above it where two are alike."""
    short = {shard: shard.name.split(".tar")[0].removesuffix(".tgz") for shard in shards}
    if len(set(short.values())) == len(shards):
        return short
    return {shard: f"{shard.parent.name}/{stem}" for shard, stem in short.items()}


def _members(shard: Path, skipped: list[Skipped]) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The plain files of an archive with safe names; the others, and damage, are named in `skipped`."""
    read, seen = 0, set[str]()
    try:
        with tarfile.open(shard, "r:*") as archive:
            for member in archive:
                fault = ""
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    fault = f"{KINDS.get(member.type, 'no plain file')}; only plain files are read"
                elif not safe_file_name(member.name):
                    fault = "its name is not a plain path inside the archive"
                elif member.name in seen:
                    fault = "its name stands twice in the archive; the first one is read"
                if fault:
                    shown = member.name.encode("utf-8", "backslashreplace").decode()
                    skipped.append(Skipped("file", f"{shard.name}: {shown[:100]}", fault))
                    continue
                read += 1
                seen.add(member.name)
                yield archive, member
            stream: Any = archive.fileobj
            stream.seek(archive.offset)  # a whole archive ends with a block of zeros
            if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("it has no end")
            while stream.read(1 << 20):  # so that a packed archive is checked to its own end
                pass
    except DAMAGE as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        what = "empty" if not shard.stat().st_size else f"damaged or cut short ({reason}); {read} files before that"
        skipped.append(Skipped("file", shard.name, f"the archive is {what}"))


def _samples(shard: Path, skipped: list[Skipped], others: Counter[str]) -> Iterator[_Sample]:
    """Members of one stem: all before the first point of the file's name, and its folder."""
    samples: dict[str, _Sample] = {}
    damaged = len(skipped)
    for archive, member in _members(shard, skipped):
        path = PurePosixPath(member.name)
        stem, _, kind = path.name.partition(".")
        kind = kind.lower()
        if not stem:  # a hidden file, such as macOS writes beside each
            others[kind.rpartition(".")[2]] += 1
            continue
        sample = samples.setdefault(str(path.parent / stem), _Sample(str(path.parent / stem)))
        if kind.rpartition(".")[2] in PICTURES:
            if member.size > MAX_BYTES:
                skipped.append(Skipped("file", f"{shard.name}: {member.name}", f"{member.size:,} bytes are too many"))
            else:
                sample.pictures.append(member.name)
        elif kind in TEXTS or kind == "json":
            stream = archive.extractfile(member) if member.size <= MAX_TEXT else None
            if stream is None:
                skipped.append(Skipped("file", f"{shard.name}: {member.name}", f"{member.size:,} bytes are too many"))
                continue
            try:
                sample.texts[kind] = stream.read()
            except DAMAGE:
                continue  # the archive is cut short here, and the loop over its members says so next
        else:
            others[kind] += 1
    cut = any(item.kind == "file" and item.id == shard.name for item in skipped[damaged:])
    whole = list(samples.values())
    if cut and whole and (not whole[-1].pictures or not whole[-1].texts):
        whole.pop()  # what came of the last sample; the archive is named as cut short
    yield from whole


def _captions(sample: _Sample, asked: Sequence[str]) -> tuple[list[Any], str]:
    """The captions of a sample, and why it has none."""
    plain = next((sample.texts[kind] for kind in TEXTS if kind in sample.texts), None)
    if plain is None and "json" not in sample.texts:
        return [], "no caption (.txt or .json)"
    try:
        if plain is not None and not (asked and "json" in sample.texts):
            return [plain.decode("utf-8-sig").strip()], ""
        record = json.loads(sample.texts["json"].decode("utf-8-sig"))
    except UnicodeDecodeError:
        return [], "its text is not UTF-8"
    except (ValueError, RecursionError) as error:
        return [], f"its .json is not JSON ({error})"
    return _texts_of(record, asked) if isinstance(record, Mapping) else ([], "its .json is no object")


def _texts_of(record: Mapping[str, Any], asked: Sequence[str]) -> tuple[list[Any], str]:
    """The captions in a sample's JSON object, and why there is none."""
    keys = [key for key in asked if key in record] if asked else [key for key in KNOWN["caption"] if key in record]
    if not keys or (len(keys) > 1 and not asked):
        why = f"several keys could be the caption: {listed(keys)}" if keys else f"no caption in {listed(record)}"
        return [], f"{why} (--columns caption=KEY)"
    texts: list[Any] = []
    for key in keys:
        texts += record[key] if isinstance(record[key], list) else [record[key]]
    return texts, ""


def _unpack(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Path | str:
    """The file of an image, or why there is none."""
    try:
        stream = archive.extractfile(member)
        data = stream.read() if stream else b""
    except DAMAGE:
        data = b""
    return keep(data) if len(data) == member.size else "the archive is cut short here"


def _among(wanted: Mapping[Path, Mapping[str, int]]) -> Iterator[tuple[int, tarfile.TarFile, tarfile.TarInfo]]:
    """Image id, archive and member of every image that is wanted: archive -> member -> image id."""
    for shard, ids in wanted.items():
        ignored: list[Skipped] = []  # said when the archive was first read
        for archive, member in _members(shard, ignored):
            if member.name in ids:
                yield ids[member.name], archive, member


def _locate(places: Mapping[str, tuple[Path, str]]) -> Locate:
    """Unpack the images of the entries that are used, in one pass through each archive."""

    def locate(entries: Sequence[Entry]) -> Any:
        wanted: dict[Path, dict[str, int]] = {}
        for entry in entries:
            archive_file, name = places[entry.file_name]
            wanted.setdefault(archive_file, {})[name] = entry.image_id
        found: dict[int, Path | str] = {}
        for image_id, archive, member in steps(_among(wanted), "unpacking images", "image", total=len(entries)):
            if image_id not in found:
                found[image_id] = _unpack(archive, member)
        return looked_up(found)

    return locate
