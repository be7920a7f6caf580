"""Which images of a table a model's processor can take: decided once, before anything is measured.

Extraction, contributions and T-SHAP then see the same images, and an image that one pass could not take ends no run.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from tqdm import tqdm

from attention_collapse.data.entries import Skipped
from attention_collapse.data.images import load_rgb
from attention_collapse.errors import DataError, ModelError
from attention_collapse.models.interface import Batch, DualEncoder, Model

if TYPE_CHECKING:
    from datasets import Dataset

ORIENTATION = 0x0112  # EXIF: a picture may stand on its side in its file


def takeable(model: Model, pairs: Dataset, *, strict: bool = False) -> tuple[Dataset, list[Skipped]]:
    """The table without the images that the model cannot take, and these with the reason.

    A library's processor refuses a picture for its size, so one picture of each size is tried; a user's own code may
    refuse it for anything, so each is, with its first caption.

    Raises
    ------
    ModelError
        It takes none of them, so that the fault is not a picture's; or its code fails for a reason that is none of an
        image: the network, a file, or a score that is no number.
    DataError
        `strict`, and there is one that it cannot take.
    """
    own = bool(getattr(model, "users_code", False))
    tried: dict[Hashable, ModelError | None] = {}
    refused: dict[int, ModelError] = {}
    columns = (pairs[key] for key in ("image_id", "image", "captions"))
    listed = list(zip(*columns, strict=True))
    for image, file, captions in tqdm(listed, desc=f"{model.name} trying", unit="image", disable=None):
        path = Path(file["path"])
        key: Hashable = image if own else _size(path)
        if key not in tried:
            tried[key] = _refusal(model, load_rgb(path)[0], captions[0] if own else "a", own=own)
        if (error := tried[key]) is not None:
            refused[image] = error
    if refused and len(refused) == len(pairs):
        raise next(iter(refused.values()))
    reasons = {image: error.got.removeprefix(f"{model.name}: ") for image, error in refused.items()}
    if strict and reasons:
        image, reason = next(iter(reasons.items()))
        raise DataError(
            f"image {image} and {len(reasons) - 1} more cannot be taken by {model.name}: {reason}",
            expected="no skipped item under --strict",
            remedy="leave the images out, or run without --strict",
        )
    return without_images(pairs, reasons)


def without_images(pairs: Dataset, refused: Mapping[int, str]) -> tuple[Dataset, list[Skipped]]:
    """The table without some images (id -> reason), and these; a partner of one of them has none."""
    if not refused:
        return pairs, []
    rows, skipped = [], [Skipped("image", str(image), reason) for image, reason in refused.items()]
    for row in pairs:
        known: dict[str, Any] = dict(row)
        if known["image_id"] in refused:
            continue
        if known.get("partner") in refused:
            skipped.append(
                Skipped("partner", str(known["image_id"]), f"its partner, image {known['partner']}, cannot be taken")
            )
            known["partner"] = None
        rows.append(known)
    return type(pairs).from_list(rows, features=pairs.features), skipped


def refused_images(skipped: Iterable[Skipped]) -> dict[str, str]:
    """Id -> reason of the images among what was skipped, as a record keeps them."""
    return {item.id: item.reason for item in skipped if item.kind == "image"}


def _size(path: Path) -> tuple[int, int, int]:
    """Width, height and orientation, from a file's head alone."""
    with Image.open(path) as image:
        return (*image.size, int(image.getexif().get(ORIENTATION, 1)))


def _refusal(model: Model, picture: Image.Image, caption: str, *, own: bool) -> ModelError | None:
    """Why the model cannot take the picture; None if it can."""
    try:
        if isinstance(model, DualEncoder):
            return _without_entropy(model, model.images([picture]), picture)
        batch = model.pairs([picture], [caption])
        if error := _without_entropy(model, batch, picture):
            return error
        if own:
            with torch.inference_mode():
                model.score(batch)
    except ModelError as error:
        if own and (error.__cause__ is None or isinstance(error.__cause__, OSError | MemoryError)):
            raise
        return error
    return None


def _without_entropy(model: Model, batch: Batch, picture: Image.Image) -> ModelError | None:
    """Why no attention to the picture has an entropy: that of one token can only be 0. None where it has."""
    lengths = [int(read.lengths.min()) for read in batch.reads if read.tower == "vision" and read.sites]
    if min(lengths, default=2) > 1:
        return None
    return ModelError(
        f"{model.name}: a picture of {picture.width} × {picture.height} pixels becomes {min(lengths)} image token, and "
        "the entropy of attention over one token can only be 0",
        expected="two image tokens or more",
        remedy="give a larger picture; if every picture is refused, correct what the image processor makes of them: "
        "min_pixels, max_pixels, size and patch_size in preprocessor_config.json",
    )
