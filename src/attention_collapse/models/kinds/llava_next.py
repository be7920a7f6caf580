"""LLaVA-NeXT."""

from attention_collapse.models.anyres import AnyResolutionDecoder
from attention_collapse.models.interface import Without

LABEL = "LLaVA-NeXT"
LIBRARY = "transformers"
MODEL_TYPES = ("llava_next",)
CATALOGUE = {
    "llava-next-7b": {"weights": "hub", "repo": "llava-hf/llava-v1.6-vicuna-7b-hf", "dtype": "bfloat16",
        "licence": "LLaMA 2", "millions": 7063},
}  # fmt: skip


class LlavaNext(AnyResolutionDecoder):
    """LLaVA-NeXT: the whole image, then its tiles row by row, each row closed by a learned token (other)."""

    class_name = "LlavaNextForConditionalGeneration"
    image_encoder = Without("its encoder takes one row per tile")
    image_inputs = Without("the number of image tokens follows the picture's size")
    pixels = picture = Without("the picture is cut into tiles")


load = LlavaNext.load
