"""Qwen3-VL."""

from attention_collapse.models.decoder import Decoder
from attention_collapse.models.interface import Without

LABEL = "Qwen3-VL"
LIBRARY = "transformers"
MODEL_TYPES = ("qwen3_vl",)
CATALOGUE = {
    "qwen3-vl-2b": {"weights": "hub", "repo": "Qwen/Qwen3-VL-2B-Instruct", "dtype": "bfloat16",
        "licence": "Apache-2.0", "millions": 2128},
}  # fmt: skip


class Qwen3Vl(Decoder):
    """Qwen3-VL: as many image tokens as the picture's size asks for.

    The outputs of some inner layers of the image encoder are added to the image tokens after the first layers of the
    decoder (DeepStack), so that these tokens receive more of the image there without any attention.
    """

    class_name = "Qwen3VLForConditionalGeneration"
    image_encoder = Without("its encoder takes one row per patch")
    image_inputs = Without("the number of image tokens follows the picture's size")
    pixels = Without("the picture is a list of flattened patches")
    picture = Without("neighbouring patches are merged into one token, as many as the picture's size asks for")
    notes = ("the image encoder's inner layers are added to the image's tokens after the decoder's first layers",)


load = Qwen3Vl.load
