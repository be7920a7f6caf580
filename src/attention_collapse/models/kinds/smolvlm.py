"""SmolVLM."""

from attention_collapse.models.decoder import Decoder
from attention_collapse.models.interface import Without

LABEL = "SmolVLM"
LIBRARY = "transformers"
MODEL_TYPES = ("smolvlm",)
CATALOGUE = {
    "smolvlm-500m": {"weights": "hub", "repo": "HuggingFaceTB/SmolVLM2-500M-Video-Instruct",
        "licence": "Apache-2.0", "millions": 507},
}  # fmt: skip


class SmolVlm(Decoder):
    """SmolVLM: the image and its tiles, between row and column markers."""

    class_name = "SmolVLMForConditionalGeneration"
    layers = r"model\.text_model\.layers\.\d+\.self_attn"
    image_encoder = Without("its encoder takes one row per tile")
    image_inputs = Without("the number of image tokens follows the picture's size")
    pixels = picture = Without("the picture is cut into tiles")


load = SmolVlm.load
