"""Training methods against attention collapse, for any PyTorch loop.

A method takes the place of the loss: `loss = method.loss(score, image, text, target)`, where `score(image, text)` runs
the model. After `loss.backward()` comes `method.after_backward()`, which only some methods use. Nothing of a method is
left in the model that was trained. `ContrastiveDecoding` alone is for a model that is trained already.
"""

from attention_collapse.prevention.branch import ProductOfExperts
from attention_collapse.prevention.decoding import ContrastiveDecoding
from attention_collapse.prevention.dropout import ModalityDropout
from attention_collapse.prevention.method import Inputs, Method, Plain, Score
from attention_collapse.prevention.modulation import GradientModulation
from attention_collapse.prevention.swaps import Choice, ImageChoice, SwapConsistency, SwappedNegatives, token_counts
from attention_collapse.prevention.weighting import GroupReweighting, JustTrainTwice

METHODS: tuple[type[Method], ...] = (
    Plain, ModalityDropout, GradientModulation, ProductOfExperts, JustTrainTwice, SwappedNegatives, Choice,
    ImageChoice, SwapConsistency, GroupReweighting,
)  # fmt: skip

__all__ = [
    "METHODS",
    "Choice",
    "ContrastiveDecoding",
    "GradientModulation",
    "GroupReweighting",
    "ImageChoice",
    "Inputs",
    "JustTrainTwice",
    "Method",
    "ModalityDropout",
    "Plain",
    "ProductOfExperts",
    "Score",
    "SwapConsistency",
    "SwappedNegatives",
    "token_counts",
]
