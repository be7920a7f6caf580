"""Qwen2.5-VL."""

from attention_collapse.models.decoder import Decoder
from attention_collapse.models.interface import Without

LABEL = "Qwen2.5-VL"
LIBRARY = "transformers"
MODEL_TYPES = ("qwen2_5_vl",)
CATALOGUE = {
    "qwen2-5-vl-3b": {"weights": "hub", "repo": "Qwen/Qwen2.5-VL-3B-Instruct", "dtype": "bfloat16",
        "licence": "Qwen Research", "millions": 3755},
}  # fmt: skip


class Qwen25Vl(Decoder):
    """Qwen2.5-VL: as many image tokens as the picture's size asks for."""

    class_name = "Qwen2_5_VLForConditionalGeneration"
    image_encoder = Without("its encoder takes one row per patch")
    image_inputs = Without("the number of image tokens follows the picture's size")
    pixels = Without("the picture is a list of flattened patches")
    picture = Without("neighbouring patches are merged into one token, as many as the picture's size asks for")


load = Qwen25Vl.load
