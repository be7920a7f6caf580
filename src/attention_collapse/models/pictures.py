"""Where in a picture the tokens of an image lie, for the kinds of model that keep them in order."""

from __future__ import annotations

import math

from torch import Tensor

from attention_collapse.models.interface import Batch, Read
from attention_collapse.probe import IMAGE

# Kind -> the input that holds the picture, (batch, 3, height, width). Its patches are the image's keys, row by row.
# Absent on purpose: ViLT shuffles its patches, IDEFICS and CoCa resample them, others cut the picture into tiles.
PICTURE = {
    "openclip": "image", "clip": "pixel_values", "siglip": "pixel_values", "blip": "pixel_values",
    "blip2": "pixel_values", "flava": "pixel_values", "llava": "pixel_values", "paligemma": "pixel_values",
    "fusion-v2": "pixels",
}  # fmt: skip


def patch_keys(kind: str, batch: Batch, read: Read) -> tuple[Tensor, Tensor] | str:
    """The pictures as the model received them, and which keys are their patches.

    Returns
    -------
    pixels, keys
        (batch, 3, height, width) normalised as the model wants them, and (batch, side²) key positions, row by row from
        the top left. Or a sentence that says why the patches cannot be placed.
    """
    if kind not in PICTURE:
        return f"the image's tokens of kind {kind} are not patches in the picture's order"
    pixels: Tensor = batch.inputs[PICTURE[kind]]
    image = (batch.groups[read.sites[-1]] == IMAGE).expand(len(pixels), -1)  # (batch, key)
    patches = int(image[0].sum())
    if bool((image.sum(-1) != patches).any()) or math.isqrt(patches) ** 2 != patches:
        return f"{patches} image tokens are no square of patches"
    return pixels, image.nonzero()[:, 1].view(len(pixels), patches)
