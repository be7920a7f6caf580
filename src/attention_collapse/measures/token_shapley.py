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
from attention_collapse.extras import require
from attention_collapse.measures.record import BY_SEVERITY, CONTRIBUTION, Floats, Measure

Coalitions = NDArray[np.bool_]  # (coalition, player): who is present
Value = Callable[[Coalitions], Any]  # -> (coalition,) scores

PERMUTATIONS = 10  # of the players, as the code of MM-SHAP has it
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
    halves
        The shares of the first and of the second half of the permutations, from which the reliability of the whole is
        estimated; NaN from one permutation.
    evaluations
        Budget spent: 2p + 1 per permutation of the p players. The distinct coalitions scored are fewer.
    """

    phi: Floats
    share: float
    floor: float
    halves: tuple[float, float]
    evaluations: int


def grid_side(tokens: int) -> int:
    """Cells per side of the image's grid: ⌈√(tokens + 2)⌉, so that image and text have about as many players.

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
    value: Value, *, text: int, image: int, seed: int, permutations: int = PERMUTATIONS, slots: int | None = None,
    floor_draws: int = 10,
) -> TokenShapley:  # fmt: skip
    """Shapley values of a pair's tokens and cells by antithetic sampling of permutations (`shap`), and their T-SHAP.

    A permutation adds the players one by one, and then removes them in the same order, which is exact for games of
    pairwise interactions; see `shap.PermutationExplainer`. Here its samples are drawn first, so that `value` is asked
    once, for the distinct coalitions of all permutations.

    The noise floor is T-SHAP of a game that means nothing: the values of these coalitions, shuffled among them. Its
    expectation is text ÷ (text + image), whatever the model, for no player is told from another. A share near it is no
    evidence of anything. One permutation alone pulls every share towards it.

    Parameters
    ----------
    value
        (coalition, text + image) booleans, text tokens first -> (coalition,) scores.
    text, image
        Players of each modality.
    permutations
        The number of permutations of the players, each of 2p + 1 evaluations for p players: 10 in the paper's code, 1
        in its text.
    slots
        Draw the permutations over this many text tokens, those beyond `text` being dummies without effect. Captions
        of one image then share their coalitions of cells, given the same seed, slots and grid.
    floor_draws
        Shuffles averaged over; 0 leaves the floor out (NaN).

    Raises
    ------
    ParamsError
        Without a permutation, or a player of each modality.
    DataError
        If a score is NaN or infinite, or the values do not add to v(all) − v(none).
    """
    players, slots = text + image, text if slots is None else slots
    if permutations < 1 or text < 1 or image < 1 or slots < text:
        raise ParamsError(
            f"{permutations} permutations of {text} tokens (of {slots} slots) and {image} cells",
            expected="1 or more of each, and as many slots as tokens",
            remedy="raise the number; skip captions without tokens",
        )
    real = np.r_[:text, slots : slots + image]  # the players that are not dummies
    parts = [count for count in (permutations // 2, permutations - permutations // 2) if count]
    asked: list[Coalitions] = []

    def record(z: Floats) -> Floats:
        asked.append(z[:, real] > 0)
        return np.zeros(len(z))

    def explained(games: Callable[[Floats], Floats]) -> list[Floats]:  # (player, game) of each half
        return [_explain(games, slots + image, count, seed + index)[real] for index, count in enumerate(parts)]

    explained(record)
    coalitions = np.unique(np.concatenate(asked), axis=0)  # (coalition, player); none comes first, all last
    values = _finite(value(coalitions), len(coalitions))
    rng = np.random.default_rng(seed)
    columns = np.column_stack([values, *(rng.permutation(values) for _ in range(floor_draws))])  # (coalition, game)
    place = {row.tobytes(): index for index, row in enumerate(coalitions)}

    def look_up(z: Floats) -> Floats:
        return columns[[place[row.tobytes()] for row in z[:, real] > 0]]

    halves = explained(look_up)
    phi: Floats = np.average(halves, axis=0, weights=parts)  # (player, game)
    _require_efficiency(phi, columns)
    shares = text_share(phi, text)
    defined = shares[1:][np.isfinite(shares[1:])]
    floor = float(defined.mean()) if len(defined) else float("nan")
    first, second = (float(text_share(half[:, :1], text)[0]) for half in (halves[0], halves[-1]))
    both = (first, second) if len(parts) > 1 else (float("nan"), float("nan"))
    return TokenShapley(phi[:, 0], float(shares[0]), floor, both, permutations * (2 * players + 1))


def reliability(first: Floats, second: Floats) -> float:
    """Reliability of T-SHAP over pairs from its halves, −1 to 1: their correlation, stepped up by Spearman and Brown.

    NaN with fewer than 3 pairs that have both, or without variance. Near 1, pairs could be told apart by it; near 0,
    what differs between pairs is the permutations that were drawn.
    """
    known = np.isfinite(first) & np.isfinite(second)
    a, b = first[known], second[known]
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    r = float(np.corrcoef(a, b)[0, 1])
    return 2 * r / (1 + r) if r > -1 else -1.0


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
    require("models")
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
    *(
        Measure(
            None, f"T-SHAP, {which} half", f"T-SHAP of the {which} half of the permutations", "share", 0, 1, name=name,
            of_text=True, level="token", about=CONTRIBUTION, uses=frozenset({"detail"}),
        )
        for name, which in (("t_shap_first", "first"), ("t_shap_second", "second"))
    ),
    Measure(
        image_t_shap, "image's T-SHAP", "the image's part of token-level Shapley values", "share", 0, 1, level="token",
        about=CONTRIBUTION, image_ignored=-1, text_ignored=1, bounds=BY_SEVERITY,
        uses=frozenset({"detail"}),
    ),
)  # fmt: skip
