"""Stage train_doses: train the models of one kind at every dose of a cue, and keep their scores of held-out pairs.

The scores are committed data; the weights are not kept. The stage lists no code among its dependencies, so it is never
run unasked; `dvc repro -f train_doses` trains what is not there yet, model by model, and can be stopped at any time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from attention_collapse.data.planted import Regime, pictures
from attention_collapse.data.planted_files import write_planted
from attention_collapse.data.scenes import Scene, sample
from attention_collapse.engine.dose_cells import Cell, cells, parameters_of, recipe_of, sections
from attention_collapse.engine.doses import PAIRS, HeldOut, attended, scored
from attention_collapse.engine.kept_scores import keep, unscored
from attention_collapse.engine.planting import match
from attention_collapse.engine.trainee import Trainee
from attention_collapse.engine.training import started, starts
from attention_collapse.engine.workers import side_by_side
from attention_collapse.errors import ParamsError
from attention_collapse.identity.source_code import PACKAGE, code_id
from attention_collapse.params import Plant
from attention_collapse.stages.run import run_stage
from attention_collapse.study.layout import Study


@dataclass(frozen=True)
class Task:
    """The models of one seed that have no scores yet: they share a warm-up, so one process trains them."""

    study: Study
    cells: tuple[Cell, ...]
    code: str  # its id, from before the run: an edit in the meantime changes no code that runs


def _train(task: Task) -> int:
    """Train the models of one seed, and write their scores, each file whole; how many they are."""
    study, (doses, plant) = task.study, sections(task.study.params)
    torch.set_num_threads(plant.threads)
    kind = task.cells[0].kind
    work = starts(study.dose_scratch(kind), recipe_of(plant, kind))
    held_out = HeldOut(doses.pairs, doses.partners, plant.data_seed + PAIRS)
    scenes = sample(plant.scenes, plant.data_seed, held_out=False)
    data = scenes, pictures(scenes, plant.data_seed)
    batch_size = study.params.extract_attention.batch_size * 4  # small models
    for cell in task.cells:
        began = time.monotonic()
        trainee, losses = _trained(cell, work, data, plant)
        tensors = scored(trainee, cell, held_out) | attended(trainee, work / "pairs", batch_size)
        parameters = parameters_of(cell, doses, plant)
        keep(
            study.doses_of(kind), cell, tensors,
            stage="train_doses", parameters=parameters, code=task.code, told=losses,
        )  # fmt: skip
        print(f"{kind} {cell.name}: {time.monotonic() - began:.0f} s", flush=True)
    return len(task.cells)


def main(study: Study, kind: str) -> None:
    """Train every model of a kind that has no scores yet, seeds side by side; a stopped run goes on where it was."""
    doses, plant = sections(study.params)
    if kind not in doses.kinds:
        raise ParamsError(
            f"doses.kinds has no {kind!r}", expected=f"one of {', '.join(doses.kinds)}", remedy="correct the name"
        )
    out, mine = study.doses_of(kind), [cell for cell in cells(doses) if cell.kind == kind]
    todo = unscored(mine, out, lambda cell: parameters_of(cell, doses, plant))
    print(f"{kind}: {len(mine) - len(todo)} of {len(mine)} models have their scores", flush=True)
    if not todo:
        return
    write_planted(
        starts(study.dose_scratch(kind), recipe_of(plant, kind)) / "pairs",
        doses.pairs,
        plant.data_seed + PAIRS,
        Regime(),
    )
    code = code_id(f"{PACKAGE}.stages.train_doses")
    seeds = [seed for seed in doses.seeds if any(cell.seed == seed for cell in todo)]
    tasks = [Task(study, tuple(cell for cell in todo if cell.seed == seed), code) for seed in seeds]
    with tqdm(total=len(todo), desc=kind, unit="model", disable=None) as bar:
        for trained in side_by_side(_train, tasks, plant.workers):
            bar.update(trained)


def _trained(
    cell: Cell, work: Path, data: tuple[list[Scene], np.ndarray], plant: Plant
) -> tuple[Trainee, dict[str, float]]:
    """One model, from its seed's warm-up, and the last losses of its training, in nats."""
    trainee, losses = started(cell.kind, cell.seed, work, data, plant.recipe)
    loss = match(trainee, *data, regime=cell.regime("trained"), recipe=plant.recipe, seed=cell.seed)
    return trainee, {"matching_loss": loss, **losses}


if __name__ == "__main__":
    run_stage(main)
