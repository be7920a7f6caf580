"""From a file of unknown quality to 8-bit RGB pixels, or to a reason why not."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from attention_collapse.errors import DataError

# The limit below refuses such images; Pillow's own warning would only repeat it on the terminal.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

MAX_PIXELS = 50_000_000  # 150 MB of RGB; the largest COCO image has 0.41 million pixels


class UnusableImageError(DataError):
    """An image that cannot stand for a pair; `reason` goes into the manifest."""

    def __init__(self, path: Path, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"{path}: {reason}", expected="one readable still image", remedy="replace the file or leave the image out"
        )


def _eight_bit_grey(image: Image.Image) -> Image.Image:
    """16-bit greyscale scaled to 8 bits (Pillow's own conversion clips instead of scaling)."""
    return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))


def _upright_rgb(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    notes = []
    if image.getexif().get(0x0112, 1) != 1:
        notes.append("rotated as its EXIF orientation says")
        image = ImageOps.exif_transpose(image)
    if image.mode in {"I", "F"}:
        raise ValueError(f"32-bit pixel values (mode {image.mode}), whose white is unknown")
    if image.mode.startswith("I;16"):
        notes.append("16-bit values scaled to 8 bits")
        image = _eight_bit_grey(image)
    if image.mode != "RGB":
        notes.append(f"converted from {image.mode} to RGB")
        image = image.convert("RGB")
    return image, tuple(notes)


def load_rgb(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[Image.Image, tuple[str, ...]]:
    """Decode one image completely.

    Returns
    -------
    image, notes
        An upright 8-bit RGB image, and what had to be converted on the way (empty for an ordinary photograph).

    Raises
    ------
    UnusableImageError
        Absent, empty, truncated, animated, not an image, or more than `max_pixels` (checked before decoding).
    """
    try:
        if not path.is_file():
            raise UnusableImageError(path, "file is absent")
        if path.stat().st_size == 0:
            raise UnusableImageError(path, "file is empty (0 bytes)")
        with Image.open(path) as image:
            pixels = image.width * image.height
            if pixels > max_pixels:
                raise UnusableImageError(path, f"{pixels:,} pixels, more than the limit of {max_pixels:,}")
            # MPO is a photograph with a preview behind it; its first frame is the picture.
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":
                raise UnusableImageError(path, f"animated or many-paged ({frames} frames)")
            image.load()
            return _upright_rgb(image)
    except Image.DecompressionBombError:
        raise UnusableImageError(path, f"more pixels than the limit of {max_pixels:,}") from None
    except (UnusableImageError, MemoryError):
        raise
    except Exception as error:  # damaged files make Pillow raise anything: struct.error, TypeError, …
        raise UnusableImageError(path, f"cannot be decoded ({error})".replace(str(path), path.name)) from None
