"""Pairs of any source as a folder in COCO's layout, which every command and every study reads."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from attention_collapse.data.pairs import write_study
from attention_collapse.data.source import Pairs, read_pairs
from attention_collapse.errors import DataError, ParamsError

SPLIT = re.compile(r"[\w-][\w.-]*")
DEFAULT_SPLIT = "pairs"  # of a source without splits


def convert_pairs(source: Any, out: str | Path, *, overwrite: bool = False, **options: Any) -> Pairs:
    """Write the pairs of a source into a new folder: the images copied, byte for byte, and their captions.

    The folder is whole or absent: it is written beside its place under another name, and renamed at the end. Ids,
    captions and foils are those that `read_pairs` gives, so a model's numbers are the same from either.

    Parameters
    ----------
    overwrite
        Replace a folder that holds nothing but COCO's layout; any other is never touched.
    options
        The arguments of `data.source.read_pairs`.

    Raises
    ------
    AttentionCollapseError
        The errors of `read_pairs`; and if `out` is there already, or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from attention_collapse.data.scenes import write_scenes

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pairs = convert_pairs(write_scenes(Path(folder, "in"), 2, seed=0), Path(folder, "out"))
    ...     len(pairs.pairs), sorted(path.name for path in Path(folder, "out").iterdir())
    (2, ['annotations', 'scenes'])
    """
    target = Path(out).expanduser()
    _require_free(target, source, overwrite=overwrite)
    pairs = read_pairs(source, **options)
    _require_one_name_each(pairs)
    try:
        write_study(target, folder_name(pairs.split), pairs.pairs)
    except OSError as error:
        raise DataError(
            f"{target}: cannot be written ({error.strerror or error})",
            expected="a folder in which the copies of the images have room",
            remedy="make room, or name another folder; nothing was left behind",
        ) from None
    finally:
        shutil.rmtree(target.with_name(f".{target.name}.tmp"), ignore_errors=True)
    return pairs


def folder_name(split: str | None) -> str:
    """The name of a split's folder of images; that of a source without splits is `DEFAULT_SPLIT`.

    Examples
    --------
    >>> folder_name("val"), folder_name(None), folder_name("a/b")
    ('val', 'pairs', 'pairs')
    """
    usable = split is not None and SPLIT.fullmatch(split) is not None and split not in ("annotations", "images")
    return str(split) if usable else DEFAULT_SPLIT


def _require_free(target: Path, source: Any, *, overwrite: bool) -> None:
    """ParamsError unless the folder can be written without loss of anything else."""
    if isinstance(source, str | Path):
        inner, outer = Path(source).expanduser().absolute(), target.absolute()
        if inner == outer or inner.is_relative_to(outer):
            raise ParamsError(
                f"OUT is {target}, which {'is' if inner == outer else 'holds'} the source",
                expected="a folder apart from the source", remedy="name another folder",
            )  # fmt: skip
    if not target.exists() and not target.is_symlink():
        return
    if target.is_dir() and not target.is_symlink() and not any(target.iterdir()):
        return
    ours = _is_layout_alone(target)
    if overwrite and ours:
        return
    raise ParamsError(
        f"{target}: is there already" + ("" if ours else ", and holds something other than COCO's layout"),
        expected="a folder that is not there yet",
        remedy="name another folder" + (", or replace this one with --overwrite" if ours and not overwrite else ""),
    )


def _is_layout_alone(folder: Path) -> bool:
    """True for a folder of annotations/captions_<split>.json and <split>/, and nothing beside them."""
    if not folder.is_dir() or folder.is_symlink():
        return False
    names = {path.name for path in folder.iterdir()}
    splits = {path.stem.removeprefix("captions_") for path in (folder / "annotations").glob("captions_*.json")}
    inside = list((folder / "annotations").iterdir()) if splits else []
    return bool(splits) and names <= splits | {"annotations"} and len(inside) == len(splits)


def _require_one_name_each(pairs: Pairs) -> None:
    names: dict[str, int] = {}
    for pair in pairs.pairs:
        other = names.setdefault(pair.entry.file_name, pair.entry.image_id)
        if other != pair.entry.image_id:
            raise DataError(
                f"{pairs.where}: images {other} and {pair.entry.image_id} are both called {pair.entry.file_name}",
                expected="a name for each image", remedy="rename one of them",
            )  # fmt: skip
