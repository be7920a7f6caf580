"""What the monitor would have said while a model was trained, from the scores that were kept of it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from attention_collapse.engine.dose_scores import middle
from attention_collapse.monitor.alarm import Watch
from attention_collapse.monitor.reading import Cells, Rule, chance_of, read, read_hard

Floats = NDArray[np.float64]
CAUSES = ("image", "text", "hard")  # what rings: a swapped modality, or pairs whose cue says nothing
PATIENCE = 3  # the monitor's own
SEED = 0


def alarms(tensors: Mapping[str, Floats]) -> dict[str, float]:
    """Step at which each of the monitor's alarms first rang, from the `watched.` tensors of a cell; NaN: it never did.

    Returns
    -------
    dict
        image_rang_at, text_rang_at: that a modality is unused, by swaps on pairs as trained; hard_rang_at: that the
        pairs whose cue says nothing are failed. A pair counts as matching above `dose_scores.middle`.
    """
    target = tensors["watched.label"].astype(np.int64)
    watches, found = {cause: Watch(PATIENCE) for cause in CAUSES}, dict.fromkeys(CAUSES, math.nan)
    for check, step in enumerate(tensors["watched.step"]):
        own, image, text, both, neutral = (
            tensors[f"watched.{name}"][check][:, None] for name in ("intact", "image", "text", "both", "neutral")
        )  # (pair, 1) each
        seen = read(Cells(own, image, text, both), target, Rule(threshold=middle(own[:, 0])), SEED)
        read_hard(seen, neutral, target, chance_of(target), Rule(threshold=middle(neutral[:, 0])))
        for cause, watch in watches.items():
            if watch.see(int(step), seen.unused.get(cause)) == "rings" and math.isnan(found[cause]):
                found[cause] = float(step)
    return {f"{cause}_rang_at": at for cause, at in found.items()}
