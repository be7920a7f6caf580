"""The Modality Contribution Score, its null, and its calibrated form.

`mcs` is the published formula. With attention that looks at nothing in particular it still depends on how many
tokens each tower has, so it never stands without `mcs_null`, the same formula on uniform attention, and
`mcs_calibrated`, in which 0.5 means "no departure from the null".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

TEXT_COLLAPSE, VISION_COLLAPSE = 0.3, 0.7  # thresholds of the original report
SEVERE = 0.8  # imbalance above which the original report calls a model severe


def _share(part: ArrayLike, other: ArrayLike) -> Floats:
    """part / (part + other), NaN where both are 0."""
    a, b = np.asarray(part, np.float64), np.asarray(other, np.float64)
    total = a + b
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, a / total, np.nan)


def mcs(vision: ArrayLike, text: ArrayLike) -> Floats:
    """H_vision / (H_vision + H_text), from entropies in nats.

    Returns
    -------
    ndarray
        Share, 0 to 1; 0.5 is balanced, and below 0.3 / above 0.7 is text / vision collapse by the original
        thresholds. NaN where both entropies are 0.
    """
    return _share(vision, text)


def mcs_null(vision_uniform: ArrayLike, text_uniform: ArrayLike) -> Floats:
    """`mcs` of uniform attention, from the mean of ln(support) of each tower, in nats."""
    return _share(vision_uniform, text_uniform)


def mcs_calibrated(vision: ArrayLike, text: ArrayLike, vision_uniform: ArrayLike, text_uniform: ArrayLike) -> Floats:
    """`mcs` with each entropy in units of its own uniform value.

    Returns
    -------
    ndarray
        Share, 0 to 1; 0.5 is no departure from the null. Equals the inverse logit of logit(mcs) − logit(mcs_null).
        NaN where a uniform value is 0 (a single visible key) or both entropies are.
    """
    values = [np.asarray(value, np.float64) for value in (vision, text, vision_uniform, text_uniform)]
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = [np.where(null > 0, value / null, np.nan) for value, null in zip(values[:2], values[2:], strict=True)]
    return _share(*ratios)


def imbalance(share: ArrayLike) -> Floats:
    """max(s, 1 − s): 0.5 (balanced) to 1 (one modality alone)."""
    s = np.asarray(share, np.float64)
    return np.maximum(s, 1.0 - s)


def layer_imbalance(layer_mcs: ArrayLike) -> Floats:
    """|2 · layer_mcs − 1|: 0 (balanced) to 1."""
    return np.abs(2.0 * np.asarray(layer_mcs, np.float64) - 1.0)


def original_reading(share: float) -> str:
    """The verdict by the thresholds of the original report."""
    if not np.isfinite(share):
        return "undefined"
    if share < TEXT_COLLAPSE:
        return "text collapse"
    return "vision collapse" if share > VISION_COLLAPSE else "no collapse"


def align_layers(vision_layers: int, text_layers: int) -> list[tuple[int, int]]:
    """Pairs (vision layer, text layer), counted from 0, of equal relative depth.

    The deeper tower sets the number of pairs; layer i of L stands at relative depth (i + ½) / L and meets the layer
    of the other tower that covers that depth. Equal depths give (0, 0), (1, 1), …
    """
    depth = max(vision_layers, text_layers)
    return [(int((i + 0.5) * vision_layers / depth), int((i + 0.5) * text_layers / depth)) for i in range(depth)]


def thirds(layers: int) -> dict[str, list[int]]:
    """Early, middle and late layers, counted from 0: 12 layers give 0–3, 4–7, 8–11; empty where there are too few."""
    cuts = [round(layers * part / 3) for part in range(4)]
    return {name: list(range(cuts[i], cuts[i + 1])) for i, name in enumerate(("early", "middle", "late"))}
