"""Models trained on easy-VQA: which there are, and what decides them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from attention_collapse.errors import ParamsError
from attention_collapse.params import Answers, Params

Prior: TypeAlias = Literal["published", "shifted"]
PRIORS: tuple[Prior, ...] = ("published", "shifted")  # of the answers in training
SETS = ("train", "test", "test_shifted")  # that a model answers: its own training's, and both tests
UNDECIDED = 255  # in the place of an answer: one of the scores is undefined


@dataclass(frozen=True)
class AnswerCell:
    """One model: its kind, the prior of the answers that it was trained on, and its seed."""

    kind: str
    prior: Prior
    seed: int

    @property
    def name(self) -> str:
        """Of its file, among those of its kind."""
        return f"{self.prior}-{self.seed}"


def section(params: Params) -> Answers:
    """The study's questions."""
    if params.answers is None:
        raise ParamsError(
            f"{params.params_file} has no section answers", expected="the section answers", remedy="add it"
        )
    return params.answers


def cells(answers: Answers) -> list[AnswerCell]:
    """Every cell, in the order of training: seed by seed."""
    return [
        AnswerCell(kind, prior, seed) for seed in answers.seeds for kind in answers.kinds for prior in PRIORS
    ]  # fmt: skip


def parameters_of(cell: AnswerCell, answers: Answers) -> dict[str, Any]:
    """What decides a cell's answers, besides code and libraries."""
    given = answers.model_dump(include={"favoured", "data_seed", "questions", "partners", "threads"})
    recipe = answers.recipe.model_dump()
    recipe |= {name: recipe[name][cell.kind] for name in ("steps", "learning_rate")}
    return {**asdict(cell), **given, "recipe": recipe}
