"""How a query divides its attention between image and text. Mass is not contribution: it says where a model looks."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def mass_share(image: ArrayLike, text: ArrayLike) -> Floats:
    """m_image / (m_image + m_text): share, 0 to 1, NaN where both are 0.

    With the numbers of visible keys in place of the masses, its null: what uniform attention gives.
    """
    m_image, m_text = np.asarray(image, np.float64), np.asarray(text, np.float64)
    total = m_image + m_text
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, m_image / total, np.nan)


def mass_per_token_ratio(image: ArrayLike, n_image: ArrayLike, text: ArrayLike, n_text: ArrayLike) -> Floats:
    """(m_image / n_image) / (m_text / n_text): 1 = a token of either modality draws the same mass.

    0 or more; NaN where a group has no visible key, infinite where only the text draws no mass.
    """
    m_i, n_i, m_t, n_t = (np.asarray(value, np.float64) for value in (image, n_image, text, n_text))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((n_i > 0) & (n_t > 0), (m_i / n_i) / (m_t / n_t), np.nan)
