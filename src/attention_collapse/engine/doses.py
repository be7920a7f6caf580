"""What the models trained dose by dose score on held-out pairs, and where they look."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

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


class HeldOut:
    """Held-out pairs that models are compared on: scenes, pictures, and whose image and text are swapped in.

    Parameters
    ----------
    n, partners
        Pairs, and other pairs that lend each an image and a text.
    seed
        Of the scenes, and of who lends to whom.
    """

    def __init__(self, n: int, partners: int, seed: int) -> None:
        self.n, self.seed = n, seed
        self.label = np.array([pair.label for pair in draw_pairs(n, seed, Regime(), held_out=True)])  # of every regime
        self.image, self.text, _ = draws(n, partners, seed)  # (pair, partner) each
        self._drawn: dict[Regime, tuple[list[LabelledPair], np.ndarray]] = {}

    def shown(self, regime: Regime) -> tuple[list[LabelledPair], np.ndarray]:
        """The pairs of a regime, and (pair, size, size, 3) pixels of their scenes without a mark.

        The scenes are the same in every regime, but for those of a prior of the words.
        """
        if regime not in self._drawn:
            pairs = draw_pairs(self.n, self.seed, regime, held_out=True)
            scenes = [pair.scene for pair in pairs]
            alike = (pixels for other, pixels in self._drawn.values() if [pair.scene for pair in other] == scenes)
            found = next(alike, None)
            self._drawn[regime] = pairs, pictures(scenes, self.seed) if found is None else found
        return self._drawn[regime]


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
    swaps = {
        "image": (held_out.image, own[:, None]), "text": (own[:, None], held_out.text),
        "both": (held_out.image, held_out.text),
    }  # fmt: skip
    found: dict[str, np.ndarray] = {"label": held_out.label.astype(np.float32)}
    for condition in CONDITIONS:
        pairs, pixels = held_out.shown(cell.regime(condition))
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
