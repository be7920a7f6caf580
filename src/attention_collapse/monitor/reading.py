"""What the scores of one check say: reliance, accuracy with either modality swapped, flips; and is one unused?

Formulas are those of `measures.reliance`; intervals are over the held-out pairs, given the model as it is at this step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import binomtest

from attention_collapse.measures import reliance
from attention_collapse.measures.matching import won
from attention_collapse.stats.of_means import describe_of_means
from attention_collapse.stats.one_sample import describe_columns

Floats = NDArray[np.float64]
MODALITIES: Final = ("image", "text")
NO_LABELS = "the held-out pairs have no labels, and against a random foil no modality can be shown to be unused"
AT_CHANCE = "the score is not shown to tell right from wrong (lower limit of accuracy not above chance)"


@dataclass(frozen=True)
class Rule:
    """When a modality counts as unused, and how sure that has to be.

    Attributes
    ----------
    threshold
        A score above it says "match". (Among candidates the greatest score wins.)
    margin
        A modality is unused if swapping it is shown to cost less than this share of what accuracy is above chance.
    hard_margin
        The hard pairs are failed if accuracy on them is shown to be above their chance by less than this share of what
        accuracy on the held-out pairs is above theirs.
    confidence
        The confidence of every interval, two-sided; the rule takes its limits from the same intervals.
    n_resamples
        The number of resamples of the bootstrap over pairs.

    Examples
    --------
    >>> Rule(margin=0.2).confidence
    0.95
    """

    threshold: float = 0.0
    margin: float = 0.1
    hard_margin: float = 0.5
    confidence: float = 0.95
    n_resamples: int = 1000


@dataclass(frozen=True)
class Cells:
    """Scores: `own` (pair, 1), and with partners' image, text or both (pair, partner); (…, candidate) if there are any.

    `foil` of unlabelled pairs is the own image with a partner's text, that is, `text`.
    """

    own: Floats
    image: Floats
    text: Floats
    both: Floats

    def unusable(self) -> str | None:
        """Why nothing can be said, if so."""
        scores = np.concatenate([part.ravel() for part in (self.own, self.image, self.text, self.both)])
        bad = int((~np.isfinite(scores)).sum())
        return f"{bad} of {scores.size} scores are NaN or infinite" if bad else None


@dataclass
class Reading:
    """Values by name, why a value is NaN by name, and what is shown: True, False, or None where nothing can be said."""

    values: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    unused: dict[str, bool | None] = field(default_factory=dict)

    def put(self, name: str, value: float, low: float = math.nan, high: float = math.nan, *, reason: str = "") -> None:
        """Enter a value with its interval."""
        self.values |= {name: float(value), f"{name}_ci_low": float(low), f"{name}_ci_high": float(high)}
        if reason:
            self.reasons[name] = reason

    def put_described(self, found: Mapping[str, Mapping[str, float | str]]) -> None:
        """Enter what `describe` and its like return."""
        for name, item in found.items():
            mean, low, high = (float(item[key]) for key in ("mean", "ci_low", "ci_high"))
            self.put(name, mean, low, high, reason=str(item.get("reason", "")))


def chance_of(target: NDArray[np.int64] | None) -> float:
    """Accuracy of the best constant answer, which uses nothing: the most frequent label's share; ½ for a choice."""
    return 0.5 if target is None else float(np.bincount(target).max() / len(target))


def answers(scores: Floats, threshold: float) -> NDArray[np.int64]:
    """The label that the score decides for: (pair, n) scores, or (pair, n, candidate), -> (pair, n)."""
    found: NDArray[np.int64] = scores.argmax(-1) if scores.ndim == 3 else (scores > threshold).astype(np.int64)
    return found


def right(scores: Floats, target: NDArray[np.int64], threshold: float) -> Floats:
    """1 where the answer is the pair's own label: (pair, n) scores, or (pair, n, candidate), -> (pair, n)."""
    found: Floats = (answers(scores, threshold) == target[:, None]).astype(np.float64)
    return found


def flipped(own: Floats, swapped: Floats, threshold: float) -> Floats:
    """(pair,) share of partners with which the answer is another."""
    found: Floats = (answers(own, threshold) != answers(swapped, threshold)).mean(1)
    return found


def decision_variable(scores: Floats, target: NDArray[np.int64] | None) -> Floats:
    """(pair, n): the score, or the log-odds of the pair's right answer among candidates."""
    if scores.ndim == 2 or target is None:
        return scores
    mine = np.arange(scores.shape[-1]) == target[:, None, None]
    own = np.where(mine, scores, 0.0).sum(-1)
    return np.asarray(own - logsumexp(np.where(mine, -np.inf, scores), axis=-1), np.float64)


def exact_limits(accuracy: Floats, confidence: float) -> tuple[float, float]:
    """Clopper and Pearson's interval of a share of right answers; a tie counts as wrong below and as right above."""
    total, n = float(accuracy.sum()), len(accuracy)
    low, high = (
        binomtest(int(count), n).proportion_ci(confidence, method="exact")
        for count in (math.floor(total), math.ceil(total))
    )
    return float(low.low), float(high.high)


def fewest_losses(n: int, confidence: float) -> float:
    """The share of pairs that may lose something although none of `n` does: Clopper and Pearson's upper limit of 0."""
    return float(1 - ((1 - confidence) / 2) ** (1 / n))


def read(cells: Cells, target: NDArray[np.int64] | None, rule: Rule, seed: int) -> Reading:
    """Everything that one check says of the held-out pairs."""
    found = Reading()
    problem = cells.unusable()
    if problem:
        return _nothing(found, problem, labelled=target is not None)
    variable = {name: decision_variable(getattr(cells, name), target) for name in ("own", "image", "text", "both")}
    if target is None:
        correct = won(variable["own"], variable["text"]).mean(1)
    else:
        correct = right(cells.own, target, rule.threshold)[:, 0]
    chance = chance_of(target)
    low, high = exact_limits(correct, rule.confidence)
    found.put("accuracy", float(correct.mean()), low, high)
    competent = low > chance
    _reliance(found, variable, rule, seed, competent=competent)
    if target is None:
        found.reasons["alarm"] = NO_LABELS
    else:
        _without(found, cells, target, rule, seed, competent=competent)
    return found


def _nothing(found: Reading, problem: str, *, labelled: bool) -> Reading:
    names = ["accuracy", "reliance_image", "reliance_text", "reliance_share"]
    if labelled:
        names += [f"{what}_{m}{end}" for m in MODALITIES for what, end in _OF_MODALITY]
        found.unused |= dict.fromkeys(MODALITIES)
    for name in names:
        found.put(name, math.nan, reason=problem)
    return found


_OF_MODALITY = (("accuracy", "_swapped"), ("perceptual_score", ""), ("flip_rate", ""))


def _reliance(found: Reading, variable: Mapping[str, Floats], rule: Rule, seed: int, *, competent: bool) -> None:
    if not competent:
        for name in ("reliance_image", "reliance_text", "reliance_share"):
            found.put(name, math.nan, reason=AT_CHANCE)
        return
    image = reliance.lost_image(variable["own"], variable["image"])
    text = reliance.lost_text(variable["own"], variable["text"])
    both = reliance.lost_both(variable["own"], variable["both"])
    for function, columns in (
        (reliance.reliance_image, (image, both)),
        (reliance.reliance_text, (text, both)),
        (reliance.reliance_share, (image, text)),
    ):
        described = describe_of_means(
            columns, function, confidence=rule.confidence, n_resamples=rule.n_resamples, rng=seed
        )
        found.put_described({function.__name__: described})


def _without(
    found: Reading, cells: Cells, target: NDArray[np.int64], rule: Rule, seed: int, *, competent: bool
) -> None:
    """Accuracy with either modality swapped, what is lost by it, flips, and whether the modality is unused."""
    correct, chance = right(cells.own, target, rule.threshold)[:, 0], chance_of(target)
    columns: dict[str, Floats] = {}
    for m in MODALITIES:
        swapped = getattr(cells, m)
        correct_swapped = right(swapped, target, rule.threshold).mean(1)
        columns |= {
            f"accuracy_{m}_swapped": correct_swapped,
            f"perceptual_score_{m}": correct - correct_swapped,
            f"flip_rate_{m}": flipped(cells.own, swapped, rule.threshold),
            # Below 0 on average if the loss is less than the margin's share of the accuracy above chance.
            f"excess_{m}": correct - correct_swapped - rule.margin * (correct - chance),
        }
    described = describe_columns(columns, confidence=rule.confidence, n_resamples=rule.n_resamples, rng=seed)
    excess = {m: described.pop(f"excess_{m}") for m in MODALITIES}
    found.put_described(described)
    # A bootstrap of few losses, or of none, knows no others.
    at_least = fewest_losses(len(correct), rule.confidence) - rule.margin * (float(correct.mean()) - chance)
    for m in MODALITIES:
        upper = float(excess[m]["mean"] if excess[m].get("reason") == "no variance" else excess[m]["ci_high"])
        found.unused[m] = bool(competent and max(upper, at_least) < 0)  # NaN is not below


def read_hard(found: Reading, own: Floats, target: NDArray[np.int64], chance: float, rule: Rule) -> None:
    """Add accuracy on the hard pairs, (pair, 1) scores, and whether they are failed, to what the others said.

    `chance` is that of the held-out pairs.
    """
    bad = int((~np.isfinite(own)).sum())
    if bad:
        found.put("accuracy_hard", math.nan, reason=f"{bad} of {own.size} scores are NaN or infinite")
        found.unused["hard"] = None
        return
    correct = right(own, target, rule.threshold)[:, 0]
    low, high = exact_limits(correct, rule.confidence)
    found.put("accuracy_hard", float(correct.mean()), low, high)
    skill = found.values["accuracy_ci_low"] - chance
    known = math.isfinite(skill)
    found.unused["hard"] = (skill > 0 and high - chance_of(target) < rule.hard_margin * skill) if known else None
