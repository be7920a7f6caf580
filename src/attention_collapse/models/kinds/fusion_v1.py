"""The in-house V1, an additive scorer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image

from attention_collapse.families import NO_ATTENTION
from attention_collapse.models.fusion import FusionV1
from attention_collapse.models.inhouse import InHouse
from attention_collapse.models.interface import Batch, Without

LABEL = "in-house V1"
LIBRARY = "in-house"
MODEL_TYPES = ("fusion-v1",)
CATALOGUE: dict[str, dict[str, object]] = {}


class InHouseV1(InHouse):
    """V1: the sum of what image, text and metadata say by themselves. It has no attention of its own."""

    family = NO_ATTENTION
    fusion = FusionV1
    sites: Mapping[str, tuple[str, ...]] = {}
    missing: Mapping[str, str] = {"vision": "an additive scorer has no attention"}
    image_encoder = "image_encoder"
    image_inputs = ("pixels", "metadata")
    pixels = "pixels"
    picture = Without("an additive scorer has no attention")

    def pairs(self, pictures: Sequence[Image.Image], captions: Sequence[str]) -> Batch:
        """Inputs of image–caption pairs; there is no attention to read."""
        return self._inputs(pictures, captions)[0]


load = InHouseV1.load
