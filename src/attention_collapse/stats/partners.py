"""The spread of means over pairs that serve each other as partners.

Where pair i is compared with partners drawn from the same sample, a term of pair i is not its own alone: an image that
is far from all others moves the terms of every pair that drew it. Treating the pairs' means of their terms as
independent then gives intervals that are too short (docs/measures.md says how often they hold the truth). As with
cluster-robust variances of dyads (Aronow, Samii & Assenova 2015, arXiv:1312.3398), each pair is given its part
in the terms of others; but only as far as those terms agree with each other, so that noise of a single term, which the
pair whose term it is already carries, is not counted twice.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
IN_ROLES = "_in_roles"  # ends the name of a column with the mean of another, and with the spread that intervals need


def in_both_roles(
    terms: Floats, partners: list[NDArray[np.int64]], slack: Floats | None = None
) -> tuple[Floats, Floats]:
    """Values of pairs whose mean is that of their terms, and whose spread holds what each pair does as a partner.

    Parameters
    ----------
    terms
        (pair, partner), NaN where a partner gives none.
    partners
        (pair, partner) positions of the pairs that stand in: of images, of texts, or one array of each.
    slack
        (pair, partner) how far each term may be off; None: not at all.

    Returns
    -------
    values, slack
        (pair,) each; NaN where a pair has no term of its own, and 0. With one partner each, the pair's own part and its
        partner's cannot be told apart, and the values are the terms.

    Examples
    --------
    >>> terms, partners = np.array([[9.0, 1.0], [9.0, 1.0], [1.0, 1.0]]), [np.array([[2, 1], [2, 0], [0, 1]])]
    >>> values, _ = in_both_roles(terms, partners)  # whoever draws the third pair moves far
    >>> round(float(values.mean() - terms.mean()), 9), int(values.argmax())
    (0.0, 2)
    """
    known = ~np.isnan(terms)
    count = known.sum(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        own = np.where(known, terms, 0.0).sum(1, keepdims=True) / count
        # The rest of a term beside the pair's own mean, which it is a part of; weighted as in that mean.
        rest = np.where(known & (count > 1), (terms - own) / (count - 1), 0.0)
        off = np.zeros_like(rest) if slack is None else np.where(known, slack, 0.0)
        moved = np.nan_to_num(off.sum(1, keepdims=True) / count)  # of the pair's own mean
        off_rest = np.where(known & (count > 1), (off + moved) / (count - 1), 0.0)
    n, values, slack_of = len(terms), own[:, 0].copy(), moved[:, 0].copy()
    for role in partners:
        # Terms of one pair with one partner, drawn twice, are one.
        once, place = np.unique(np.arange(n)[:, None] * n + role, return_inverse=True)
        each = np.bincount(place.ravel(), rest.ravel(), len(once))
        sums, squares = (np.bincount(once % n, weights, n) for weights in (each, each**2))
        drift = np.bincount(role.ravel(), off_rest.ravel(), n)  # how far errors may move the sums
        power, agreed, error = (sums**2).sum(), (sums**2 - squares).sum(), 4 * float((np.abs(sums) * drift).sum())
        slack_of += drift
        if not power > 0:
            continue
        scale, most, least = (np.sqrt(max(agreed + e, 0.0) / power) for e in (0.0, error, -error))
        values += scale * sums
        slack_of += (most - least) * np.abs(sums)
    defined = ~np.isnan(values)
    if defined.any():
        values += np.mean(own[defined]) - np.mean(values[defined])  # sums of pairs without a term of their own are lost
    return values, np.where(defined, slack_of + slack_of.mean(), 0.0)
