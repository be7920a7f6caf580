"""What contrastive decoding makes of a model that was trained plainly, from the scores that were kept of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from attention_collapse.engine.arm_cells import OTHER
from attention_collapse.engine.dose_cells import NO_CUE, SWAPPED_IN
from attention_collapse.prevention import ContrastiveDecoding

Floats = NDArray[np.float64]
CONTRASTED = OTHER | {NO_CUE: "image"}  # where the cue is -> the modality that is another pair's in the second term


@dataclass(frozen=True)
class Remedy:
    """One way to choose an answer.

    Attributes
    ----------
    cut
        A pair is taken as matching above 0, as the formula says, or above the median of the scores, as the study takes
        the scores of models.
    """

    contrast: ContrastiveDecoding
    cut: Literal["zero", "median"]


PAPER = ContrastiveDecoding.name
UNCUT = f"{PAPER}-uncut"
LOG_ODDS = "log-odds"  # no remedy: what the decision above 0 makes of the model's own score
REMEDIES = {
    LOG_ODDS: Remedy(ContrastiveDecoding(alpha=0.0), "zero"),
    PAPER: Remedy(ContrastiveDecoding(alpha=1.0, beta=0.1), "zero"),  # as published
    UNCUT: Remedy(ContrastiveDecoding(alpha=1.0, beta=0.0), "median"),
}


def to_log_odds(scores: Floats, label: NDArray[np.bool_]) -> tuple[float, float]:
    """Scale and offset of the log-odds of a match, scale · score + offset: logistic regression of labels on scores.

    The targets are smoothed, so that the scale is finite for scores that tell the labels apart without an error (Platt,
    "Probabilistic outputs for support vector machines", 1999). NaN where all scores are the same.

    Parameters
    ----------
    scores, label
        (pair,) scores, and whether the pair matches.
    """
    if np.ptp(scores) == 0:
        return math.nan, math.nan
    mean, spread = scores.mean(), scores.std()
    seen = np.stack([(scores - mean) / spread, np.ones_like(scores)], 1)  # (pair, 2)
    right, wrong = int(label.sum()), int((~label).sum())
    target = np.where(label, (right + 1) / (right + 2), 1 / (wrong + 2))

    def loss(weights: Floats) -> tuple[float, Floats]:
        odds = seen @ weights
        return float(np.mean(np.logaddexp(0, odds) - target * odds)), seen.T @ (expit(odds) - target) / len(target)

    def curvature(weights: Floats) -> Floats:
        p = expit(seen @ weights)
        curved: Floats = (seen * (p * (1 - p))[:, None]).T @ seen / len(target)
        return curved

    found = minimize(loss, np.zeros(2), jac=True, hess=curvature, method="trust-exact", options={"gtol": 1e-10})
    scale, offset = found.x
    return float(scale / spread), float(offset - scale * mean / spread)


COLUMNS = tuple(f"{remedy}_{condition}" for remedy in REMEDIES for condition in SWAPPED_IN)


def at_inference(tensors: Mapping[str, Floats], modality: str) -> dict[str, float]:
    """Accuracy by each of `REMEDIES`, 0 to 1: `COLUMNS`; NaN where the score never moves.

    Log-odds are read off the pairs as trained, whose labels whoever trained the model has; the scale that was trained
    with it is not kept. The modality that the cue is not in is that of each partner, and the mean is contrasted.

    Parameters
    ----------
    tensors
        As `doses.scored` gives them.
    modality
        That of the cue.
    """
    scale, offset = to_log_odds(tensors["intact.trained"], tensors["label"] == 1)
    if math.isnan(scale):
        return dict.fromkeys(COLUMNS, math.nan)
    return {
        f"{name}_{condition}": _right(remedy, tensors, (modality, condition), scale, offset)
        for name, remedy in REMEDIES.items()
        for condition in SWAPPED_IN
    }


def contrasted(tensors: Mapping[str, Floats], modality: str) -> dict[str, float]:
    """Accuracy by the remedy that needs no log-odds, and what that is above the accuracy of the model's own score.

    Returns
    -------
    dict
        contrasted_<condition>, 0 to 1, and contrasted_gain_<condition>, -1 to 1, for those of `SWAPPED_IN`.
    """
    found: dict[str, float] = {}
    for condition in SWAPPED_IN:
        now = _right(REMEDIES[UNCUT], tensors, (modality, condition))
        before = _right(Remedy(ContrastiveDecoding(alpha=0.0), "median"), tensors, (modality, condition))
        found |= {f"contrasted_{condition}": now, f"contrasted_gain_{condition}": now - before}
    return found


def _right(
    remedy: Remedy, tensors: Mapping[str, Floats], where: tuple[str, str], scale: float = 1.0, offset: float = 0.0
) -> float:
    """Accuracy; `where`: modality of the cue, and condition."""
    modality, condition = where
    own = torch.from_numpy(scale * tensors[f"intact.{condition}"] + offset)
    others = torch.from_numpy(scale * tensors[f"{CONTRASTED[modality]}.{condition}"] + offset).unbind(1)
    scores = remedy.contrast(own, *others).numpy()
    cut = np.median(scores) if remedy.cut == "median" else 0.0
    return float(((scores > cut) == (tensors["label"] == 1)).mean())
