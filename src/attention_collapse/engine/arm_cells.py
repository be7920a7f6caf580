"""Cells of the study of prevention: which model was trained in which way beside which cue, and what decides it.

As the models of every dose (`dose_cells`), they are kept as scores of held-out pairs, the same for all.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from attention_collapse.data.planted import Regime
from attention_collapse.engine.dose_cells import Cell, recipe_of
from attention_collapse.errors import ParamsError
from attention_collapse.params import Arm, Params, Plant, Prevention

BASELINE = "erm"  # the arm over which gains are counted
OTHER = {"text": "image", "words": "image", "image": "text"}  # where the cue is -> the modality that may be ignored
HOLDER = {"text": "text", "words": "text", "image": "image"}  # and the one that it is in
PRIOR = "of the text alone"  # what a prior of the words is; scores of another one are not read
NO_UNIMODAL = "its score is made of image and text together: no modality has logits of its own"
REFUSED = {"gradient-modulation": NO_UNIMODAL}  # method -> why it does not apply to any kind that is trained here


@dataclass(frozen=True)
class ArmCell(Cell):
    """One model: as a `Cell`, and the arm that it was trained by."""

    arm: str

    @property
    def name(self) -> str:
        """Of its file, among those of its kind."""
        return f"{self.arm}-{super().name}"

    def taught(self, arm: Arm) -> Regime:
        """What the training shows: the cell's cue, which says nothing for an oracle that has balanced data."""
        return self.regime("uninformative" if arm.balanced else "trained")


def sections(params: Params) -> tuple[Prevention, Plant]:
    """The study's ways to train, and the recipe they share."""
    if params.prevention is None or params.plant is None:
        raise ParamsError(
            f"{params.params_file} has no section {'plant' if params.prevention else 'prevention'}",
            expected="the sections prevention and plant", remedy="add it",
        )  # fmt: skip
    return params.prevention, params.plant


def cells(prevention: Prevention) -> list[ArmCell]:
    """Every cell, in the order of training: kind by kind, dose by dose, seed by seed."""
    return [
        ArmCell(kind, dose.modality, dose.reliability, seed, arm)
        for kind, scope in prevention.kinds.items()
        for dose in prevention.doses
        if dose.kinds is None or kind in dose.kinds
        for seed in dose.seeds or scope.seeds or prevention.seeds
        for arm in prevention.arms
        if all(arms is None or arm in arms for arms in (scope.arms, dose.arms))
    ]


def has_own_watched(cell: ArmCell, prevention: Prevention) -> bool:
    """Whether the pairs that its training is watched on are another draw than those of other seeds."""
    cue = cell.modality, cell.reliability
    return any(dose.own_watched for dose in prevention.doses if (dose.modality, dose.reliability) == cue)


def parameters_of(cell: ArmCell, prevention: Prevention, plant: Plant) -> dict[str, Any]:
    """What decides a cell's scores, besides code and libraries."""
    measured = prevention.model_dump(include={"pairs", "partners", "watched", "every"})
    trained: dict[str, Any] = {"trained": prevention.arms[cell.arm].model_dump()}
    if cell.modality == "words":
        trained["prior"] = PRIOR
    if has_own_watched(cell, prevention):
        trained["watched_on"] = "pairs of its own"
    return {**asdict(cell), **recipe_of(plant, cell.kind), **measured, **trained}
