"""Hard foils and groups of a table of pairs: which cells they need, what is answered right in them, and by how much.

By how much is the decision variable of a likelihood: the score of a text less that of its hard foil, both with one
image. What the texts' own probabilities have in common cancels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from attention_collapse.engine.scoring import Cells, first_foils
from attention_collapse.measures.hard import choices, group, of_pairs
from attention_collapse.measures.matching import Grid, blind

if TYPE_CHECKING:
    from datasets import Dataset

COALITIONS = ("both", "image", "text", "neither")


@dataclass(frozen=True)
class Hard:
    """What of a table's pairs is hard.

    Attributes
    ----------
    owners
        (foil,) position of the pair whose first caption it alters; its own position among texts is n + its place here.
    groups
        (group, 2) positions of two pairs; each group once, by the pair that names the other first.
    same
        (pair,) numbers as of `engine.alike.same_pairs`.
    """

    owners: np.ndarray
    groups: np.ndarray
    same: np.ndarray

    @classmethod
    def of(cls, pairs: Dataset, same: np.ndarray) -> Hard:
        """From the table of `data.pairs.table`."""
        owners = [index for index, foils in enumerate(first_foils(pairs)) for _ in foils]
        place = {image: index for index, image in enumerate(pairs["image_id"])}
        partners = pairs["partner"] if "partner" in pairs.column_names else []
        named = [(index, place[image]) for index, image in enumerate(partners) if image in place]
        once = list({frozenset(two): two for two in reversed(named)}.values())[::-1]
        return cls(np.array(owners, np.int64), np.array(once, np.int64).reshape(-1, 2), same)

    def cells(self, image: np.ndarray) -> Cells:
        """Names -> positions of images and texts; none of what the pairs lack.

        Parameters
        ----------
        image
            (pair, partner) whose image stands for the pair's own.
        """
        found: Cells = {}
        if len(self.owners):
            own, foil = self.owners[:, None], len(self.same) + np.arange(len(self.owners))[:, None]
            blind = image[self.owners]  # (foil, partner)
            found |= {"hard_own": (own, own), "hard_foil": (own, foil)}
            found |= {"blind_own": (blind, own), "blind_foil": (blind, foil)}
        if len(self.groups):
            found |= {"group_own": (self.groups, self.groups), "group_crossed": (self.groups, self.groups[:, ::-1])}
        return found

    def decision_cells(self, image: np.ndarray, text: np.ndarray) -> Cells:
        """The coalitions of `contribution.coalitions` with the first hard foil of each text in its place.

        2 further passes per pair and partner: own and another image with another's foil; the rest is in `cells`. A text
        without a foil stands for it, which needs no pass.

        Parameters
        ----------
        image, text
            (pair, partner) whose image and whose text stand for absent ones.
        """
        own, first = np.arange(len(self.same))[:, None], np.arange(len(self.same))
        owners, places = np.unique(self.owners, return_index=True)
        first[owners] = len(self.same) + places
        return {
            "both_foil_hard": (own, first[own]), "image_foil_hard": (own, first[text]),
            "text_foil_hard": (image, first[own]), "neither_foil_hard": (image, first[text]),
        }  # fmt: skip

    def decided(self, v: Mapping[str, np.ndarray], text: np.ndarray) -> dict[str, np.ndarray]:
        """The decision variable in the four coalitions, (pair, partner): swapping a text swaps its foil with it.

        NaN where the pair's text or the partner's has no hard foil, in all four, so that all have the same partners.

        Parameters
        ----------
        v
            Scores of the coalitions and of `decision_cells`.
        text
            As of `decision_cells`.
        """
        has = np.isin(np.arange(len(self.same)), self.owners)
        known = has[:, None] & has[text]
        return {name: np.where(known, v[name] - v[f"{name}_foil_hard"], np.nan) for name in COALITIONS}

    def right(self, v: Mapping[str, np.ndarray], grid: Grid | None = None, lead: float = 0.0) -> dict[str, np.ndarray]:
        """(pair,) answers to hard foils, with and without the image, and of groups; NaN where the pair has none.

        Parameters
        ----------
        v
            Scores of `cells`.
        grid
            Of every image with every text, the foils behind the captions: an absent image is then each other pair's in
            turn, else the partners'.
        lead
            As of `measures.matching.won`.
        """
        n = len(self.same)
        undefined = np.full(n, np.nan)
        found = {"right_hard": undefined, "right_hard_without_image": undefined, "right_group": undefined.copy()}
        if len(self.owners):
            found["right_hard"] = of_pairs(choices(v["hard_own"], v["hard_foil"], lead), self.owners, n)
            found["right_hard_without_image"] = of_pairs(self._blind(v, grid, lead), self.owners, n)
        if len(self.groups):
            found["right_group"][self.groups[:, 0]] = group(v["group_own"], v["group_crossed"], lead)
        return found

    def _blind(self, v: Mapping[str, np.ndarray], grid: Grid | None, lead: float) -> np.ndarray:
        """(foil,): is its caption preferred to it, on average over the images of others?"""
        if grid is None:
            return choices(v["blind_own"], v["blind_foil"], lead)
        return blind(grid, self.owners, len(self.same) + np.arange(len(self.owners)), self.same, lead)
