"""Labels of images, and features of both modalities, from files; and which images have both."""

from __future__ import annotations

import csv
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attention_collapse.data.entries import Skipped
from attention_collapse.errors import DataError
from attention_collapse.files import read_json

COLUMNS = ("image_id", "label")
ARRAYS = ("image_id", "image", "text")
WRONG_LABELS = "a CSV file with the columns image_id and label, or a JSON object of image id -> label"
LISTED = 5
LOST = ("nan", "<na>", "nat")  # how pandas writes that there is no label


@dataclass(frozen=True)
class Features:
    """Features of each modality alone, one row per image.

    Attributes
    ----------
    image_ids
        (image,).
    image, text
        (image, width), the widths may differ.
    """

    image_ids: tuple[int, ...]
    image: NDArray[Any]
    text: NDArray[Any]


def read_labels(source: str | Path | Mapping[Any, Any]) -> dict[int, str]:
    """Image id -> class, from a CSV or JSON file or from a mapping; an empty label is none.

    Raises
    ------
    DataError
        A file that is absent or of another form; an id that is no whole number; an image that is labelled twice; a
        label that is neither text nor a whole number, since classes and no quantities are meant; "nan" as a label.

    Examples
    --------
    >>> read_labels({7: "cat", "9": 3, 11: " "})
    {7: 'cat', 9: '3'}
    """
    if isinstance(source, Mapping):
        where, rows = "labels", list(source.items())
    else:
        path = Path(source)
        where, rows = str(path), _rows_of_json(path) if path.suffix.lower() == ".json" else _rows_of_csv(path)
    labels: dict[int, str] = {}
    for given, label in rows:
        image_id = _whole(given)
        if image_id is None or isinstance(label, bool) or not isinstance(label, str | int | np.integer):
            raise DataError(
                f"{where}: image {given!r}, label {label!r}",
                expected="a whole number as the id, and a class (text or a whole number) as the label",
                remedy="correct that entry",
            )
        if image_id in labels:
            raise DataError(
                f"{where}: image {image_id} is labelled twice",
                expected="one label per image",
                remedy="keep one of them",
            )
        labels[image_id] = str(label).strip()
    if lost := [image_id for image_id, label in labels.items() if label.casefold() in LOST]:
        more = f" and {len(lost) - LISTED} more" if len(lost) > LISTED else ""
        raise DataError(
            f"{where}: {len(lost)} of {len(labels)} labels are {labels[lost[0]]!r}, as pandas writes a missing one "
            f"(image {', '.join(map(str, lost[:LISTED]))}{more})",
            expected="a class as the label, or an empty one where there is none",
            remedy="leave those images out, or label them",
        )
    return {image_id: label for image_id, label in labels.items() if label}


def read_features(source: str | Path | Mapping[str, Any]) -> Features:
    """Features of an .npz file, or of a mapping, with the arrays image_id (n,), image (n, width) and text (n, width).

    Raises DataError for a file that is absent or of another form, an absent array, unlike lengths, or a repeated id.

    Examples
    --------
    >>> read_features({"image_id": [7, 9], "image": np.zeros((2, 4)), "text": np.ones((2, 3))}).text.shape
    (2, 3)
    """
    where = "features" if isinstance(source, Mapping) else str(source)
    arrays = dict(source) if isinstance(source, Mapping) else _arrays(Path(source))
    absent = [name for name in ARRAYS if name not in arrays]
    found = {name: np.asarray(arrays[name]) for name in ARRAYS if name in arrays}
    shapes = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in found.items())
    rows = {array.shape[:1] for array in found.values()}
    numeric = all(found[name].dtype.kind in "iuf" for name in ("image", "text") if name in found)
    if absent or len(rows) != 1 or not numeric or found["image_id"].ndim != 1:
        raise DataError(
            f"{where}: {shapes or 'no array'}" + (f"; absent: {', '.join(absent)}" if absent else ""),
            expected="arrays image_id (n,), image (n, width) and text (n, width) of real numbers",
            remedy="np.savez(path, image_id=…, image=…, text=…)",
        )
    ids = [_whole(value) for value in found["image_id"].tolist()]
    if None in ids or len(set(ids)) < len(ids):
        raise DataError(
            f"{where}: image_id holds {len(ids)} values, {len(set(ids) - {None})} different whole numbers",
            expected="a whole number per row, each once",
            remedy="correct image_id",
        )
    return Features(tuple(i for i in ids if i is not None), found["image"], found["text"])


def matched(
    labels: Mapping[int, str], image_ids: Sequence[int], *, where: object, strict: bool
) -> tuple[list[int], list[Skipped]]:
    """Positions of the labelled images in order of their ids, and what has no counterpart: labels and images.

    Raises DataError if nothing is left, or in strict mode if anything is left out.

    Examples
    --------
    >>> places, skipped = matched({7: "cat", 9: "dog"}, [9, 11], where="labels", strict=False)
    >>> places, [(item.kind, item.id) for item in skipped]
    ([0], [('label', '7'), ('image', '11')])
    """
    place = {image_id: position for position, image_id in enumerate(image_ids)}
    skipped = [Skipped("label", str(i), f"{where} has no such usable image") for i in sorted(labels.keys() - place)]
    skipped += [Skipped("image", str(i), "it has no label") for i in sorted(place.keys() - labels.keys())]
    chosen = [place[image_id] for image_id in sorted(place.keys() & labels.keys())]
    if not chosen or (strict and skipped):
        listing = "; ".join(f"{item.kind} {item.id}: {item.reason}" for item in skipped[:LISTED])
        more = f" and {len(skipped) - LISTED} more" if len(skipped) > LISTED else ""
        raise DataError(
            f"{where}: {len(chosen)} labelled images, {len(skipped)} without counterpart ({listing}{more})",
            expected="a label for every image and an image for every label under --strict" if chosen
            else "at least one image with a label",
            remedy="compare the ids of the labels with those of the images"
            + (", or run without --strict" if chosen else ""),
        )  # fmt: skip
    return chosen, skipped


def _whole(value: object) -> int | None:
    """The whole number that an id is, also as text; None if it is none."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return int(value)
    try:
        return int(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _wrong(path: Path, why: str) -> DataError:
    return DataError(f"{path}: {why}", expected=WRONG_LABELS, remedy="correct the file")


def _rows_of_json(path: Path) -> list[tuple[Any, Any]]:

    def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for key, count in Counter(key for key, _ in pairs).items():
            if count > 1:
                raise _wrong(path, f"image {key} is labelled twice")
        return dict(pairs)

    found = read_json(path, each_once)
    if not isinstance(found, dict):
        raise _wrong(path, f"holds {type(found).__name__}, no object")
    return list(found.items())


def _rows_of_csv(path: Path) -> list[tuple[Any, Any]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            header = reader.fieldnames or []
            if any(column not in header for column in COLUMNS):
                raise _wrong(path, f"its columns are {', '.join(header) or 'none'}")
            return [(row["image_id"], row["label"] or "") for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise _wrong(path, f"cannot be read as CSV ({why})") from None


def _arrays(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except (OSError, ValueError, TypeError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path}: cannot be read as .npz ({error})",
            expected="an .npz file of NumPy arrays of numbers",
            remedy="np.savez(path, image_id=…, image=…, text=…)",
        ) from None
