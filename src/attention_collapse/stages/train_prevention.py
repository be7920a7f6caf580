"""Stage train_prevention: train the models of one kind in every way that is compared, and keep their scores.

As of `train_doses`, the scores are committed data and the stage lists no code among its dependencies, so it is never
run unasked; `dvc repro -f train_prevention` trains what is not there yet, and can be stopped at any time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from tqdm import tqdm

from attention_collapse.data.planted import pictures
from attention_collapse.data.scenes import sample
from attention_collapse.engine.arm_cells import ArmCell, cells, has_own_watched, parameters_of, sections
from attention_collapse.engine.arms import Watch, train_arm
from attention_collapse.engine.dose_cells import recipe_of
from attention_collapse.engine.doses import HeldOut, scored
from attention_collapse.engine.kept_scores import keep, unscored
from attention_collapse.engine.training import started, starts
from attention_collapse.engine.workers import side_by_side
from attention_collapse.errors import ParamsError
from attention_collapse.identity.source_code import PACKAGE, code_id
from attention_collapse.params import Plant, Prevention
from attention_collapse.stages.run import run_stage
from attention_collapse.study.layout import Study

PAIRS, WATCHED, OWN_WATCHED = 5, 6, 100  # on top of the seed of the data: scenes of their own


def watched_pairs(cell: ArmCell, prevention: Prevention, plant: Plant) -> HeldOut:
    """The further pairs that a training is watched on: the same for all models, or a draw for each seed."""
    drawn = OWN_WATCHED + cell.seed if has_own_watched(cell, prevention) else WATCHED
    return HeldOut(prevention.watched, 1, plant.data_seed + drawn)


@dataclass(frozen=True)
class Task:
    """The models of one dose and seed that have no scores yet."""

    study: Study
    cells: tuple[ArmCell, ...]
    code: str  # its id, from before the run: an edit in the meantime changes no code that runs


def _train(task: Task) -> int:
    """Train the models, and write their scores, each file whole; how many they are."""
    study, (prevention, plant) = task.study, sections(task.study.params)
    torch.set_num_threads(plant.threads)
    kind = task.cells[0].kind
    work = starts(study.dose_scratch(kind), recipe_of(plant, kind))
    held_out = HeldOut(prevention.pairs, prevention.partners, plant.data_seed + PAIRS)
    further = watched_pairs(task.cells[0], prevention, plant)
    scenes = sample(plant.scenes, plant.data_seed, held_out=False)
    data = scenes, pictures(scenes, plant.data_seed)
    for cell in task.cells:
        began, arm = time.monotonic(), prevention.arms[cell.arm]
        trainee, losses = started(kind, cell.seed, work, data, plant.recipe)
        watch = Watch(trainee, cell, further, prevention.every, stops_early=arm.stops_early)
        took = train_arm(cell, arm, trainee, data, plant.recipe, watch=watch)
        tensors = scored(trainee, cell, held_out) | watch.tensors()
        parameters = parameters_of(cell, prevention, plant)
        keep(
            study.prevention_of(kind), cell, tensors,
            stage="train_prevention", parameters=parameters, code=task.code, told={**losses, **took},
        )  # fmt: skip
        print(f"{kind} {cell.name}: {time.monotonic() - began:.0f} s", flush=True)
    return len(task.cells)


def main(study: Study, kind: str) -> None:
    """Train every model of a kind that has no scores yet, seeds side by side; a stopped run goes on where it was."""
    prevention, plant = sections(study.params)
    if kind not in prevention.kinds:
        raise ParamsError(
            f"prevention.kinds has no {kind!r}", expected=f"one of {', '.join(prevention.kinds)}",
            remedy="correct the name",
        )  # fmt: skip
    out, mine = study.prevention_of(kind), [cell for cell in cells(prevention) if cell.kind == kind]
    todo = unscored(mine, out, lambda cell: parameters_of(cell, prevention, plant))
    print(f"{kind}: {len(mine) - len(todo)} of {len(mine)} models have their scores", flush=True)
    if not todo:
        return
    code = code_id(f"{PACKAGE}.stages.train_prevention")
    groups = dict.fromkeys((cell.modality, cell.reliability, cell.seed) for cell in todo)
    tasks = [
        Task(study, tuple(c for c in todo if (c.modality, c.reliability, c.seed) == group), code) for group in groups
    ]
    with tqdm(total=len(todo), desc=kind, unit="model", disable=None) as bar:
        for trained in side_by_side(_train, tasks, plant.workers):
            bar.update(trained)


if __name__ == "__main__":
    run_stage(main)
