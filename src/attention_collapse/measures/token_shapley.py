"""Token-level T-SHAP (MM-SHAP, Parcalabescu & Frank, ACL 2023) through the `shap` library, beside its noise floor.

The players of the game are a caption's tokens and the cells of a grid over its image; v(S) is the model's score with
the players outside S absent. T-SHAP is the text's share of Σ|φ|.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attention_collapse.errors import DataError, ParamsError
from attention_collapse.measures.record import BY_SEVERITY, CONTRIBUTION, Floats, Measure

Coalitions = NDArray[np.bool_]  # (coalition, player): who is present
Value = Callable[[Coalitions], Any]  # -> (coalition,) scores

ROUNDING = 1e-6  # of the largest |value|: as far as Σφ may be from v(all) − v(none)


@dataclass(frozen=True)
class TokenShapley:
    """What one pair's game comes to.

    Attributes
    ----------
    phi
        (player,) Shapley values, text tokens first, in units of the score; they add to v(all) − v(none).
    share
        T-SHAP: Σ|φ| of the text ÷ Σ|φ| of all, 0 (image alone) to 1 (text alone), NaN where all φ are 0.
    floor
        The share that the same coalitions give when their values are shuffled among them; NaN as `share`.
    evaluations
        Budget spent: 2p + 1 a permutation of the p players. The distinct coalitions scored are fewer.
    """

    phi: Floats
    share: float
    floor: float
    evaluations: int


def grid_side(tokens: int) -> int:
    """Cells a side of the image's grid: ⌈√(tokens + 2)⌉, so that image and text have about as many players.

    The two are the caption's start and end tokens, which the paper's code counts here but never masks.
    """
    return isqrt(tokens + 1) + 1


def text_share(phi: Floats, text: int) -> Floats:
    """Σ|φ| of the first `text` players ÷ Σ|φ| of all along axis 0, 0 to 1; NaN where all φ are 0."""
    size = np.abs(phi)
    total = size.sum(0)
    with np.errstate(invalid="ignore"):
        share: Floats = size[:text].sum(0) / np.where(total > 0, total, np.nan)
    return share


def token_shapley(
    value: Value, *, text: int, image: int, seed: int, evaluations: int | None = None, slots: int | None = None,
    floor_draws: int = 10,
) -> TokenShapley:  # fmt: skip
    """Shapley values of a pair's tokens and cells by antithetic sampling of permutations (`shap`), and their T-SHAP.

    A permutation adds the players one by one, and then removes them in the same order, which is exact for games of
    pairwise interactions; see `shap.PermutationExplainer`. Here its samples are drawn first, so that `value` is asked
    once, for the distinct coalitions.

    The noise floor is T-SHAP of a game that means nothing: the values of these coalitions, shuffled among them. Its
    expectation is text ÷ (text + image), whatever the model: with one permutation the 2p coalitions form a cycle along
    which each φ is half the difference of two steps p apart, so shuffled values give every |φ| the same distribution.
    A share near it is no evidence of anything.

    Parameters
    ----------
    value
        (coalition, text + image) booleans, text tokens first -> (coalition,) scores.
    text, image
        Players of each modality.
    evaluations
        Budget; None is the paper's 2p + 1 for p players, one permutation. What a permutation more would exceed is
        left unspent.
    slots
        Draw the permutations over this many text tokens, those beyond `text` being dummies without effect. Captions
        of one image then share their coalitions of cells, given the same seed, slots and grid.
    floor_draws
        Shuffles averaged over; 0 leaves the floor out (NaN).

    Raises
    ------
    ParamsError
        If the budget does not suffice for one permutation.
    DataError
        If a score is NaN or infinite, or the values do not add to v(all) − v(none).
    """
    players, slots = text + image, text if slots is None else slots
    least = 2 * players + 1
    permutations = 1 if evaluations is None else evaluations // least
    if permutations < 1 or text < 1 or image < 1 or slots < text:
        raise ParamsError(
            f"{evaluations} evaluations for a game of {text} tokens (of {slots} slots) and {image} cells",
            expected=f"{least} or more, 2p + 1 for p players, of which each modality has one or more",
            remedy="raise the budget, or leave it out; skip captions without tokens",
        )
    real = np.r_[:text, slots : slots + image]  # the players that are not dummies
    asked: list[Coalitions] = []

    def record(z: Floats) -> Floats:
        asked.append(z[:, real] > 0)
        return np.zeros(len(z))

    _explain(record, slots + image, permutations, seed)
    coalitions = np.unique(np.concatenate(asked), axis=0)  # (coalition, player); none comes first, all last
    values = _finite(value(coalitions), len(coalitions))
    rng = np.random.default_rng(seed)
    columns = np.column_stack([values, *(rng.permutation(values) for _ in range(floor_draws))])  # (coalition, game)
    place = {row.tobytes(): index for index, row in enumerate(coalitions)}

    def look_up(z: Floats) -> Floats:
        return columns[[place[row.tobytes()] for row in z[:, real] > 0]]

    phi = _explain(look_up, slots + image, permutations, seed)[real]  # (player, game)
    _require_efficiency(phi, columns)
    shares = text_share(phi, text)
    defined = shares[1:][np.isfinite(shares[1:])]
    floor = float(defined.mean()) if len(defined) else float("nan")
    return TokenShapley(phi[:, 0], float(shares[0]), floor, permutations * least)


def _explain(games: Callable[[Floats], Floats], players: int, permutations: int, seed: int) -> Floats:
    """(player, game) Shapley values of z ∈ {0, 1}^p ↦ each game at z, by `shap`; NumPy's global state is left alone."""
    explainer = _permutation_explainer()
    state = np.random.get_state()
    try:
        explained = explainer(games, np.zeros((1, players)), seed=seed)(
            np.ones((1, players)), max_evals=permutations * (2 * players + 1), silent=True
        )
    finally:
        np.random.set_state(state)
    phi: Floats = explained.values[0].reshape(players, -1)
    return phi


def _permutation_explainer() -> Any:
    """shap's class. Its loops stay in Python: numba takes 15 s a process to compile what runs for 20 ms a pair."""
    import numba

    config: Any = numba.config
    before, config.DISABLE_JIT = config.DISABLE_JIT, True
    try:
        import shap
    finally:
        config.DISABLE_JIT = before
    return shap.PermutationExplainer


def _finite(scores: Any, count: int) -> Floats:
    values = np.asarray(scores, np.float64)
    if values.shape != (count,) or (broken := int((~np.isfinite(values)).sum())):
        got = f"scores of shape {values.shape}" if values.shape != (count,) else f"{broken} NaN or infinite scores"
        raise DataError(
            f"{got} for {count} coalitions",
            expected="a finite score for every coalition",
            remedy="check the checkpoint and its dtype (half precision overflows)",
        )
    return values


def _require_efficiency(phi: Floats, columns: Floats) -> None:
    """Σφ = v(all) − v(none) (Shapley's axiom of efficiency), for each game."""
    gap = np.abs(phi.sum(0) - (columns[-1] - columns[0])).max()
    if gap > (limit := ROUNDING * np.abs(columns).max()):
        raise DataError(
            f"Shapley values that miss v(all) − v(none) by {gap:.3g}",
            expected=f"at most {limit:.3g}, rounding",
            remedy="use the pinned version of shap",
        )


def image_t_shap(t_shap: Floats) -> Floats:
    """The image's share of Σ|φ|, 0 to 1."""
    return 1 - t_shap


TOKENS = (
    Measure(
        None, "T-SHAP, the text's share", "the text's part of token-level Shapley values (MM-SHAP)", "share", 0, 1,
        name="t_shap", null="t_shap_floor", share_of="of what the score depends on, by word and image cell",
        of_text=True, level="token", about=CONTRIBUTION, heading="T-SHAP",
    ),
    Measure(
        None, "T-SHAP of a foil", "T-SHAP with another pair's caption", "share", 0, 1, name="t_shap_foil",
        of_text=True, level="token", about=CONTRIBUTION,
    ),
    Measure(
        None, "T-SHAP of noise, its floor", "T-SHAP of the coalitions' values, shuffled", "share", 0, 1,
        name="t_shap_floor", of_text=True, level="token", about=CONTRIBUTION, heading="its floor",
    ),
    Measure(
        image_t_shap, "image's T-SHAP", "the image's part of token-level Shapley values", "share", 0, 1, level="token",
        about=CONTRIBUTION, image_ignored=-1, text_ignored=1, bounds=BY_SEVERITY,
        uses=frozenset({"detail"}),
    ),
)  # fmt: skip
