"""Entropies of attention as they are reported: of each modality, and between modalities."""

from __future__ import annotations

from math import inf

from attention_collapse.families import CROSS_ATTENTION, DUAL_ENCODER, SINGLE_STREAM, THREE_GROUP
from attention_collapse.measures.mcs import ORIGINAL
from attention_collapse.measures.record import Floats, Measure

DIFFUSE = 2.0  # nats: cross-modal entropy below which the original report calls collapse
FUSED = dict.fromkeys((CROSS_ATTENTION, SINGLE_STREAM, THREE_GROUP), "the model has real attention between modalities")
APART = {DUAL_ENCODER: "a dual encoder holds no attention between modalities"}


def entropy_vision(entropy_vision: Floats) -> Floats:
    """Mean entropy of the attention that stands for the image, in nats: 0 to ln n of its n keys."""
    return entropy_vision


def entropy_text(entropy_text: Floats) -> Floats:
    """Mean entropy of the attention that stands for the text, in nats: 0 to ln n of its n keys."""
    return entropy_text


def cross_modal_entropy(entropy_vision: Floats) -> Floats:
    """Entropy of the text's attention over the image, in nats: 0 to ln n of its n keys."""
    return entropy_vision


def cross_modal_entropy_normalized(entropy_normalized_vision: Floats) -> Floats:
    """`cross_modal_entropy` over ln n: 0 to 1."""
    return entropy_normalized_vision


def cross_modal_entropy_surrogate(entropy_surrogate: Floats) -> Floats:
    """Entropy of softmax over an image's patches of logit_scale · cos(caption, patch), in nats: not attention."""
    return entropy_surrogate


def cross_modal_entropy_surrogate_normalized(entropy_normalized_surrogate: Floats) -> Floats:
    """`cross_modal_entropy_surrogate` over ln n of the n patches: 0 to 1."""
    return entropy_normalized_surrogate


ENTROPIES = (
    Measure(
        entropy_vision, "entropy, vision", "mean entropy of the attention that stands for the image", "nats", 0, inf,
        needs=("vision",), uses=frozenset({"layers"}),
    ),
    Measure(
        entropy_text, "entropy, text", "mean entropy of the attention that stands for the text", "nats", 0, inf,
        needs=("text",), uses=frozenset({"layers"}),
    ),
    Measure(
        cross_modal_entropy, "cross-modal entropy", "entropy of the text's attention over the image", "nats", 0, inf,
        undefined=APART, image_ignored=-1, text_ignored=-1, bounds=(DIFFUSE, inf), bounds_source=ORIGINAL,
    ),
    Measure(
        cross_modal_entropy_normalized, "cross-modal entropy ÷ ln n", "cross-modal entropy over its maximum",
        "share", 0, 1, null=1.0, undefined=APART, image_ignored=-1, text_ignored=-1,
        heading="cross-modal entropy ÷ ln n",
    ),
    Measure(
        cross_modal_entropy_surrogate, "surrogate of cross-modal entropy", "entropy of a caption's similarity to "
        "an image's patches, not of attention", "nats", 0, inf, undefined=FUSED, needs=("surrogate",),
    ),
    Measure(
        cross_modal_entropy_surrogate_normalized, "surrogate ÷ ln n", "the surrogate over its maximum", "share", 0, 1,
        null=1.0, undefined=FUSED, needs=("surrogate",), heading="surrogate entropy ÷ ln n",
    ),
)  # fmt: skip
