"""Any model's answers to any questions, through the engine that scores images with captions.

The texts that it scores are questions with one candidate each, so that every model, every batch and every resumed run
goes through the code that captions go through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from attention_collapse.data.entries import normal
from attention_collapse.data.questions import Asked, Located
from attention_collapse.engine.answers import COALITIONS, answer_columns, baselines, swaps
from attention_collapse.engine.scoring import Cells, score_texts
from attention_collapse.errors import DataError
from attention_collapse.measures.answers import chosen, credit, log_odds
from attention_collapse.models.answering import Answering, asked


def answer_scores(
    model: Answering, questions: Sequence[Located], *, partners: int, seed: int, batch_size: int,
    work: Path | None = None, identity: str = "",
) -> dict[str, np.ndarray]:  # fmt: skip
    """Log-likelihoods of each pair's candidates, with its own image and question and with another pair's.

    Parameters
    ----------
    questions
        Each with 2 candidates or more, the right answer among them.
    work, identity
        As of `engine.contribution.contributions`.

    Returns
    -------
    dict
        Name of `COALITIONS` -> (pair, 1 or partner, candidate) in nats, −∞ where a pair has fewer candidates than
        another; NaN where there is no image (no question) to swap in.

    Raises
    ------
    DataError
        A question has no candidates; a score is NaN or infinite.
    """
    if lacking := [one.asked.id for one in questions if len(one.asked.candidates) < 2]:
        raise DataError(
            f"{len(lacking)} questions without candidates ({', '.join(lacking[:3])})",
            expected="2 candidates or more for each question",
            remedy="give each the most frequent answers (`data.questions.most_frequent`, `with_candidates`)",
        )
    n, width = len(questions), max(len(one.asked.candidates) for one in questions)
    files = {one.sha256: one.path for one in questions}
    place = {digest: index for index, digest in enumerate(files)}
    images = np.array([place[one.sha256] for one in questions])
    wordings = np.unique([normal(one.asked.question) for one in questions], return_inverse=True)[1]
    image, question = swaps(images, wordings, partners, seed)
    texts: dict[str, int] = {}

    def text_of(pair: int, other: int) -> list[int]:
        """Places of the texts that put the other's question to this pair's candidates."""
        mine = questions[pair].asked.candidates
        said = [asked(questions[other].asked.question, candidate) for candidate in mine]
        found = [texts.setdefault(text, len(texts)) for text in said]
        return found + [found[0]] * (width - len(found))

    own = np.array([text_of(i, i) for i in range(n)])[:, None]  # (pair, 1, candidate)
    others = np.array([[text_of(i, k if k >= 0 else i) for k in row] for i, row in enumerate(question)])
    mine, theirs, mean = images[:, None, None], images[image][..., None], np.full((n, 1, 1), len(files))
    cells: Cells = {
        "both": (mine, own), "image": (mine, others), "text": (theirs, own), "neither": (theirs, others),
        "text_mean_image": (mean, own), "neither_mean_image": (mean, others),
    }  # fmt: skip
    found = score_texts(
        model, list(files.values()), list(texts), cells, captions=len(texts), batch_size=batch_size, work=work,
        identity=f"{identity} partners={partners} seed={seed}",
    ).cells  # fmt: skip
    given = np.array([len(one.asked.candidates) for one in questions])[:, None, None]
    missing = {"image": question < 0, "neither": (question < 0) | (image < 0), "text": image < 0}
    missing["neither_mean_image"] = question < 0
    scores = {}
    for name in COALITIONS:
        values = np.where(np.arange(width) < given, found[name], -np.inf)
        undefined = missing.get(name, np.zeros((n, 1), bool))[..., None]
        scores[name] = np.where(undefined, np.nan, values)
    return scores


def answer_measures(
    model: Answering, questions: Sequence[Located], *, partners: int, seed: int, batch_size: int,
    reference: Sequence[Asked] | None = None, work: Path | None = None, identity: str = "",
) -> pd.DataFrame:  # fmt: skip
    """What a model answers and what that depends on, a row per question: image_id, question_id, and every measure.

    Parameters and errors are those of `answer_scores` and `baselines`.
    """
    scores = answer_scores(
        model, questions, partners=partners, seed=seed, batch_size=batch_size, work=work, identity=identity
    )
    first = {one.sha256: one.asked.image for one in reversed(questions)}  # one file under two ids is one image
    plain = [replace(one.asked, image=first[one.sha256]) for one in questions]
    right = np.array([[normal(c) for c in one.candidates].index(normal(one.right)) for one in plain])
    width = scores["both"].shape[2]
    credits = np.array([
        [one.credit(candidate) for candidate in one.candidates] + [0.0] * (width - len(one.candidates))
        for one in plain
    ])  # fmt: skip
    table = answer_columns(
        {name: log_odds(values, right) for name, values in scores.items()},
        {name: credit(values, credits) for name, values in scores.items()},
        {name: chosen(values) for name, values in scores.items()},
        *baselines(plain, reference),
    )
    table.insert(0, "question_id", [one.id for one in plain])
    table.insert(0, "image_id", [one.image for one in plain])
    return table
