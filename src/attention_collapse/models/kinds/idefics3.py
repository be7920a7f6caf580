"""Idefics3."""

from attention_collapse.models.decoder import Decoder
from attention_collapse.models.interface import Without

LABEL = "Idefics3"
LIBRARY = "transformers"
MODEL_TYPES = ("idefics3",)
CATALOGUE = {
    "idefics3-8b": {"weights": "hub", "repo": "HuggingFaceM4/Idefics3-8B-Llama3", "dtype": "bfloat16",
        "licence": "Apache-2.0", "millions": 8462},
}  # fmt: skip


class Idefics3(Decoder):
    """Idefics3, of which SmolVLM is the small kin."""

    class_name = "Idefics3ForConditionalGeneration"
    layers = r"model\.text_model\.layers\.\d+\.self_attn"
    image_encoder = Without("its encoder takes one row per tile")
    image_inputs = Without("the number of image tokens follows the picture's size")
    pixels = picture = Without("the picture is cut into tiles")


load = Idefics3.load
