"""What uniform attention scores, in closed form, from token counts alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import lgamma, log

import numpy as np

from attention_collapse.measures.mcs import VISION_COLLAPSE, mcs_null

# Image tokens (patches and class token) of the vision towers most in use.
VISION_TOWERS = {
    "ViT-B/32, 224 px": 1 + (224 // 32) ** 2,
    "ViT-B/16, 224 px": 1 + (224 // 16) ** 2,
    "ViT-L/14, 224 px": 1 + (224 // 14) ** 2,
    "ViT-L/14, 336 px": 1 + (336 // 14) ** 2,
}


def uniform_entropy(tokens: int) -> float:
    """ln n, in nats: every query sees all `tokens` keys.

    Examples
    --------
    >>> uniform_entropy(1)  # one key: no choice
    0.0
    """
    return log(tokens)


def uniform_entropy_causal(tokens: int) -> float:
    """Mean of ln 1, ln 2, …, ln n, that is ln(n!) / n, in nats: query i sees i keys.

    Examples
    --------
    >>> round(uniform_entropy_causal(2), 6) == round(log(2) / 2, 6)  # (ln 1 + ln 2) / 2
    True
    """
    return lgamma(tokens + 1) / tokens


def caption_null(
    image_tokens: int, caption_lengths: Mapping[int, int], rows: str = "all", context: int = 77
) -> dict[str, float]:
    """`mcs_null` of a two-tower model with a causal text tower over a histogram of caption lengths.

    Parameters
    ----------
    image_tokens
        Tokens of the vision tower, all of which see each other.
    caption_lengths
        tokens (start and end included) -> number of captions.
    rows
        "all": text queries up to the end token; "readout": the end token only; "padded": all `context` positions.

    Returns
    -------
    dict
        `mean`, `sd` (over captions, ddof 1) and `share_above_0_7` (share of captions whose null alone exceeds 0.7).

    Examples
    --------
    >>> caption_null(4, {4: 2}, rows="readout")  # two captions of 4 tokens beside 4 image tokens
    {'mean': 0.5, 'sd': 0.0, 'share_above_0_7': 0.0}
    """
    text: dict[str, Callable[[int], float]] = {
        "all": uniform_entropy_causal,
        "readout": uniform_entropy,
        "padded": lambda _: uniform_entropy_causal(context),
    }
    lengths = np.repeat(list(caption_lengths.keys()), list(caption_lengths.values()))
    values = mcs_null(uniform_entropy(image_tokens), [text[rows](int(length)) for length in lengths])
    return {
        "mean": float(values.mean()),
        "sd": float(values.std(ddof=1)),
        "share_above_0_7": float((values > VISION_COLLAPSE).mean()),
    }
