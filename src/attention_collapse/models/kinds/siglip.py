"""SigLIP."""

from attention_collapse.models.dual_encoder import PADDED, TEXT_LAYERS, VISION, TransformersDualEncoder

LABEL = "SigLIP"
LIBRARY = "transformers"
MODEL_TYPES = ("siglip",)
CATALOGUE = {
    "siglip-b-16": {"weights": "hub", "repo": "google/siglip-base-patch16-224",
        "licence": "Apache-2.0", "millions": 203},
}  # fmt: skip


class Siglip(TransformersDualEncoder):
    """SigLIP: patches pooled by attention, and texts padded to 64 tokens."""

    class_name = "SiglipModel"
    vision, text = VISION, TEXT_LAYERS
    class_token = False
    readout = "last"
    padded_to = 64
    mm_shap = PADDED
    pixels = picture = "pixel_values"


load = Siglip.load
