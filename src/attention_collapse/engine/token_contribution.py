"""Token-level T-SHAP of a data set's pairs (MM-SHAP, Parcalabescu & Frank, ACL 2023), for every kind of model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from attention_collapse.data.images import load_rgb
from attention_collapse.engine.alike import same_pairs
from attention_collapse.engine.contribution import OF_TOKENS, described
from attention_collapse.engine.parts import open_parts
from attention_collapse.errors import DataError, ParamsError
from attention_collapse.files import read_json, write_text
from attention_collapse.measures.token_shapley import (
    PERMUTATIONS,
    TokenShapley,
    reliability,
    token_shapley,
)
from attention_collapse.models.interface import Model
from attention_collapse.models.masking import Game, games
from attention_collapse.models.protocols import MM_SHAP, NATIVE, PUBLISHED_PERMUTATIONS
from attention_collapse.params import Stats
from attention_collapse.progress import steps

if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS = (
    "image_id", "caption_id", "t_shap", "t_shap_foil", "t_shap_floor", "t_shap_first", "t_shap_second", "text_tokens",
    "patches", "evaluations",
)  # fmt: skip
FLOOR_DRAWS = 10  # shuffles of each caption's values
NO_PLAYERS = "no caption has a token whose absence could move the score"
NAN = float("nan")
UNDEFINED = TokenShapley(np.empty(0), NAN, NAN, (NAN, NAN), 0)  # of a caption without tokens


def token_contributions(
    model: Model,
    pairs: Dataset,
    *,
    images: int,
    seed: int,
    batch_size: int,
    permutations: int = PERMUTATIONS,
    foil: bool = True,
    protocol: str = NATIVE,
    work: Path | None = None,
    identity: str = "",
) -> pd.DataFrame:
    """T-SHAP of each image with its first caption and with a foil: the share of the text in Σ|φ|, φ in units of score.

    The foil is another pair's first caption, and another caption (`alike.same_pairs`). Foils and permutations are drawn
    by `seed`. Where caption and foil ask for the same grid, they share their permutation, and so the masked images.

    Parameters
    ----------
    pairs
        The table of `data.pairs.table`.
    images
        How many of the first pairs (all, if there are fewer); foils come from all pairs.
    permutations
        Of the players, each 2p + 1 evaluations: 10 in the code of MM-SHAP, 1 in the paper's text.
    foil
        False leaves the foils out: t_shap_foil is NaN.
    protocol
        "native", or "mm-shap": tokens, cells and scores of MM-SHAP's published code (`models.mm_shap`).
    work
        Folder for finished images; those found there are not explained again if they were written for the same
        `identity` and the same arguments.

    Returns
    -------
    DataFrame
        One row an image: image_id, caption_id; t_shap and t_shap_foil (0 to 1, NaN if all φ are 0, if the caption has
        no token that could move the score, or if there is no other pair), t_shap_floor (the caption's coalitions with
        their values shuffled: `measures.token_shapley`), t_shap_first and t_shap_second (of the halves of the
        permutations), text_tokens and patches (the caption's players), evaluations (its budget spent).
        `attrs["protocol"]` is the protocol; `attrs["masking"]` says how tokens and patches were taken away.

    Raises
    ------
    ParamsError
        If the protocol is "mm-shap" and the permutations are not 10, as its code has them.
    ModelError
        If the published code cannot be followed for the model (`models.masking.not_playable`).
    DataError
        If a score is NaN or infinite.
    """
    if protocol == MM_SHAP and permutations != PUBLISHED_PERMUTATIONS:
        raise ParamsError(
            f"{permutations} permutations by the protocol {MM_SHAP}",
            expected=f"{PUBLISHED_PERMUTATIONS}, the number that its code is written with",
            remedy=f"ask for {PUBLISHED_PERMUTATIONS}, or for the protocol {NATIVE}",
        )
    n, rng = len(pairs), np.random.default_rng(seed)
    same = same_pairs(pairs)
    if work is not None:
        asked = f"seed={seed} batch_size={batch_size} permutations={permutations} foil={foil} protocol={protocol}"
        open_parts(work, f"{identity} {asked}\n")
    rows: list[list[Any]] = []
    masking = ""
    for i in steps(range(min(images, n)), f"{model.name} T-SHAP", "image"):
        foils, drawn = _foil(i, same, rng) if foil else [], int(rng.integers(2**32))  # drawn also where one is kept
        file = work / f"{i:06d}.json" if work else None
        if file and file.is_file():
            kept = read_json(file)
            masking, row = kept["masking"], [NAN if value is None else value for value in kept["row"]]
        else:
            captions = [pairs[i]["captions"][0], *(pairs[other]["captions"][0] for other in foils)]
            played = games(model, load_rgb(Path(pairs[i]["image"]["path"]))[0], captions, batch_size, protocol)
            masking, row = played[0].masking, _row(model, pairs[i], played, permutations, drawn)
            if file:
                finite = [None if isinstance(value, float) and np.isnan(value) else value for value in row]
                write_text(file, json.dumps({"masking": masking, "row": finite}))  # every digit
        rows.append(row)
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame.attrs |= {"masking": masking, "protocol": protocol}
    return frame


def _row(model: Model, item: dict[str, Any], played: list[Game], permutations: int, seed: int) -> list[Any]:
    """One image's row; `played`: the games of its caption and of a foil, if there is one."""
    try:
        own, against = [*_values(played, permutations, seed), UNDEFINED][:2]
    except DataError as error:
        got = f"{model.name}, image {item['image_id']}: {error.got}"
        raise DataError(got, expected=error.expected, remedy=error.remedy) from None
    pair, shares = (item["image_id"], item["caption_ids"][0]), (own.share, against.share, own.floor, *own.halves)
    return [*pair, *shares, played[0].tokens, played[0].side ** 2, own.evaluations]


def summarise_tokens(tokens: pd.DataFrame, stats: Stats, *, permutations: int, reason: str = "") -> dict[str, Any]:
    """Mean and interval over images of each share of `token_contributions`, and how the games were played.

    Without any player in any caption the shares are undefined, for `reason` or because nothing could be absent.
    """
    without = {} if tokens["text_tokens"].any() else {"reason": reason or NO_PLAYERS}
    shares: dict[str, Any] = {name: described(tokens[name], stats) | without for name in OF_TOKENS}
    return shares | {
        "t_shap_images": len(tokens),
        "t_shap_permutations": permutations,
        "t_shap_reliability": reliability(*(tokens[f"t_shap_{half}"].to_numpy(float) for half in ("first", "second"))),
        "t_shap_protocol": tokens.attrs["protocol"],
        "t_shap_masking": tokens.attrs["masking"],
        "t_shap_tokens": float(tokens["text_tokens"].mean()),
        "t_shap_patches": float(tokens["patches"].mean()),
    }


def _foil(own: int, same: np.ndarray, rng: np.random.Generator) -> list[int]:
    """Position of a pair drawn as foil, one of another number in `same`; none where there is none."""
    while (same != same[own]).any():
        drawn = int((own + rng.integers(1, len(same))) % len(same))
        if same[drawn] != same[own]:
            return [drawn]
    return []


def _values(played: list[Game], permutations: int, seed: int) -> list[TokenShapley]:
    """Each game's values, the first's with its noise floor; games of the same grid share their masked images."""
    found: list[TokenShapley] = []
    for game in played:
        if not game.tokens:
            found.append(UNDEFINED)
            continue
        found.append(
            token_shapley(
                game,
                text=game.tokens,
                image=game.side**2,
                seed=seed,
                permutations=permutations,
                slots=max(other.slots for other in played),
                floor_draws=0 if found else FLOOR_DRAWS,
            )
        )
    return found
