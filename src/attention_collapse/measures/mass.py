"""How a query divides its attention between image and text. Mass is not contribution: it says where a model looks."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from attention_collapse.families import CROSS_ATTENTION, DUAL_ENCODER
from attention_collapse.measures.record import BY_SEVERITY, Floats, Measure


def mass_share(mass_of_image: ArrayLike, mass_of_text: ArrayLike) -> Floats:
    """m_image / (m_image + m_text): share, 0 to 1, NaN where both are 0.

    Examples
    --------
    >>> float(mass_share(0.2, 0.6))  # 0.2 / 0.8
    0.25
    """
    m_image, m_text = np.asarray(mass_of_image, np.float64), np.asarray(mass_of_text, np.float64)
    total = m_image + m_text
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, m_image / total, np.nan)


def mass_share_null(keys_of_image: ArrayLike, keys_of_text: ArrayLike) -> Floats:
    """`mass_share` of uniform attention, from the numbers of visible keys.

    Examples
    --------
    >>> float(mass_share_null(30, 10))
    0.75
    """
    return mass_share(keys_of_image, keys_of_text)


def mass_per_token_ratio(
    mass_of_image: ArrayLike, keys_of_image: ArrayLike, mass_of_text: ArrayLike, keys_of_text: ArrayLike
) -> Floats:
    """(m_image / n_image) / (m_text / n_text): 1 = a token of either modality draws the same mass.

    0 or more; NaN where a group has no visible key, infinite where only the text draws no mass.

    Examples
    --------
    >>> float(mass_per_token_ratio(0.5, 64, 0.5, 16))  # 1/128 per image token, 1/32 per text token
    0.25
    """
    m_i, n_i, m_t, n_t = (
        np.asarray(value, np.float64) for value in (mass_of_image, keys_of_image, mass_of_text, keys_of_text)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((n_i > 0) & (n_t > 0), (m_i / n_i) / (m_t / n_t), np.nan)


NO_QUERY = {
    DUAL_ENCODER: "no query of a dual encoder sees both groups",
    CROSS_ATTENTION: "no query sees both groups in one attention call",
}
MASS = (
    Measure(
        mass_share, "mass share of the image", "the image's part of the attention mass of the text's queries", "share",
        0, 1, null="mass_share_null", share_of="of the attention of the text's queries", undefined=NO_QUERY,
        image_ignored=-1, text_ignored=1, bounds=BY_SEVERITY, heading="mass share",
        uses=frozenset({"severity", "diagnosed"}),
    ),
    Measure(
        mass_share_null, "null of the mass share", "mass share of uniform attention", "share", 0, 1, undefined=NO_QUERY,
    ),
    Measure(
        mass_per_token_ratio, "mass per token, image ÷ text", "attention that an image token draws over that of a text "
        "token", "ratio", 0, float("inf"), null=1.0, undefined=NO_QUERY, image_ignored=-1, text_ignored=1,
    ),
)  # fmt: skip
