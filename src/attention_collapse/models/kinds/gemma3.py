"""Gemma 3."""

from attention_collapse.models.decoder import Decoder
from attention_collapse.models.interface import Without

LABEL = "Gemma 3"
LIBRARY = "transformers"
MODEL_TYPES = ("gemma3",)
CATALOGUE = {
    "gemma3-4b": {"weights": "hub", "repo": "google/gemma-3-4b-it", "dtype": "bfloat16",
        "licence": "Gemma", "millions": 4300},
}  # fmt: skip


class Gemma3(Decoder):
    """Gemma 3: a fixed number of image tokens that see each other both ways; text is causal.

    Most layers see a sliding window only. A query's keys are those within it, so that uniform attention, the null of
    such a layer, is over fewer keys than in the layers that see all.
    """

    class_name = "Gemma3ForConditionalGeneration"
    image_encoder = "model.vision_tower"
    image_inputs = ("pixel_values",)
    pixels = "pixel_values"
    picture = Without("neighbouring patches are averaged into one token")
    notes = ("in layers with a sliding window a query's keys, and so its null, are those within the window",)


load = Gemma3.load
