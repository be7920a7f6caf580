"""Qwen2-VL."""

from attention_collapse.models.decoder import Decoder
from attention_collapse.models.interface import Without

LABEL = "Qwen2-VL"
LIBRARY = "transformers"
MODEL_TYPES = ("qwen2_vl",)
CATALOGUE = {
    "qwen2-vl-2b": {"weights": "hub", "repo": "Qwen/Qwen2-VL-2B-Instruct", "dtype": "bfloat16",
        "licence": "Apache-2.0", "millions": 2209},
}  # fmt: skip


class Qwen2Vl(Decoder):
    """Qwen2-VL: as many image tokens as the picture's size asks for."""

    class_name = "Qwen2VLForConditionalGeneration"
    image_encoder = Without("its encoder takes one row per patch")
    image_inputs = Without("the number of image tokens follows the picture's size")
    pixels = Without("the picture is a list of flattened patches")
    picture = Without("neighbouring patches are merged into one token, as many as the picture's size asks for")


load = Qwen2Vl.load
