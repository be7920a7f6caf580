"""What contrastive decoding makes of the answers of decoders that were trained plainly on questions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attention_collapse.engine.answer_arms import OUTCOMES
from attention_collapse.engine.answer_cells import PRIORS, SETS, plain
from attention_collapse.engine.paired_seeds import compared, judge, over_seeds
from attention_collapse.measures.answers import chosen
from attention_collapse.params import GainRule
from attention_collapse.prevention import ContrastiveDecoding

Floats = NDArray[np.float64]
OTHER_IMAGE = {"another image": "text", "mean image": "text_mean_image"}  # in words -> the cell whose scores it gives
REMEDIES = {  # name -> strength and cut-off, and which image is the other one
    f"{other}{said}": (ContrastiveDecoding(alpha=1.0, beta=beta), cell)
    for said, beta in (("", 0.1), (", uncut", 0.0))  # 0.1 as published
    for other, cell in OTHER_IMAGE.items()
}
OWN = "own"
TOLD = {key: name for key, (name, measure) in OUTCOMES.items() if measure == "answer_accuracy"}  # outcome -> set


def contrasted(scores: Mapping[str, Floats]) -> dict[str, NDArray[np.int64]]:
    """Remedy of `REMEDIES` -> (question,) place of the answer that it chooses; −1 where a score is NaN.

    Parameters
    ----------
    scores
        "both", (question, 1, answer) log-probabilities with the own image, and those of the cells in `OTHER_IMAGE`,
        (question, partner, answer): of several partners the mean is contrasted.
    """
    found = {}
    for name, (contrast, cell) in REMEDIES.items():
        own, others = scores["both"][:, 0], scores[cell]
        undefined = np.isnan(own).any(1) | np.isnan(others).any((1, 2))
        known = [torch.from_numpy(np.nan_to_num(part, neginf=-np.inf)) for part in (own, *others.swapaxes(0, 1))]
        picked = chosen(contrast(*known).numpy()[:, None])[:, 0]
        found[name] = np.where(undefined, -1, picked)
    return found


def accuracies(tensors: Mapping[str, Floats]) -> dict[str, dict[str, float]]:
    """Set -> remedy, or `OWN` for the model's own choice -> accuracy, 0 to 1.

    Parameters
    ----------
    tensors
        What `answer_trials.tried` kept of a plainly trained decoder.
    """
    return {
        name: {OWN: _right(tensors[f"chosen.{name}.both"][:, 0], tensors[f"right.{name}"])}
        | {remedy: _right(tensors[key_of(name, remedy)], tensors[f"right.{name}"]) for remedy in REMEDIES}
        for name in SETS
    }


def key_of(name: str, remedy: str) -> str:
    """Of the tensor with the answers that a remedy chooses on a set.

    Examples
    --------
    >>> key_of("test", "mean image, uncut")
    'contrasted.test.mean_image_uncut'
    """
    return f"contrasted.{name}.{remedy.replace(',', '').replace(' ', '_')}"


def _right(picked: Floats, right: Floats) -> float:
    return float((picked == right).mean())


def at_inference(
    models: Mapping[str, Mapping[str, Mapping[str, float]]], rule: GainRule, confidence: float
) -> dict[str, Any]:
    """Prior of the training -> remedy -> outcomes over seeds of the plain models of one kind, and the verdict.

    As of `answer_arms.arms`, but for the paired differences, which are from the same model's own choice; Holm goes over
    remedies and priors.

    Parameters
    ----------
    models
        Name of a cell -> as of `accuracies`.
    """
    of = plain(models)
    found: dict[str, Any] = {}
    for prior in PRIORS:
        seeds = [models[name] for name, (of_prior, _) in of.items() if of_prior == prior]
        for remedy in REMEDIES if seeds else ():
            now, own = (
                {key: np.array([one[name][which] for one in seeds]) for key, name in TOLD.items()}
                for which in (remedy, OWN)
            )
            gained = {key: now[key] - own[key] for key in TOLD}
            found.setdefault(prior, {})[remedy] = {
                "n_seeds": len(seeds),
                **{key: over_seeds(values.tolist(), confidence) for key, values in now.items()},
                **compared(gained["test_shifted"], gained["own_training"], rule, confidence),
                "gain_test": over_seeds(gained["test"].tolist(), confidence),
            }
    judge([one for named in found.values() for one in named.values()], 1 - confidence, len(PRIORS) * len(REMEDIES))
    return found
