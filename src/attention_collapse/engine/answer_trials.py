"""The questions of easy-VQA that models are trained and tried on, and what is kept of what they answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attention_collapse.data.prior_shift import favoured_answers, with_prior
from attention_collapse.data.question_formats import easy_vqa_folder, read_questions
from attention_collapse.data.questions import Asked
from attention_collapse.engine.answer_cells import SETS, AnswerCell, Prior, is_contrasted
from attention_collapse.engine.answer_contrast import contrasted, key_of
from attention_collapse.engine.answer_training import Learner, Posed, answered, posed
from attention_collapse.engine.answers import swaps
from attention_collapse.files import sha256_file
from attention_collapse.measures.answers import chosen, log_odds
from attention_collapse.params import Answers


@dataclass(frozen=True)
class Questions:
    """The questions of the study as numbers.

    Attributes
    ----------
    trained
        Prior -> those that models are trained on.
    tests
        "test" and "test_shifted".
    held_out
        Prior -> questions about the images of the test, with that prior: those that the monitor may ask.
    files
        Name -> sha256 of each file of questions.
    """

    wordings: tuple[str, ...]
    answers: tuple[str, ...]
    trained: dict[Prior, Posed]
    tests: dict[str, Posed]
    held_out: dict[Prior, Posed]
    files: dict[str, str]

    def of(self, name: str, prior: Prior) -> Posed:
        """A set of `SETS` for a model that was trained on a prior."""
        return self.trained[prior] if name == "train" else self.tests[name]


def read(answers: Answers) -> Questions:
    """easy-VQA as published, and with the answers' prior shifted, from the package that is installed.

    Raises
    ------
    DataError
        It is not.
    """
    root = easy_vqa_folder()
    found = {split: read_questions(root / split) for split in ("train", "test")}
    train, test = found["train"].asked, found["test"].asked
    wordings = tuple(sorted({one.question for one in (*train, *test)}))
    listed = train[0].candidates
    favoured = favoured_answers(train, answers.data_seed)

    def kept(asked: Sequence[Asked], share: float) -> np.ndarray:
        return np.array(with_prior(asked, favoured, share, answers.data_seed))

    known = posed(train, wordings, listed, root / "train" / "images")
    unseen = posed(test, wordings, listed, root / "test" / "images")
    return Questions(
        wordings, listed,
        {"published": known, "shifted": known.of(kept(train, answers.favoured))},
        {"test": unseen, "test_shifted": unseen.of(kept(test, 1 - answers.favoured))},
        {"published": unseen, "shifted": unseen.of(kept(test, answers.favoured))},
        {f"{split}/questions.json": sha256_file(one.files[0]) for split, one in found.items()},
    )  # fmt: skip


def measured(questions: Posed, n: int, seed: int) -> Posed:
    """Up to `n` of them, no two about one image, in order."""
    rng = np.random.default_rng([seed, 14])
    order = rng.permutation(len(questions.ids))
    first = np.unique(questions.image[order], return_index=True)[1]  # of each image the question that was drawn first
    return questions.of(np.sort(order[np.sort(first)[:n]]))


def tried(one: Learner, cell: AnswerCell, questions: Questions, answers: Answers) -> dict[str, np.ndarray]:
    """What a model answers, and what that is counted against.

    Returns
    -------
    dict
        For each set s of `SETS`, of n questions and p partners: question.s, image.s, wording.s, right.s (n,), whole
        numbers; odds.s.<cell> and chosen.s.<cell>, (n, 1) or (n, p), for the cells of `answers.COALITIONS`: log-odds of
        the right answer in nats, in half precision, and which answer is chosen; counts.s (wording, answer): how often
        each is right in the whole of the set. Of a plainly trained decoder contrasted.s.<remedy> (n,) too: which answer
        is chosen by each of `answer_contrast.REMEDIES`.
    """
    found: dict[str, np.ndarray] = {}
    for name in SETS:
        whole = questions.of(name, cell.prior)
        some = measured(whole, answers.questions, answers.data_seed)
        image, question = swaps(some.image, some.wording, answers.partners, answers.data_seed)
        shown = np.unique(some.image)
        mean = some.pixels[shown].mean(0, keepdims=True).round().astype(np.uint8)
        pixels = np.concatenate([some.pixels, mean])
        own_image, own_wording = some.image[:, None], some.wording[:, None]
        absent = np.full_like(own_image, len(some.pixels))
        where = {
            "both": (own_image, own_wording), "image": (own_image, some.wording[question]),
            "text": (some.image[image], own_wording), "neither": (some.image[image], some.wording[question]),
            "text_mean_image": (absent, own_wording), "neither_mean_image": (absent, some.wording[question]),
        }  # fmt: skip
        scores = {key: answered(one, pixels, images, wordings) for key, (images, wordings) in where.items()}
        for key, values in scores.items():
            found[f"odds.{name}.{key}"] = log_odds(values, some.right).astype(np.float16)
            found[f"chosen.{name}.{key}"] = chosen(values).astype(np.uint8)
        if is_contrasted(cell, answers):
            for remedy, picked in contrasted(scores).items():
                found[key_of(name, remedy)] = picked.astype(np.uint8)
        found |= {
            f"question.{name}": some.ids.astype(np.int32),
            f"image.{name}": some.names[some.image].astype(np.int32),
            f"wording.{name}": some.wording.astype(np.uint8), f"right.{name}": some.right.astype(np.uint8),
            f"counts.{name}": whole.counts(len(questions.wordings), len(questions.answers)).astype(np.int16),
        }  # fmt: skip
    return found
