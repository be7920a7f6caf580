"""Pairs to look at, chosen by a rule and never by hand, and how their scores move as something is swapped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from attention_collapse.engine.alike import same_pairs
from attention_collapse.engine.contribution import FEWEST, draws
from attention_collapse.engine.scoring import Cells, first_foils, score_cells, score_texts
from attention_collapse.models.interface import DualEncoder, Model

if TYPE_CHECKING:
    from datasets import Dataset

Floats = NDArray[np.float64]
Places = NDArray[np.int64]
RULE = (
    "wrongest: the smallest lead of its score over that of a wrong caption (another pair's, or its first hard foil "
    "where there is one); then the lowest, the median and the highest score; further pairs stand evenly between these"
)


@dataclass(frozen=True)
class Swapped:
    """Scores of one pair as something is swapped, in the units of the model's score; NaN: there is none.

    Attributes
    ----------
    own
        Of the pair as it is.
    other_image, other_text, both
        With another pair's image, another pair's caption, or both, of two different pairs.
    mean_image
        With the mean of all images.
    foils
        With each hard foil of its caption.
    image_from, text_from
        Positions of the pairs that were swapped in; -1: none.
    """

    own: float
    other_image: float
    other_text: float
    both: float
    mean_image: float
    foils: tuple[float, ...]
    image_from: int
    text_from: int


@dataclass(frozen=True)
class Chosen:
    """One pair: its position among the pairs, why it was chosen, and its scores."""

    position: int
    why: tuple[str, ...]
    scores: Swapped


def choose(scores: Floats, leads: Floats, show: int) -> dict[int, list[str]]:
    """Position -> why, of the pairs that are shown, by `RULE`.

    Parameters
    ----------
    scores, leads
        (pair,) score of each pair, and how far it leads over a wrong caption; NaN: there is none.
    show
        How many at most.
    """
    order = np.argsort(scores, kind="stable")
    last = len(order) - 1
    wanted: list[tuple[int, str]] = []
    if not np.isnan(leads).all():
        wanted.append((int(np.nanargmin(leads)), "wrongest"))
    wanted += [
        (int(order[0]), "lowest score"), (int(order[last // 2]), "median score"), (int(order[last]), "highest score"),
    ]  # fmt: skip
    named = len(wanted)
    for share in np.linspace(0, 1, show + 2)[1:-1]:
        wanted.append((int(order[round(share * last)]), f"{100 * share:.0f} % of the scores lie below"))
    found: dict[int, list[str]] = {}
    for place, (position, why) in enumerate(wanted):
        if position not in found and len(found) < show:
            found[position] = [why]
        elif position in found and place < named:
            found[position].append(why)
    return found


def chosen_pairs(model: Model, pairs: Dataset, *, show: int, seed: int, batch_size: int) -> tuple[list[Chosen], Floats]:
    """The pairs to show with their scores, and (pair,) the scores of all.

    Parameters
    ----------
    pairs
        The table of `data.pairs.table`.
    """
    own, swaps = np.arange(len(pairs)), _Swaps.of(pairs, seed)
    first = np.array([places[0] if places else position for position, places in enumerate(swaps.foils)])
    cells: Cells = {"own": (own, own), "other_text": (own, swaps.text), "foil": (own, first)}
    everything = isinstance(model, DualEncoder)  # one encoding of each item gives all scores
    v = score_cells(model, pairs, cells | (swaps.cells(own) if everything else {}), batch_size=batch_size).cells
    undefined = np.full(len(own), np.nan)
    wrong = np.fmax(v["other_text"] if swaps.partners else undefined, np.where(first == own, np.nan, v["foil"]))
    why = choose(v["own"], v["own"] - wrong, show)
    at = np.array(list(why), np.int64)
    if everything:
        v |= {name: v[name][at] for name in swaps.names}
    else:
        v |= score_cells(model, pairs, swaps.cells(at), batch_size=batch_size).cells
    found = [swaps.of_pair(v, position, row) for row, position in enumerate(why)]
    return [Chosen(position, tuple(why[position]), one) for position, one in zip(why, found, strict=True)], v["own"]


def swapped_alone(model: Model, pairs: Dataset, mean: Path, *, seed: int, batch_size: int) -> Swapped:
    """Scores of the first of some pairs as it is swapped with others, drawn by the seed, which alone are read.

    Parameters
    ----------
    pairs
        The table of `data.pairs.table`: the pair, and those that may stand for it; its hard foils are not scored.
    mean
        File of the picture that stands for the mean image.
    """
    swaps, captions = _Swaps.of(pairs, seed), pairs["captions"]
    at = [0, int(swaps.image[0])] if swaps.partners else [0]
    said = [0, int(swaps.text[0])] if swaps.partners else [0]
    paths = [*(Path(pairs[position]["image"]["path"]) for position in at), mean]
    wanted = {"own": (0, 0), "mean_image": (len(paths) - 1, 0)}
    if swaps.partners:
        wanted |= {"other_image": (1, 0), "other_text": (0, 1), "both": (1, 1)}
    cells: Cells = {name: (np.array(image), np.array(text)) for name, (image, text) in wanted.items()}
    texts = [captions[position][0] for position in said]
    v = score_texts(model, paths, texts, cells, captions=len(texts), batch_size=batch_size).cells
    of = {name: float(v[name]) if name in v else np.nan for name in ("other_image", "other_text", "both")}
    return Swapped(
        own=float(v["own"]), **of, mean_image=float(v["mean_image"]), foils=(),
        image_from=at[1] if swaps.partners else -1, text_from=said[1] if swaps.partners else -1,
    )  # fmt: skip


@dataclass(frozen=True)
class _Swaps:
    """What stands for each pair's image and text, where there are `partners`, and where its hard foils are.

    Attributes
    ----------
    image, text
        (pair,) positions of two other pairs.
    foils
        Of each pair, the positions of its hard foils among the texts of `score_cells`.
    """

    image: Places
    text: Places
    partners: bool
    foils: list[list[int]]
    names: ClassVar[tuple[str, ...]] = ("other_image", "both", "mean_image", "foils")

    @classmethod
    def of(cls, pairs: Dataset, seed: int) -> _Swaps:
        """Drawn by the seed; of fewer than `FEWEST` different pairs there are none."""
        same, at = same_pairs(pairs), len(pairs)
        foils = []
        for some in first_foils(pairs):
            foils.append(list(range(at, at + len(some))))
            at += len(some)
        if len(np.unique(same)) < FEWEST:
            return cls(np.arange(len(same)), np.arange(len(same)), False, foils)
        image, text, _ = draws(len(same), 1, seed, same)
        return cls(image[:, 0], text[:, 0], True, foils)

    def cells(self, at: Places) -> Cells:
        """What is scored of the pairs that are shown, beyond what decides which are."""
        most = max(len(self.foils[position]) for position in at)
        foils = np.array([self.foils[p] + [p] * (most - len(self.foils[p])) for p in at], np.int64)
        return {
            "other_image": (self.image[at], at), "both": (self.image[at], self.text[at]),
            "mean_image": (np.full(len(at), len(self.image)), at),
            "foils": (np.broadcast_to(at[:, None], (len(at), most)), foils.reshape(len(at), most)),
        }  # fmt: skip

    def of_pair(self, v: Mapping[str, Floats], position: int, row: int) -> Swapped:
        """The scores of the pair at a position, the `row`th that is shown."""
        other_image, other_text, both = (
            (v["other_image"][row], v["other_text"][position], v["both"][row]) if self.partners else (np.nan,) * 3
        )
        return Swapped(
            own=float(v["own"][position]), other_image=float(other_image), other_text=float(other_text),
            both=float(both), mean_image=float(v["mean_image"][row]),
            foils=tuple(float(score) for score in v["foils"][row][: len(self.foils[position])]),
            image_from=int(self.image[position]) if self.partners else -1,
            text_from=int(self.text[position]) if self.partners else -1,
        )  # fmt: skip
