"""What a modality tells of a label that the other does not: differences of held-out log-losses, in nats.

They are about labelled data and features, not about a score: no study computes them, so they stand beside the measures
of `measures.catalogue` and not among them. The losses are those of `measures.predictors.held_out`.

Two laws hold of every table of losses: what the text tells alone and what the image adds to it are together what both
tell, and so are the same two with the modalities exchanged.
"""

from __future__ import annotations

import numpy as np

from attention_collapse.measures.record import Floats, Measure

ABOUT = "information"


def label_entropy(loss_none: Floats) -> Floats:
    """Held-out log-loss of the class frequencies, H(Y): (example,) nats, ln k for k equally frequent classes."""
    return loss_none


def label_entropy_given_image(loss_image: Floats) -> Floats:
    """Held-out log-loss of a predictor that sees the image, H(Y | image), in nats."""
    return loss_image


def label_entropy_given_text(loss_text: Floats) -> Floats:
    """Held-out log-loss of a predictor that sees the text, H(Y | text), in nats."""
    return loss_text


def label_entropy_given_both(loss_both: Floats) -> Floats:
    """Held-out log-loss of a predictor that sees both, H(Y | image, text), in nats."""
    return loss_both


def usable_information_image(loss_text: Floats, loss_both: Floats) -> Floats:
    """H(Y | text) − H(Y | image, text): what the image adds to the text, 0 where nothing; below 0 by overfitting.

    Examples
    --------
    >>> float(usable_information_image(np.float64(0.75), np.float64(0.25)))
    0.5
    """
    return loss_text - loss_both


def usable_information_text(loss_image: Floats, loss_both: Floats) -> Floats:
    """H(Y | image) − H(Y | image, text): what the text adds to the image."""
    return loss_image - loss_both


def usable_information_image_alone(loss_none: Floats, loss_image: Floats) -> Floats:
    """H(Y) − H(Y | image)."""
    return loss_none - loss_image


def usable_information_text_alone(loss_none: Floats, loss_text: Floats) -> Floats:
    """H(Y) − H(Y | text)."""
    return loss_none - loss_text


def usable_information_both(loss_none: Floats, loss_both: Floats) -> Floats:
    """H(Y) − H(Y | image, text)."""
    return loss_none - loss_both


ENTROPIES = tuple(
    Measure(
        formula, f"entropy of the label{given}", f"held-out log-loss of a predictor of the label that sees {sees}",
        "nats", 0, np.inf, level="image", about=ABOUT,
    )
    for formula, given, sees in (
        (label_entropy, "", "nothing"),
        (label_entropy_given_image, ", given the image", "the image"),
        (label_entropy_given_text, ", given the text", "the text"),
        (label_entropy_given_both, ", given both", "both"),
    )
)  # fmt: skip
INFORMATION = tuple(
    Measure(
        formula, f"usable information, {label}", f"log-loss of the label that {what}, on held-out examples", "nats",
        -np.inf, np.inf, null=0.0, level="image", about=ABOUT,
    )
    for formula, label, what in (
        (usable_information_image, "image beyond text", "the image saves a predictor that sees the text"),
        (usable_information_text, "text beyond image", "the text saves a predictor that sees the image"),
        (usable_information_image_alone, "image alone", "the image saves a predictor that sees nothing"),
        (usable_information_text_alone, "text alone", "the text saves a predictor that sees nothing"),
        (usable_information_both, "both", "both together save a predictor that sees nothing"),
    )
)  # fmt: skip
