"""What was seen while a model was trained: accuracies and reliance against the step."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attention_collapse.engine.dose_scores import middle
from attention_collapse.engine.dose_summary import COLLAPSED, LEARNED
from attention_collapse.measures.reliance import lost_both, lost_image, lost_text, reliance_image, reliance_text
from attention_collapse.stats import ties

Floats = NDArray[np.float64]


def curves(tensors: Mapping[str, Floats]) -> pd.DataFrame:
    """A row per check of a model in training, from the `watched.` tensors of its cell.

    Returns
    -------
    DataFrame
        step; trained, neutral: accuracy on the watched pairs, 0 to 1, with the cue as in training and where it says
        nothing (a pair is taken as matching above the median of the scores); image_swapped, text_swapped: accuracy as
        trained with a modality of another pair, above `dose_scores.middle`; reliance_image, reliance_text: as in
        `measures.reliance`, as trained, NaN while the score is constant.
    """
    label = tensors["watched.label"] == 1
    parts = {name: tensors[f"watched.{name}"] for name in ("intact", "image", "text", "both", "neutral")}
    rows = []
    for check, step in enumerate(tensors["watched.step"]):
        own, image, text, both, neutral = (values[check] for values in parts.values())
        cut = middle(own)
        v, other_image, other_text, neither = (x[:, None] for x in (own, image, text, both))
        changed_image, changed_text = lost_image(v, other_image).mean(), lost_text(v, other_text).mean()
        whole = lost_both(v, neither).mean()
        rows.append({
            "step": int(step), "trained": float(((own > np.median(own)) == label).mean()),
            "neutral": float(((neutral > np.median(neutral)) == label).mean()),
            "image_swapped": float(((image > cut) == label).mean()),
            "text_swapped": float(((text > cut) == label).mean()),
            "reliance_image": float(reliance_image(changed_image, whole)),
            "reliance_text": float(reliance_text(changed_text, whole)),
        })  # fmt: skip
    return pd.DataFrame(rows)


def collapsed_at(seen: pd.DataFrame) -> float:
    """First step at which a model in training is right as trained and not where the cue says nothing; NaN: never.

    That is, with `dose_summary.LEARNED` or more of the watched pairs right, and at most `COLLAPSED`.

    Parameters
    ----------
    seen
        As `curves` gives it.
    """
    learned = ~ties.below(seen["trained"].to_numpy(np.float64), LEARNED)
    failed = ~ties.above(seen["neutral"].to_numpy(np.float64), COLLAPSED)
    steps = seen.loc[learned & failed, "step"]
    return float(steps.iloc[0]) if len(steps) else float("nan")
