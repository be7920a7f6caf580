"""Two models (or measures) on the same images: how far apart, and whether equal within a margin."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from statsmodels.stats.weightstats import DescrStatsW

from attention_collapse.stats.one_sample import Rng, describe_columns, one_sample_columns
from attention_collapse.stats.permutation import sign_flip

Pair = tuple[ArrayLike, ArrayLike]
FLIPS = 10_000


def paired_columns(
    pairs: Mapping[str, Pair], *, margin: float, confidence: float = 0.95, n_resamples: int = 10_000, rng: Rng
) -> dict[str, dict[str, Any]]:
    """`paired` of many pairs of samples, all over the same images, resampled together."""
    differences = {name: np.asarray(a, np.float64) - np.asarray(b, np.float64) for name, (a, b) in pairs.items()}
    described = describe_columns(differences, confidence=confidence, n_resamples=n_resamples, rng=rng)
    tested = one_sample_columns(
        {name: (values, 0.0, "two-sided") for name, values in differences.items()},
        confidence=confidence,
        n_resamples=n_resamples,
        rng=rng,
    )
    result = {}
    for name, values in differences.items():
        effect = {key.replace("cohen_d", "d_z"): value for key, value in tested[name].items() if key != "value"}
        result[name] = described[name] | effect | {"margin": margin, "tost_p": _tost(values, margin, effect["t"], rng)}
    return result


def _tost(differences: ArrayLike, margin: float, t: float, rng: Rng) -> float:
    """p of two one-sided tests; of differences without variance, which have no t, by flips of the signs."""
    known = np.asarray(differences, np.float64)
    known = known[np.isfinite(known)]
    if len(known) < 2:
        return math.nan
    if math.isnan(t):
        sides = np.column_stack([known + margin, margin - known])
        generator = np.random.default_rng(rng)
        return float(sign_flip(sides, ["greater", "greater"], n_resamples=FLIPS, rng=generator).max())
    return float(DescrStatsW(known).ttost_mean(-margin, margin)[0])


def paired(
    a: ArrayLike, b: ArrayLike, *, margin: float, confidence: float = 0.95, n_resamples: int = 10_000, rng: Rng
) -> dict[str, Any]:
    """The differences a − b, image by image: interval, tests against 0, effect size, equivalence.

    Parameters
    ----------
    a, b
        Values of the same images in the same order; an image that either leaves undefined is left out and counted.
    margin
        Half-width of the range of mean differences that count as none, in units of the values.

    Returns
    -------
    dict
        mean (of a − b), sd, n, n_undefined, ci_low, ci_high (BCa); t, df, p, log10_p (paired t-test, two-sided),
        wilcoxon_p, permutation_p; d_z (mean / sd of the differences, signed) and hedges_g, each with _ci_low and
        _ci_high; margin and tost_p (the larger p of two one-sided t-tests, Schuirmann 1987: small where the means are
        equal within the margin; by flips of the signs where differences have no variance); `reason` where t-tests do
        not exist.

    Examples
    --------
    >>> found = paired([2.0, 3.0, 4.0, 6.0], [1.0, 1.0, 3.0, 4.0], margin=0.5, rng=0)
    >>> found["mean"], found["n"]  # differences 1, 2, 1, 2
    (1.5, 4)
    """
    return paired_columns({"": (a, b)}, margin=margin, confidence=confidence, n_resamples=n_resamples, rng=rng)[""]
