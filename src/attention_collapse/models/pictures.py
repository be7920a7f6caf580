"""Where in a picture the tokens of an image lie, for the kinds of model that keep them in order."""

from __future__ import annotations

import math

from torch import Tensor

from attention_collapse.models.interface import Batch, Read, Without
from attention_collapse.probe import IMAGE


def patch_keys(picture: str | Without, batch: Batch, read: Read) -> tuple[Tensor, Tensor] | str:
    """The pictures as the model received them, and which keys are their patches.

    Parameters
    ----------
    picture
        As the model says: the input that holds the pictures, or why there is none.

    Returns
    -------
    pixels, keys
        (batch, 3, height, width) normalised as the model wants them, and (batch, side²) key positions, row by row from
        the top left. Or a sentence that says why the patches cannot be placed.
    """
    if isinstance(picture, Without):
        return f"the image's tokens are not patches in the picture's order: {picture.why}"
    pixels: Tensor = batch.inputs[picture]
    image = (batch.groups[read.sites[-1]] == IMAGE).expand(len(pixels), -1)  # (batch, key)
    patches = int(image[0].sum())
    if bool((image.sum(-1) != patches).any()) or math.isqrt(patches) ** 2 != patches:
        return f"{patches} image tokens are no square of patches"
    return pixels, image.nonzero()[:, 1].view(len(pixels), patches)
