"""LLaVA-OneVision."""

from attention_collapse.models.anyres import AnyResolutionDecoder
from attention_collapse.models.interface import Without

LABEL = "LLaVA-OneVision"
LIBRARY = "transformers"
MODEL_TYPES = ("llava_onevision",)
CATALOGUE = {
    "llava-onevision-0.5b": {"weights": "hub", "repo": "llava-hf/llava-onevision-qwen2-0.5b-ov-hf", "dtype": "bfloat16",
        "licence": "Apache-2.0", "millions": 894},
}  # fmt: skip


class LlavaOnevision(AnyResolutionDecoder):
    """LLaVA-OneVision: the whole image, then its tiles row by row, each row closed by a learned token (other).

    A picture of more tiles than its checkpoint allows ("anyres_max_9") is interpolated to fewer, larger patches.
    """

    class_name = "LlavaOnevisionForConditionalGeneration"
    image_encoder = Without("its encoder takes one row per tile")
    image_inputs = Without("the number of image tokens follows the picture's size")
    pixels = picture = Without("the picture is cut into tiles")


load = LlavaOnevision.load
