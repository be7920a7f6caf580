"""From a file of unknown quality to 8-bit RGB pixels, or to a reason why not.

How a file becomes pixels is decided here alone, by what the file has::

    transparency    composed on `BACKGROUND`, so that colours under alpha 0 have no influence; of every mode that has
                    it: RGBA, LA, a palette, one transparent colour
    16-bit grey     scaled to 8 bits, 65535 to 255; 32-bit and floating-point values are refused, their white is unknown
    palette, 1-bit, grey, CMYK, YCbCr    converted; CMYK of a JPEG is read inverted, as Adobe writes it
    EXIF            turned upright
    ICC profile     not applied: the pipelines that train and evaluate vision-language models do not apply it either

What leaves carries pixels alone: no EXIF, no transparent colour, no profile, no palette, no file name, so that no
library can turn it or compose it again.
"""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from attention_collapse.errors import DataError

# The limit below refuses such images; Pillow's own warning would only repeat it on the terminal.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

MAX_PIXELS = 50_000_000  # 150 MB of RGB; the largest COCO image has 0.41 million pixels
COMPOSED = "transparency composed on white"
BACKGROUND = (255, 255, 255)  # white: the page that pictures with transparency are drawn for and shown on
# Files of other kinds are refused: some of Pillow's readers run programs (EPS). JPEG's opens MPO too.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO", "TGA", "PCX")


class UnusableImageError(DataError):
    """An image that cannot stand for a pair; `reason` goes into the manifest.

    Examples
    --------
    >>> UnusableImageError(Path("1.jpg"), "file is absent").reason
    'file is absent'
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"{path}: {reason}", expected="one readable still image", remedy="replace the file or leave the image out"
        )


def _from_sixteen_bits(image: Image.Image) -> tuple[Image.Image, bool]:
    """16-bit grey scaled to 8 bits (Pillow's own conversion clips), and whether one grey of it was transparent."""
    values = np.asarray(image).astype(np.uint16)
    grey = (values >> 8).astype(np.uint8)
    clear = values == image.info.get("transparency", -1)
    grey[clear] = BACKGROUND[0]
    return Image.fromarray(grey), bool(clear.any())


def _has_transparency(image: Image.Image) -> bool:
    return image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info


def _composed(image: Image.Image) -> tuple[Image.Image, bool]:
    """The image as RGB on the background, and whether any of it was transparent."""
    clear = image.info.get("transparency")
    if isinstance(clear, tuple) and max(clear) > 255:
        raise ValueError("one colour of 16 bits is transparent, and Pillow keeps 8 bits of each")
    if image.mode in {"La", "PA"}:
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    colours = image.convert("RGBA")
    if np.asarray(colours.getchannel("A")).min(initial=255) == 255:
        return colours.convert("RGB"), False
    background = Image.new("RGBA", colours.size, (*BACKGROUND, 255))
    return Image.alpha_composite(background, colours).convert("RGB"), True


def _upright_rgb(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    notes: list[str] = []
    if image.getexif().get(0x0112, 1) != 1:
        notes.append("rotated as its EXIF orientation says")
        image = ImageOps.exif_transpose(image)
    if image.mode in {"I", "F"}:
        raise ValueError(f"32-bit pixel values (mode {image.mode}), whose white is unknown")
    mode = image.mode
    if mode.startswith("I;16"):
        notes.append("16-bit values scaled to 8 bits")
        image, composed = _from_sixteen_bits(image)
        notes += [COMPOSED] * composed
        mode = image.mode
    if _has_transparency(image):
        image, composed = _composed(image)
        notes += [COMPOSED] * composed
    if mode != "RGB":
        notes.append(f"converted from {mode} to RGB")
        image = image.convert("RGB")
    return _pixels_alone(image), tuple(notes)


def _pixels_alone(image: Image.Image) -> Image.Image:
    """A new image of the same pixels, to which nothing of the file clings."""
    alone = Image.new("RGB", image.size)
    alone.paste(image)
    return alone


@cache
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this build of Pillow reads."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def load_rgb(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[Image.Image, tuple[str, ...]]:
    """Decode one image completely.

    Returns
    -------
    image, notes
        An upright, opaque 8-bit RGB image that carries nothing but pixels, and what had to be converted on the way
        (empty for an ordinary photograph).

    Raises
    ------
    UnusableImageError
        Absent, empty, truncated, animated, not an image, or more than `max_pixels` (checked before decoding).

    Examples
    --------
    >>> import tempfile

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGBA", (2, 1), (255, 0, 0, 0)).save(Path(folder, "clear.png"))
    ...     image, notes = load_rgb(Path(folder, "clear.png"))
    >>> image.getpixel((0, 0)), notes[0]
    ((255, 255, 255), 'transparency composed on white')
    """
    try:
        if not path.is_file():
            raise UnusableImageError(path, "file is absent")
        if path.stat().st_size == 0:
            raise UnusableImageError(path, "file is empty (0 bytes)")
        with Image.open(path, formats=_formats()) as image:
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
