"""Inputs of many image–caption pairings, each image and each caption prepared once.

Processors take longer than small models do. Where what they make of an image does not depend on the caption, nor the
other way round, a pairing's inputs are the rows of one image and the rows of one caption.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from PIL import Image
from torch import Tensor

from attention_collapse.models.interface import Batch, PairScorer, Without

LIMIT = 2**30  # bytes of prepared inputs
PIXELS = 10**8  # of all images together: 300 MB


class Recombined:
    """The inputs of any pairing of some images and captions."""

    def __init__(
        self, model: PairScorer, own: Sequence[str], images: Sequence[Image.Image], texts: Sequence[str]
    ) -> None:
        count = max(len(images), len(texts))
        pictures = [images[min(k, len(images) - 1)] for k in range(count)]
        batch = model.pairs(pictures, [texts[min(k, len(texts) - 1)] for k in range(count)])
        self._own, self._inputs = own, dict[str, Any](batch.inputs)

    def batch(self, images: Sequence[int], texts: Sequence[int]) -> Batch:
        """Inputs of pairings by position; nothing to read attention from."""
        chosen = {name: list(images if name in self._own else texts) for name in self._inputs}
        return Batch({name: value[chosen[name]] for name, value in self._inputs.items()}, (), {}, ())


def recombined(model: PairScorer, images: Iterable[Image.Image], texts: Sequence[str]) -> Recombined | None:
    """None where the model's inputs cannot be recombined, or where images or inputs would take too much memory.

    No image is read for a model that cannot use it, and none beyond the limit.
    """
    own = model.image_inputs
    if isinstance(own, Without) or not texts:
        return None
    read: list[Image.Image] = []
    pixels = 0
    for image in images:
        read.append(image)
        pixels += image.width * image.height
        if pixels > PIXELS:
            return None
    if not read:
        return None
    one = model.pairs([read[0]], [texts[0]]).inputs
    size = sum(value.nbytes for value in one.values() if isinstance(value, Tensor))
    if size * max(len(read), len(texts)) > LIMIT:
        return None
    return Recombined(model, own, read, texts)
