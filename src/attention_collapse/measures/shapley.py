"""Causal contributions: what a model's score loses when a modality is replaced. Attention plays no part in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TwoPlayer:
    """Shapley values of the two-player game v over {image, text}, in units of the score.

    image and text add to v(both) − v(neither); `interaction` is v(both) − v(image) − v(text) + v(neither), 0 for an
    additive model.
    """

    image: Floats
    text: Floats
    interaction: Floats

    @property
    def share(self) -> Floats:
        """|image| / (|image| + |text|): 0 (text alone) to 1 (image alone), NaN where both are 0."""
        return shapley_share(self.image, self.text)


def two_player(both: ArrayLike, image: ArrayLike, text: ArrayLike, neither: ArrayLike) -> TwoPlayer:
    """Shapley values from the four coalitions' scores; an absent player is replaced by an ablation (Shapley 1953).

    Parameters
    ----------
    both, image, text, neither
        Scores of any one shape: of the pair itself, of its image with an ablated text, of its text with an ablated
        image, and with both ablated.
    """
    v, v_i, v_t, v_0 = (np.asarray(part, np.float64) for part in (both, image, text, neither))
    return TwoPlayer(((v - v_t) + (v_i - v_0)) / 2, ((v - v_i) + (v_t - v_0)) / 2, v - v_i - v_t + v_0)


def shapley_share(image: ArrayLike, text: ArrayLike) -> Floats:
    """|image| / (|image| + |text|), NaN where both are 0."""
    a, b = np.abs(np.asarray(image, np.float64)), np.abs(np.asarray(text, np.float64))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(a + b > 0, a / (a + b), np.nan)
