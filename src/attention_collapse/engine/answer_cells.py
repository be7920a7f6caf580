"""Models trained on easy-VQA: which there are, and what decides them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from attention_collapse.errors import ParamsError
from attention_collapse.params import Answers, Params

Prior: TypeAlias = Literal["published", "shifted"]
PRIORS: tuple[Prior, ...] = ("published", "shifted")  # of the answers in training
SETS = ("train", "test", "test_shifted")  # that a model answers: its own training's, and both tests
UNDECIDED = 255  # in the place of an answer: one of the scores is undefined
PLAIN = "erm"  # the arm over which gains are counted, and the only one with the prior as published


@dataclass(frozen=True)
class AnswerCell:
    """One model: its kind, the prior of the answers that it was trained on, the arm it was trained by, and its seed."""

    kind: str
    prior: Prior
    arm: str
    seed: int

    @property
    def name(self) -> str:
        """Of its file, among those of its kind."""
        return f"{self.prior}-{self.arm}-{self.seed}"


def plain(names: Iterable[str]) -> dict[str, tuple[Prior, int]]:
    """The names of plainly trained models among those of cells -> prior, seed."""
    found: dict[str, tuple[Prior, int]] = {}
    for name in names:
        prior, arm, seed = parts(name)
        if arm == PLAIN:
            found[name] = prior, seed
    return found


def parts(name: str) -> tuple[Prior, str, int]:
    """Prior, arm and seed of a cell of that name."""
    rest, seed = name.rsplit("-", 1)
    prior = next(one for one in PRIORS if rest.startswith(f"{one}-"))
    return prior, rest.removeprefix(f"{prior}-"), int(seed)


def section(params: Params) -> Answers:
    """The study's questions."""
    if params.answers is None:
        raise ParamsError(
            f"{params.params_file} has no section answers", expected="the section answers", remedy="add it"
        )
    return params.answers


def cells(answers: Answers) -> list[AnswerCell]:
    """Every cell, in the order of training: the plain ones, and then the arms, each seed by seed."""
    ways: list[tuple[Prior, str]] = [(prior, PLAIN) for prior in PRIORS]
    others: list[tuple[Prior, str]] = [("shifted", arm) for arm in answers.arms if arm != PLAIN]
    return [
        AnswerCell(kind, prior, arm, seed)
        for some in (ways, others)
        for seed in answers.seeds
        for kind in answers.kinds
        for prior, arm in some
    ]


def is_contrasted(cell: AnswerCell, answers: Answers) -> bool:
    """Whether contrastive decoding is tried on a model: on plainly trained ones of the kinds that the study names."""
    return cell.arm == PLAIN and cell.kind in answers.contrasted


def parameters_of(cell: AnswerCell, answers: Answers) -> dict[str, Any]:
    """What decides a cell's answers, besides code and libraries."""
    given = answers.model_dump(
        include={"favoured", "data_seed", "questions", "partners", "watched", "every", "threads"}
    )
    recipe = answers.recipe.model_dump()
    recipe |= {name: recipe[name][cell.kind] for name in ("steps", "learning_rate")}
    kept = {"contrasted": True} if is_contrasted(cell, answers) else {}
    return {**asdict(cell), **given, **kept, "trained": answers.arms[cell.arm].model_dump(), "recipe": recipe}
