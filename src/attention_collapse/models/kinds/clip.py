"""CLIP, in the transformers library."""

from attention_collapse.models.dual_encoder import TEXT_LAYERS, VISION, TransformersDualEncoder
from attention_collapse.models.mm_shap import CLIP

LABEL = "CLIP"
LIBRARY = "transformers"
MODEL_TYPES = ("clip",)
CATALOGUE = {
    "clip-vit-b-32": {"weights": "hub", "repo": "openai/clip-vit-base-patch32", "licence": "MIT", "millions": 151},
}  # fmt: skip


class Clip(TransformersDualEncoder):
    """CLIP: class token, and a causal text tower that reads out at the end token."""

    class_name = "CLIPModel"
    vision, text = VISION, TEXT_LAYERS
    class_token = True
    readout = "end"
    padded_to = None
    mm_shap = CLIP
    pixels = picture = "pixel_values"


load = Clip.load
