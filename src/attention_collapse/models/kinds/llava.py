"""LLaVA 1.5."""

from attention_collapse.models.decoder import Decoder
from attention_collapse.models.interface import Without

LABEL = "LLaVA"
LIBRARY = "transformers"
MODEL_TYPES = ("llava",)
CATALOGUE = {
    "llava-1.5-7b": {"weights": "hub", "repo": "llava-hf/llava-1.5-7b-hf", "dtype": "bfloat16",
        "licence": "LLaMA 2", "millions": 7063},
}  # fmt: skip


class Llava(Decoder):
    """LLaVA 1.5: CLIP's patches as tokens of a Llama."""

    class_name = "LlavaForConditionalGeneration"
    image_encoder = "model.vision_tower"
    image_inputs = ("pixel_values",)
    pixels = picture = "pixel_values"
    text_states = Without("its own head says the next words")


load = Llava.load
