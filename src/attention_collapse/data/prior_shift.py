"""Training and test questions whose answers are distributed otherwise, question by question, as in VQA-CP.

VQA-CP (Agrawal et al. 2018) divides VQA anew, so that each kind of question has other frequent answers in training than
in the test. Here questions are left out instead, and the published division stays: each wording has a favoured answer,
which is right for a stated share of its questions. Whoever answers by the question alone is right for that share. The
image decides all of them in either case.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from attention_collapse.data.entries import normal
from attention_collapse.data.questions import Asked


def _by_wording(asked: Sequence[Asked]) -> dict[str, list[int]]:
    """Wording -> positions, wordings in order of their letters."""
    found: dict[str, list[int]] = defaultdict(list)
    for position, one in enumerate(asked):
        found[normal(one.question)].append(position)
    return dict(sorted(found.items()))


def favoured_answers(asked: Sequence[Asked], seed: int) -> dict[str, str]:
    """Wording -> its favoured answer: those with the same answers are dealt these in turn, in an order drawn by `seed`.

    So no answer is favoured much more often than another, and the answers' frequencies over all wordings hardly move.

    Examples
    --------
    >>> asked = [Asked(str(i), "1", "1.png", "What colour?", ((said, 1.0),)) for i, said in enumerate(["red", "red"])]
    >>> favoured_answers(asked, seed=0)
    {'what colour?': 'red'}
    """
    rng = np.random.default_rng([seed, 11])
    alike: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for wording, positions in _by_wording(asked).items():
        alike[tuple(sorted({normal(asked[i].right) for i in positions}))].append(wording)
    found: dict[str, str] = {}
    for answers, wordings in sorted(alike.items()):
        first = rng.permutation(len(answers))
        for place, index in enumerate(rng.permutation(len(wordings))):
            found[wordings[index]] = answers[first[place % len(answers)]]
    return found


def with_prior(asked: Sequence[Asked], favoured: Mapping[str, str], share: float, seed: int) -> list[int]:
    """Positions, ascending, of the most questions that can be kept so that the favoured answers have their `share`.

    Parameters
    ----------
    share
        The share of each wording's kept questions for which its favoured answer is right, 0 to 1, but for rounding. A
        wording without a favoured answer is left out.

    Examples
    --------
    >>> said = ["red", "blue", "red", "blue"]
    >>> asked = [Asked(str(i), "1", "1.png", "What colour?", ((one, 1.0),)) for i, one in enumerate(said)]
    >>> with_prior(asked, {"what colour?": "red"}, 1.0, seed=0), with_prior(asked, {"what colour?": "red"}, 0.5, seed=0)
    ([0, 2], [0, 1, 2, 3])
    """
    rng = np.random.default_rng([seed, 12])
    kept: list[int] = []
    for wording, positions in _by_wording(asked).items():
        drawn = rng.permutation(positions)
        mine = np.array([normal(asked[i].right) == favoured.get(wording) for i in drawn], bool)
        parts = (drawn[mine], share), (drawn[~mine], 1 - share)
        total = min((len(part) / rate for part, rate in parts if rate > 0), default=0.0)
        for part, rate in parts:
            kept += part[: int(total * rate + 1e-9)].tolist()
    return sorted(kept)
