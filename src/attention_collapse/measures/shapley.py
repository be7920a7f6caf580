"""Causal contributions: what a model's score loses when a modality is replaced. Attention plays no part in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from attention_collapse.measures.record import BY_SEVERITY, CONTRIBUTION, Floats, Measure


@dataclass(frozen=True)
class TwoPlayer:
    """Shapley values of the two-player game v over {image, text}, in units of the score.

    image and text add to v(both) − v(neither); `interaction` is v(both) − v(image) − v(text) + v(neither), 0 for an
    additive model.

    Examples
    --------
    >>> float(TwoPlayer(np.array(1.0), np.array(-3.0), np.array(0.0)).share)  # 1 / (1 + 3)
    0.25
    """

    image: Floats
    text: Floats
    interaction: Floats

    @property
    def share(self) -> Floats:
        """`|image| / (|image| + |text|)`: 0 (text alone) to 1 (image alone), NaN where both are 0."""
        return shapley_share(self.image, self.text)


def two_player(both: ArrayLike, image: ArrayLike, text: ArrayLike, neither: ArrayLike) -> TwoPlayer:
    """Shapley values from the four coalitions' scores; an absent player is replaced by an ablation (Shapley 1953).

    Parameters
    ----------
    both, image, text, neither
        Scores of any one shape: of the pair itself, of its image with an ablated text, of its text with an ablated
        image, and with both ablated.

    Examples
    --------
    >>> game = two_player(both=4.0, image=1.0, text=2.0, neither=0.0)
    >>> [float(value) for value in (game.image, game.text, game.interaction)]  # ((4 − 2) + 1) / 2, ((4 − 1) + 2) / 2
    [1.5, 2.5, 1.0]
    """
    v, v_i, v_t, v_0 = (np.asarray(part, np.float64) for part in (both, image, text, neither))
    return TwoPlayer(((v - v_t) + (v_i - v_0)) / 2, ((v - v_i) + (v_t - v_0)) / 2, v - v_i - v_t + v_0)


def score(both: Floats) -> Floats:
    """The model's own score of each pair, (pair,), from (pair, 1)."""
    return both[:, 0]


def shapley_image(both: Floats, image: Floats, text: Floats, neither: Floats) -> Floats:
    """The image's Shapley value, (pair,), in units of the score: mean over the partners of (pair, partner) scores.

    Examples
    --------
    >>> cells = (np.array([[value]]) for value in (4.0, 1.0, 2.0, 0.0))  # both, image, text, neither
    >>> shapley_image(*cells).tolist()
    [1.5]
    """
    found: Floats = two_player(both, image, text, neither).image.mean(1)
    return found


def shapley_text(both: Floats, image: Floats, text: Floats, neither: Floats) -> Floats:
    """The text's Shapley value, as `shapley_image`.

    Examples
    --------
    >>> cells = (np.array([[value]]) for value in (4.0, 1.0, 2.0, 0.0))
    >>> shapley_text(*cells).tolist()
    [2.5]
    """
    found: Floats = two_player(both, image, text, neither).text.mean(1)
    return found


def interaction(both: Floats, image: Floats, text: Floats, neither: Floats) -> Floats:
    """What the two together add to the score beyond each alone, (pair,): 0 for an additive model.

    Examples
    --------
    >>> cells = (np.array([[value]]) for value in (4.0, 1.0, 2.0, 0.0))
    >>> interaction(*cells).tolist()  # 4 − 1 − 2 + 0
    [1.0]
    """
    found: Floats = two_player(both, image, text, neither).interaction.mean(1)
    return found


def shapley_share(shapley_image: ArrayLike, shapley_text: ArrayLike) -> Floats:
    """`|image| / (|image| + |text|)`, 0 (text alone) to 1 (image alone), NaN where both are 0.

    Examples
    --------
    >>> float(shapley_share(-1.0, 3.0))
    0.25
    """
    a, b = np.abs(np.asarray(shapley_image, np.float64)), np.abs(np.asarray(shapley_text, np.float64))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(a + b > 0, a / (a + b), np.nan)


def share_slack(shapley_image: Floats, shapley_text: Floats, error: float) -> Floats:
    """How far errors of the score may move the share: far, where both values are small."""
    found: Floats = error / np.maximum(np.abs(shapley_image) + np.abs(shapley_text), error)
    return found


def _game(suffix: str, baseline: str, uses: frozenset[str]) -> tuple[Measure, ...]:
    """The measures of the two-player game with one baseline for an absent image."""
    cells = ("both", "image", f"text{suffix}", f"neither{suffix}")
    values = (f"shapley_image{suffix}", f"shapley_text{suffix}")
    against, detail = (f", {baseline}" if suffix else ""), frozenset({"detail"})
    return (
        Measure(
            shapley_image, f"Shapley value of the image{against}", "what the image adds to the score", "score",
            -np.inf, np.inf, name=values[0], inputs=cells, about=CONTRIBUTION, uses=detail,
        ),
        Measure(
            shapley_text, f"Shapley value of the text{against}", "what the text adds to the score", "score",
            -np.inf, np.inf, name=values[1], inputs=cells, about=CONTRIBUTION, uses=detail,
        ),
        Measure(
            interaction, f"interaction{against}", "what both together add beyond each alone", "score", -np.inf, np.inf,
            name=f"interaction{suffix}", inputs=cells, null=0.0, about=CONTRIBUTION,
            uses=detail if suffix else frozenset(),
        ),
        Measure(
            shapley_share, f"Shapley share of the image{against}",
            f"|φ_image| / (|φ_image| + |φ_text|), Shapley values of the score; absent: {baseline or 'another image'}",
            "share", 0, 1, name=f"shapley_share{suffix}", inputs=values, null=0.5,
            share_of="of what the score depends on", about=CONTRIBUTION, image_ignored=-1, text_ignored=1,
            bounds=BY_SEVERITY, slack=share_slack, uses=uses,
            heading="Shapley share, mean image" if suffix else "Shapley share",
        ),
    )  # fmt: skip


SCORE = Measure(
    score, "score", "the model's own score of the pair", "score", -np.inf, np.inf, about=CONTRIBUTION,
    uses=frozenset({"detail"}),
)  # fmt: skip
ANOTHER_IMAGE = _game("", "", frozenset({"severity", "diagnosed"}))
MEAN_IMAGE = _game("_mean_image", "mean image", frozenset({"severity"}))
