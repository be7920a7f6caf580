"""Token-level T-SHAP of a data set's pairs (MM-SHAP, Parcalabescu & Frank, ACL 2023), for every kind of model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from attention_collapse.data.images import load_rgb
from attention_collapse.engine.alike import same_pairs
from attention_collapse.engine.contribution import OF_TOKENS, described
from attention_collapse.engine.pieces import Pieces, Round, Runner, here
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
    run: Runner = here,
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
    run
        Who explains the images that are missing.

    Returns
    -------
    DataFrame
        One row per image: image_id, caption_id; t_shap and t_shap_foil (0 to 1, NaN if all φ are 0, if the caption has
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
    asked = _Asked(seed=seed, batch_size=batch_size, permutations=permutations, foil=foil, protocol=protocol)
    explained = _Explained(model.name, pairs, images, asked, folder=work, identity=identity)
    run(explained, model)
    found = [explained[piece] for piece in explained.rounds[0].pieces]
    frame = pd.DataFrame([one.row for one in found], columns=list(COLUMNS))
    frame.attrs |= {"masking": found[-1].masking if found else "", "protocol": protocol}
    return frame


@dataclass(frozen=True)
class _Asked:
    """How the games are played: arguments of `token_contributions`."""

    seed: int
    batch_size: int
    permutations: int
    foil: bool
    protocol: str


@dataclass(frozen=True)
class _One:
    """One image explained: its row of the table, and how tokens and patches were taken away."""

    row: list[Any]
    masking: str


class _Explained(Pieces[_One]):
    """An image each."""

    def __init__(
        self, name: str, pairs: Dataset, images: int, asked: _Asked, *, folder: Path | None, identity: str
    ) -> None:
        self._asked, rng, same = asked, np.random.default_rng(asked.seed), same_pairs(pairs)
        columns = ("image_id", "image", "caption_ids", "captions")
        self._items: list[dict[str, Any]] = []
        self._foils: list[list[str]] = []
        self._seeds: list[int] = []
        for i in range(min(images, len(pairs))):
            self._items.append({column: pairs[i][column] for column in columns})
            others = _foil(i, same, rng) if asked.foil else []
            self._foils.append([pairs[other]["captions"][0] for other in others])
            self._seeds.append(int(rng.integers(2**32)))
        said = " ".join(f"{key}={value}" for key, value in asdict(asked).items())
        rounds = (Round(f"{name} T-SHAP", range(len(self._items))),)
        super().__init__(rounds, "image", folder, f"{identity} {said}")

    def name(self, piece: int) -> str:
        """A row each."""
        return f"{piece:06d}.json"

    def write(self, file: Path, made: _One) -> None:
        """Every digit; NaN as null."""
        finite = [None if isinstance(value, float) and np.isnan(value) else value for value in made.row]
        write_text(file, json.dumps({"masking": made.masking, "row": finite}))

    def read(self, file: Path) -> _One:
        """The row, null as NaN."""
        kept = read_json(file)
        return _One([NAN if value is None else value for value in kept["row"]], kept["masking"])

    def holds(self, piece: int) -> str:
        """Its image."""
        return f"image {self._items[piece]['image_id']}"

    @contextmanager
    def making(self, model: Model) -> Iterator[Callable[[int], _One]]:
        """Nothing is shared by images."""

        def explain(piece: int) -> _One:
            item, asked = self._items[piece], self._asked
            captions = [item["captions"][0], *self._foils[piece]]
            picture = load_rgb(Path(item["image"]["path"]))[0]
            played = games(model, picture, captions, asked.batch_size, asked.protocol)
            return _One(_row(model, item, played, asked.permutations, self._seeds[piece]), played[0].masking)

        yield explain


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
