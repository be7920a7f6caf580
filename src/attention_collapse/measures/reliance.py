"""How far the score, and the choices made by it, move when a modality is another pair's.

Reliance is a normalised total effect: unchanged by any a · v + b with a ≠ 0, 0 for a modality that is never read, 1
and 1 for a score of pure interaction, ½ and ½ for an additive one whose parts vary alike. It is a ratio of two means
over images, and no mean of ratios (Saltelli et al. 2008, "Global Sensitivity Analysis", for the total effect).

A mean log-likelihood carries the caption's own probability, which moves v with the caption and decides nothing. Where
the score is one, v is the decision variable d(image, text) = score(image, text) − score(image, the text's hard foil).
"""

from __future__ import annotations

import numpy as np

from attention_collapse.measures.matching import won
from attention_collapse.measures.record import BY_SEVERITY, CONTRIBUTION, Floats, Measure

NO_DECISION = "the score is a mean log-likelihood, which carries the caption's own probability; give hard foils"
OF_DECISION = "the score against the caption's first hard foil"  # what reliance is of, where the score is a likelihood
NO_GRID = "needs the score of every image with every text, N × N passes of this model"


def _over_partners(values: Floats) -> Floats:
    """(pair,) mean over the partners that define it, from (pair, partner); NaN where none does."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        found: Floats = np.where(known, values, 0.0).sum(1) / known.sum(1)
    return found


def _squared(own: Floats, swapped: Floats) -> Floats:
    """Mean over the partners of (own − swapped)²: (pair, 1 or partner) and (pair, partner) -> (pair,), in score²."""
    return _over_partners((own - swapped) ** 2)


def lost_image(both: Floats, text: Floats) -> Floats:
    """How far the score moves with another pair's image: (pair,), in units of the score squared.

    Examples
    --------
    >>> lost_image(np.array([[3.0]]), np.array([[1.0, 2.0]])).tolist()  # (2² + 1²) / 2
    [2.5]
    """
    return _squared(both, text)


def lost_text(both: Floats, image: Floats) -> Floats:
    """How far the score moves with another pair's text: (pair,), in units of the score squared.

    Examples
    --------
    >>> lost_text(np.array([[3.0]]), np.array([[3.0, 3.0]])).tolist()  # another text changes nothing
    [0.0]
    """
    return _squared(both, image)


def lost_both(both: Floats, neither: Floats) -> Floats:
    """How far the score moves with the image of one other pair and the text of a third: (pair,), score squared.

    Examples
    --------
    >>> lost_both(np.array([[3.0]]), np.array([[1.0]])).tolist()  # 2²
    [4.0]
    """
    return _squared(both, neither)


def term_slack(own: Floats, swapped: Floats, error: float) -> Floats:
    """How far errors of both scores may move their squared difference: (pair, partner)."""
    found: Floats = 4 * error * np.abs(own - swapped) + 4 * error**2
    return found


def squared_slack(own: Floats, swapped: Floats, error: float) -> Floats:
    """How far errors of both scores may move the mean of their squared differences: (pair,)."""
    return _over_partners(term_slack(own, swapped, error))


def ratio(part: Floats, whole: Floats) -> Floats:
    """part ÷ whole; NaN where the whole is not above 0.

    Examples
    --------
    >>> ratio(np.array([1.0, 1.0]), np.array([4.0, 0.0])).tolist()
    [0.25, nan]
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, part / whole, np.nan)


def reliance_image(lost_image: Floats, lost_both: Floats) -> Floats:
    """E[(v − v with another image)²] ÷ E[(v − v with both another's)²]: 0 and more, 0 where the image is not read.

    Examples
    --------
    >>> float(reliance_image(np.float64(1.0), np.float64(4.0)))
    0.25
    """
    return ratio(lost_image, lost_both)


def reliance_text(lost_text: Floats, lost_both: Floats) -> Floats:
    """As `reliance_image`, of the text: 0 where the text is not read.

    Examples
    --------
    >>> float(reliance_text(np.float64(0.0), np.float64(4.0)))  # the text is never read
    0.0
    """
    return ratio(lost_text, lost_both)


def reliance_share(lost_image: Floats, lost_text: Floats) -> Floats:
    """reliance_image ÷ (reliance_image + reliance_text): 0 (image never read) to 1 (text never read).

    Examples
    --------
    >>> float(reliance_share(np.float64(1.0), np.float64(3.0)))  # 1 / (1 + 3)
    0.25
    """
    return ratio(lost_image, lost_image + lost_text)


def choice_image(both: Floats, text: Floats) -> Floats:
    """Of two images for one text, does the score prefer the right one? (pair,), mean over partners, ½ for a tie.

    Blind to any offset of the caption's own: both images are scored with the same caption.

    Examples
    --------
    >>> choice_image(np.array([[2.0]]), np.array([[1.0, 2.0, 3.0, 0.0]])).tolist()  # won, tied, lost, won
    [0.625]
    """
    found: Floats = won(both, text).mean(1)
    return found


def choice_text(both: Floats, image: Floats) -> Floats:
    """Of two texts for one image, does the score prefer the right one? As `choice_image`, but not blind to offsets.

    Examples
    --------
    >>> choice_text(np.array([[2.0]]), np.array([[1.0, 3.0]])).tolist()  # won, lost
    [0.5]
    """
    found: Floats = won(both, image).mean(1)
    return found


def tie_slack(own: Floats, swapped: Floats, error: float) -> Floats:
    """Share of partners whose score is too near to the pair's own to say which is greater."""
    found: Floats = (np.abs(own - swapped) <= 2 * error).mean(1)
    return found


def flip_rate_image(both: Floats, foil: Floats, text: Floats, text_foil: Floats) -> Floats:
    """Does the choice between caption and foil change with another pair's image? (pair,), share of the partners.

    Examples
    --------
    >>> both, foil, text, text_foil = (np.array([row]) for row in ([2.0], [1.0], [2.0, 0.0], [1.0, 1.0]))
    >>> flip_rate_image(both, foil, text, text_foil).tolist()  # the second partner's image turns the choice round
    [0.5]
    """
    found: Floats = (np.sign(both - foil) != np.sign(text - text_foil)).mean(1)
    return found


def flip_rate_text(both: Floats, foil: Floats, image: Floats) -> Floats:
    """Does the choice between text and foil change with another pair's text? (pair,), share of the partners.

    Examples
    --------
    >>> flip_rate_text(np.array([[2.0]]), np.array([[1.0]]), np.array([[3.0, 0.0]])).tolist()
    [0.5]
    """
    found: Floats = (np.sign(both - foil) != np.sign(image - foil)).mean(1)
    return found


def flip_image_slack(both: Floats, foil: Floats, text: Floats, text_foil: Floats, error: float) -> Floats:
    """Share of partners for which one of the two choices is too close to call."""
    return np.minimum(tie_slack(both, foil, error) + tie_slack(text, text_foil, error), 1.0)


def flip_text_slack(both: Floats, foil: Floats, image: Floats, error: float) -> Floats:
    """As `flip_image_slack`."""
    return np.minimum(tie_slack(both, foil, error) + tie_slack(image, foil, error), 1.0)


DETAIL, JUDGED, COMPARED = (frozenset(uses) for uses in ({"detail"}, {"severity", "pooled"}, {"compared"}))
LOST = tuple(
    Measure(
        formula, f"squared change, {what} swapped", f"mean (v − v with {what} of another pair)²", "score²", 0, np.inf,
        about=CONTRIBUTION, uses=DETAIL, absent=NO_DECISION,
    )
    for formula, what in ((lost_image, "image"), (lost_text, "text"), (lost_both, "both"))
)  # fmt: skip
RELIANCE = (
    Measure(
        reliance_image, "reliance on the image", "squared change with another image over that with both swapped",
        "ratio", 0, np.inf, level="means", about=CONTRIBUTION, image_ignored=-1, heading="reliance: image",
        absent=NO_DECISION,
    ),
    Measure(
        reliance_text, "reliance on the text", "squared change with another text over that with both swapped",
        "ratio", 0, np.inf, level="means", about=CONTRIBUTION, text_ignored=-1, heading="reliance: text",
        absent=NO_DECISION,
    ),
    Measure(
        reliance_share, "reliance share of the image", "reliance on the image over that on image and text", "share",
        0, 1, level="means", null=0.5, share_of="of what moves the score", about=CONTRIBUTION, image_ignored=-1,
        text_ignored=1, bounds=BY_SEVERITY, uses=JUDGED, heading="reliance share", absent=NO_DECISION,
    ),
)  # fmt: skip
CHOICE = (
    Measure(
        choice_image, "choice between two images", "does the score prefer the right image for a text? ½ for a tie",
        "accuracy", 0, 1, null=0.5, about=CONTRIBUTION, image_ignored=-1, slack=tie_slack, uses=COMPARED,
    ),
    Measure(
        choice_text, "choice between two texts", "does the score prefer the right text for an image? ½ for a tie",
        "accuracy", 0, 1, null=0.5, about=CONTRIBUTION, text_ignored=-1, slack=tie_slack,
    ),
    Measure(
        flip_rate_image, "choices that flip, image swapped", "caption against foil is decided otherwise",
        "share", 0, 1, null=0.0, about=CONTRIBUTION, image_ignored=-1, slack=flip_image_slack,
    ),
    Measure(
        flip_rate_text, "choices that flip, text swapped", "text against foil is decided otherwise",
        "share", 0, 1, null=0.0, about=CONTRIBUTION, text_ignored=-1, slack=flip_text_slack,
    ),
)  # fmt: skip
