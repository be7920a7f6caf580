"""SigLIP 2 (NaFlex)."""

from attention_collapse.models.dual_encoder import PADDED, TEXT_LAYERS, VISION, TransformersDualEncoder
from attention_collapse.models.interface import Without

LABEL = "SigLIP 2"
LIBRARY = "transformers"
MODEL_TYPES = ("siglip2",)
CATALOGUE = {
    "siglip2-b-16-naflex": {"weights": "hub", "repo": "google/siglip2-base-patch16-naflex",
        "licence": "Apache-2.0", "millions": 375},
}  # fmt: skip


class Siglip2(TransformersDualEncoder):
    """SigLIP 2: patches in the picture's own shape, pooled by attention, and texts padded to 64 tokens."""

    class_name = "Siglip2Model"
    vision, text = VISION, TEXT_LAYERS
    class_token = False
    readout = "last"
    padded_to = 64
    mm_shap = PADDED
    pixels = Without("the picture is a list of flattened patches")
    picture = Without("patches lie in a grid of the picture's own shape, with padding behind them")


load = Siglip2.load
