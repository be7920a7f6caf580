"""The Modality Contribution Score, its null, and its calibrated form.

`mcs` is the reported formula. With attention that looks at nothing in particular it still depends on how many
tokens each tower has, so it never stands without `mcs_null`, the same formula on uniform attention, and
`mcs_calibrated`, in which 0.5 means "no departure from the null".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from attention_collapse.measures.record import BY_SEVERITY, Floats, Hypothesis, Measure

TEXT_COLLAPSE, VISION_COLLAPSE = 0.3, 0.7  # thresholds of the original report
SEVERE = 0.8  # imbalance above which the original report calls a model severe


def _share(part: ArrayLike, other: ArrayLike) -> Floats:
    """part / (part + other), NaN where both are 0."""
    a, b = np.asarray(part, np.float64), np.asarray(other, np.float64)
    total = a + b
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, a / total, np.nan)


def mcs(entropy_vision: ArrayLike, entropy_text: ArrayLike) -> Floats:
    """H_vision / (H_vision + H_text), from entropies in nats.

    Returns
    -------
    ndarray
        Share, 0 to 1; 0.5 is balanced, and below 0.3 / above 0.7 is text / vision collapse by the original
        thresholds. NaN where both entropies are 0.

    Examples
    --------
    >>> float(mcs(1.0, 3.0))  # 1 / (1 + 3)
    0.25
    """
    return _share(entropy_vision, entropy_text)


def mcs_null(uniform_vision: ArrayLike, uniform_text: ArrayLike) -> Floats:
    """`mcs` of uniform attention, from the mean of ln(support) of each tower, in nats.

    Examples
    --------
    >>> round(float(mcs_null(np.log(16), np.log(4))), 4)  # 4 ln 2 / (4 ln 2 + 2 ln 2)
    0.6667
    """
    return _share(uniform_vision, uniform_text)


def mcs_calibrated(
    entropy_vision: ArrayLike, entropy_text: ArrayLike, uniform_vision: ArrayLike, uniform_text: ArrayLike
) -> Floats:
    """`mcs` with each entropy in units of its own uniform value.

    Returns
    -------
    ndarray
        Share, 0 to 1; 0.5 is no departure from the null. Equals the inverse logit of logit(mcs) − logit(mcs_null).
        NaN where a uniform value is 0 (a single visible key) or both entropies are.

    Examples
    --------
    >>> float(mcs_calibrated(2.0, 0.5, 4.0, 1.0))  # both entropies are half of their uniform value
    0.5
    """
    given = (entropy_vision, entropy_text, uniform_vision, uniform_text)
    values = [np.asarray(value, np.float64) for value in given]
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = [np.where(null > 0, value / null, np.nan) for value, null in zip(values[:2], values[2:], strict=True)]
    return _share(*ratios)


def imbalance(mcs: ArrayLike) -> Floats:
    """max(s, 1 − s) of a share s: 0.5 (balanced) to 1 (one modality alone).

    Examples
    --------
    >>> float(imbalance(0.25))
    0.75
    """
    s = np.asarray(mcs, np.float64)
    return np.maximum(s, 1.0 - s)


def mcs_minus_null(mcs: ArrayLike, mcs_null: ArrayLike) -> Floats:
    """How far the score lies from what uniform attention scores: −1 to 1.

    Examples
    --------
    >>> float(mcs_minus_null(0.75, 0.5))
    0.25
    """
    found: Floats = np.asarray(mcs, np.float64) - np.asarray(mcs_null, np.float64)
    return found


def layer_imbalance(mcs: ArrayLike) -> Floats:
    """`|2 · mcs − 1|` of a layer: 0 (balanced) to 1.

    Examples
    --------
    >>> float(layer_imbalance(0.75))  # |2 · 0.75 − 1|
    0.5
    """
    return np.abs(2.0 * np.asarray(mcs, np.float64) - 1.0)


# MCS above 0.7 was reported as "vision collapse": the image's attention is diffuse, so the image is not used. We take
# the report at its words, though the score is named a contribution; one minus the AUROC answers the other reading.
ORIGINAL = "original report"
BOTH_TOWERS = ("vision", "text")
MCS = (
    Measure(
        mcs, "MCS", "H_vision / (H_vision + H_text), from mean attention entropies", "share", 0, 1, null="mcs_null",
        share_of="of attention entropy", needs=BOTH_TOWERS, image_ignored=1, text_ignored=-1,
        bounds=(TEXT_COLLAPSE, VISION_COLLAPSE), bounds_source=ORIGINAL, heading="MCS",
        hypotheses=(Hypothesis("mcs_vs_0_5", 0.5), Hypothesis("mcs_vs_0_7", VISION_COLLAPSE, "greater")),
        uses=frozenset({"severity", "diagnosed", "layers", "bands"}),
    ),
    Measure(
        mcs_null, "MCS of uniform attention, its null", "MCS of uniform attention: what token counts alone give",
        "share", 0, 1, share_of="of attention entropy", needs=BOTH_TOWERS, uses=frozenset({"layers", "bands"}),
    ),
    Measure(
        mcs_calibrated, "calibrated MCS", "MCS with each entropy in units of its uniform value", "share", 0, 1,
        null=0.5, share_of="of attention entropy in units of its null", needs=BOTH_TOWERS, image_ignored=1,
        text_ignored=-1, bounds=BY_SEVERITY, heading="calibrated MCS",
        hypotheses=(Hypothesis("mcs_calibrated_vs_0_5", 0.5),),
        uses=frozenset({"severity", "diagnosed", "compared", "pooled", "layers", "bands"}),
    ),
    Measure(
        imbalance, "imbalance of MCS", "max(s, 1 − s) of the share s", "share", 0.5, 1, level="image",
        needs=BOTH_TOWERS, hypotheses=(Hypothesis("imbalance_vs_0_8", SEVERE, "greater"),),
        uses=frozenset({"diagnosed"}),
    ),
    Measure(
        mcs_minus_null, "MCS minus its null", "how far MCS lies from what token counts alone give", "share", -1, 1,
        level="image", null=0.0, needs=BOTH_TOWERS, hypotheses=(Hypothesis("mcs_vs_null", 0.0),),
        uses=frozenset({"pooled"}),
    ),
    Measure(
        layer_imbalance, "imbalance of a layer", "|2 · MCS − 1| of one layer", "share", 0, 1, level="layer",
        needs=BOTH_TOWERS, uses=frozenset({"layers"}),
    ),
)  # fmt: skip


def original_reading(share: float) -> str:
    """The verdict by the thresholds of the original report.

    Examples
    --------
    >>> original_reading(0.71), original_reading(0.5), original_reading(float("nan"))
    ('vision collapse', 'no collapse', 'undefined')
    """
    if not np.isfinite(share):
        return "undefined"
    if share < TEXT_COLLAPSE:
        return "text collapse"
    return "vision collapse" if share > VISION_COLLAPSE else "no collapse"


def align_layers(vision_layers: int, text_layers: int) -> list[tuple[int, int]]:
    """Pairs (vision layer, text layer), counted from 0, of equal relative depth.

    The deeper tower sets the number of pairs; layer i of L stands at relative depth (i + ½) / L and meets the layer
    of the other tower that covers that depth. Equal depths give (0, 0), (1, 1), …

    Examples
    --------
    >>> align_layers(2, 4)
    [(0, 0), (0, 1), (1, 2), (1, 3)]
    """
    depth = max(vision_layers, text_layers)
    return [(int((i + 0.5) * vision_layers / depth), int((i + 0.5) * text_layers / depth)) for i in range(depth)]


def thirds(layers: int) -> dict[str, list[int]]:
    """Early, middle and late layers, counted from 0: 12 layers give 0–3, 4–7, 8–11; empty where there are too few.

    Examples
    --------
    >>> thirds(6)
    {'early': [0, 1], 'middle': [2, 3], 'late': [4, 5]}
    """
    cuts = [round(layers * part / 3) for part in range(4)]
    return {name: list(range(cuts[i], cuts[i + 1])) for i, name in enumerate(("early", "middle", "late"))}
