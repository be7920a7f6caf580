"""InternVL, in the layout of the transformers library (repositories that end in -hf)."""

from attention_collapse.models.decoder import Decoder
from attention_collapse.models.interface import Without

LABEL = "InternVL"
LIBRARY = "transformers"
MODEL_TYPES = ("internvl",)
CATALOGUE = {
    "internvl3-1b": {"weights": "hub", "repo": "OpenGVLab/InternVL3-1B-hf", "dtype": "bfloat16",
        "licence": "Qwen", "millions": 938},
}  # fmt: skip


class InternVl(Decoder):
    """InternVL: the image's tiles row by row, then the whole image; four patches are shuffled into one token."""

    class_name = "InternVLForConditionalGeneration"
    image_encoder = Without("its encoder takes one row per tile")
    image_inputs = Without("the number of image tokens follows the picture's size")
    pixels = picture = Without("the picture is cut into tiles")


load = InternVl.load
