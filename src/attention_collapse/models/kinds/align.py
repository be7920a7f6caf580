"""ALIGN."""

from attention_collapse.models.dual_encoder import TransformersDualEncoder
from attention_collapse.models.interface import Without
from attention_collapse.models.mm_shap import CLIP

LABEL = "ALIGN"
LIBRARY = "transformers"
MODEL_TYPES = ("align",)
CATALOGUE = {
    "align-base": {"weights": "hub", "repo": "kakaobrain/align-base", "licence": "see its page", "millions": 172},
}  # fmt: skip


class Align(TransformersDualEncoder):
    """ALIGN: a convolutional vision tower."""

    class_name = "AlignModel"
    vision, text = None, r"text_model\.encoder\.layer\.\d+\.attention\.self"
    class_token = False
    readout = "first"
    padded_to = None
    mm_shap = CLIP
    pixels = "pixel_values"
    picture = Without("the vision tower is convolutional and has no attention")


load = Align.load
