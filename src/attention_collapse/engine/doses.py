"""What the models trained dose by dose score on held-out pairs, and where they look."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from attention_collapse.data.planted import LabelledPair, Regime, draw_pairs, mark, pictures
from attention_collapse.engine.attention import extract
from attention_collapse.engine.contribution import draws
from attention_collapse.engine.dose_cells import CONDITIONS, SWAPPED_IN, Cell
from attention_collapse.engine.planted_measures import labelled
from attention_collapse.engine.scores import by_image, score_pairs
from attention_collapse.engine.trainee import Trainee
from attention_collapse.measures.attention import ATTENTION_MEASURES, ROWS

PAIRS = 3  # on top of the seed of the data: scenes of their own


class Shown(NamedTuple):
    """Held-out pairs in a regime.

    Attributes
    ----------
    pairs
        With their cues.
    pixels
        (pair, size, size, 3) bytes of their scenes without a mark.
    image, text
        (pair, partner) whose image and whose text are swapped in: never those of the same scene.
    """

    pairs: list[LabelledPair]
    pixels: np.ndarray
    image: np.ndarray
    text: np.ndarray


class HeldOut:
    """Held-out pairs that models are compared on: of the same scenes in every regime, but for a prior of the words.

    Parameters
    ----------
    n, partners
        Pairs, and other pairs that lend each an image and a text.
    seed
        Of the scenes, and of who lends to whom.
    """

    def __init__(self, n: int, partners: int, seed: int) -> None:
        self.n, self.partners, self.seed = n, partners, seed
        self.label = np.arange(n) % 2 == 0  # of every regime
        self._shown: dict[Regime, Shown] = {}

    def shown(self, regime: Regime) -> Shown:
        """The pairs of a regime; drawn once."""
        if regime not in self._shown:
            pairs = draw_pairs(self.n, self.seed, regime, held_out=True)
            scenes = [pair.scene for pair in pairs]
            alike = (other for other in self._shown.values() if [pair.scene for pair in other.pairs] == scenes)
            if (other := next(alike, None)) is None:
                numbers = {scene: number for number, scene in enumerate(dict.fromkeys(scenes))}
                same = np.array([numbers[scene] for scene in scenes]) if len(numbers) < self.n else None
                lent = draws(self.n, self.partners, self.seed, same)[:2]
                other = Shown(pairs, pictures(scenes, self.seed), *lent)
            self._shown[regime] = other._replace(pairs=pairs)
        return self._shown[regime]


def scores_of(
    trainee: Trainee, pairs: list[LabelledPair], pixels: np.ndarray, cells: Mapping[str, Any]
) -> dict[str, Any]:
    """Scores of images with texts by position, name -> (images, texts) that broadcast; a cue goes with its modality."""
    marked = np.stack([mark(picture, pair.image_cue) for picture, pair in zip(pixels, pairs, strict=True)])

    def score(images: np.ndarray, texts: np.ndarray, size: int = 200) -> np.ndarray:
        shape, (i, t) = (
            np.broadcast_shapes(images.shape, texts.shape),
            map(np.ravel, np.broadcast_arrays(images, texts)),
        )
        parts = [
            trainee.score(trainee.inputs(marked[i[s : s + size]], [pairs[k].words for k in t[s : s + size]]))
            for s in range(0, len(i), size)
        ]
        return torch.cat(parts).float().numpy().reshape(shape)

    return {name: score(*where) for name, where in cells.items()}


@torch.inference_mode()
def scored(trainee: Trainee, cell: Cell, held_out: HeldOut) -> dict[str, np.ndarray]:
    """Every score of a cell.

    Returns
    -------
    dict
        float32, for n pairs and p partners: label (n,), 0 or 1; for each condition c of the cue, cue.c (n,), what the
        cue says, 0 or 1 (that of the text where there is none), and intact.c (n,), the score; and for those of
        `SWAPPED_IN`, image.c, text.c, both.c (n, p): the score with the image, the text, both (of two pairs) another's.
    """
    own = np.arange(held_out.n)
    found: dict[str, np.ndarray] = {"label": held_out.label.astype(np.float32)}
    for condition in CONDITIONS:
        pairs, pixels, image, text = held_out.shown(cell.regime(condition))
        swaps = {"image": (image, own[:, None]), "text": (own[:, None], text), "both": (image, text)}
        found[f"cue.{condition}"] = np.array([pair.cue(cell.modality) for pair in pairs], np.float32)
        wanted = {"intact": (own, own)} | (swaps if condition in SWAPPED_IN else {})
        scores = scores_of(trainee, pairs, pixels, wanted)
        found |= {f"{name}.{condition}": values for name, values in scores.items()}
    return found


def attended(trainee: Trainee, folder: Path, batch_size: int) -> dict[str, np.ndarray]:
    """attention.<measure>_<rows> -> (n,) float32: the measures of attention that say that a modality is ignored, where
    the cue says nothing.

    Parameters
    ----------
    folder
        The held-out pairs as files, with the cue that says nothing: `write_planted(folder, n, seed, Regime())`.
    """
    pairs, _ = labelled(folder)
    found = by_image(
        score_pairs(extract(trainee.model, pairs, batch_size=batch_size).to_pandas(), trainee.model.family).pairs
    )
    names = [f"{name}_{rows}" for name, measure in ATTENTION_MEASURES.items() if measure.claims for rows in ROWS]
    return {f"attention.{name}": found[name].to_numpy(np.float32) for name in names if name in found}
