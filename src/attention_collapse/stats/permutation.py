"""Permutation tests whose p-values are never 0 (Phipson & Smyth 2010)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from attention_collapse.stats import ties

Alternative = Literal["two-sided", "greater", "less"]
BATCH = 4_000_000  # signs held at once, 32 MB


def sign_flip(
    differences: NDArray[np.float64], alternatives: Sequence[Alternative], *, n_resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Sign-flip test of each column: under the null hypothesis a difference is as likely as its negative.

    The statistic is the sum, which orders the sign patterns as t does. Every column meets the same signs, so that one
    product of matrices tests all of them; scipy.stats.permutation_test agrees, one column at a time.

    Parameters
    ----------
    differences
        (image, column): values minus the hypothesised mean; NaN where there is none.
    alternatives
        The alternative hypothesis of each column.

    Returns
    -------
    ndarray
        (column,): p = (b + 1) / (m + 1), b of m sign patterns at least as extreme as the observed one.

    Examples
    --------
    >>> zero = np.zeros((4, 1))  # no sign pattern is less extreme
    >>> sign_flip(zero, ["two-sided"], n_resamples=99, rng=np.random.default_rng(0)).tolist()
    [1.0]
    """
    known = np.nan_to_num(differences, nan=0.0)  # a difference of 0 is the same under either sign
    known = known * np.where(np.array(alternatives) == "less", -1.0, 1.0)
    both = np.array(alternatives) == "two-sided"
    observed = np.where(both, np.abs(known.sum(0)), known.sum(0))
    slack = len(known) * ties.of_means(known)  # sums that are equal but for rounding are ties
    extreme = np.zeros(known.shape[1])
    batch = max(1, BATCH // max(1, len(known)))
    for start in range(0, n_resamples, batch):
        size = (min(batch, n_resamples - start), len(known))
        sums = (2.0 * rng.integers(0, 2, size, dtype=np.int8) - 1.0) @ known  # (resample, column)
        extreme += (np.where(both, np.abs(sums), sums) >= observed - slack).sum(0)
    p: NDArray[np.float64] = (extreme + 1) / (n_resamples + 1)
    return p
