"""How far apart two numbers of the same quantity may lie and still be the same result.

Other processors give other last digits: float32 sums are taken in another order. docs/reproducibility.md says what was
seen on which, and so how the tolerances were chosen.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

# A result is computed in float64 from tables that are the same everywhere, and written with six significant digits:
# one unit of the sixth.
RTOL = 1.1e-5
ATOL = 1e-12
# A table holds what float32 models gave, so the error of a value is that of its column: of the largest magnitude there.
# Seen: 2.3e-5.
TABLE_RTOL = 1e-4
# A score within this share of the largest one of another is too close to call. Seen: 6e-6.
SCORE_RTOL = 2e-5


def within(
    old: float, new: float, *, rtol: float = RTOL, atol: float = ATOL, scale: float = 0.0, slack: float = 0.0
) -> bool:
    """Whether two numbers differ by rounding alone: |new − old| ≤ atol + rtol · max(|old|, scale) + slack.

    Parameters
    ----------
    scale
        Size of the quantities that the number is a difference of, in its own unit.
    slack
        How far rounding of what the number was computed from may move it beyond that: a comparison too close to call,
        a share of two small numbers.
    """
    if not (math.isfinite(old) and math.isfinite(new)):
        return (math.isnan(old) and math.isnan(new)) or old == new
    return abs(new - old) <= atol + rtol * max(abs(old), scale) + slack


def score_error(scores: ArrayLike) -> float:
    """How far a model's scores may lie from those of another processor, in units of the score.

    Parameters
    ----------
    scores
        Of any shape; NaN and infinite ones count for nothing.
    """
    known = np.abs(np.asarray(scores, np.float64))
    return SCORE_RTOL * float(known[np.isfinite(known)].max(initial=0.0))
