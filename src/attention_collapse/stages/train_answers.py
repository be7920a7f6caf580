"""Stage train_answers: train small models of one kind on the questions of easy-VQA, watched, and keep what they answer.

As of `train_doses`, what they answer is committed data, the weights are not kept, and the stage lists no code among its
dependencies, so it is never run unasked; `dvc repro -f train_answers` trains what is not there yet, model by model, and
can be stopped at any time. It needs `pip install easy-vqa==1.0`; nothing else does.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict

import torch
from tqdm import tqdm

from attention_collapse.engine.answer_cells import AnswerCell, cells, parameters_of, section
from attention_collapse.engine.answer_training import learner, method_of, monitor_of, seen, teach
from attention_collapse.engine.answer_trials import measured, read, tried
from attention_collapse.engine.kept_scores import keep, unscored
from attention_collapse.errors import ParamsError
from attention_collapse.identity.source_code import PACKAGE, code_id
from attention_collapse.stages.run import run_stage
from attention_collapse.study.layout import Study

WATCHED = 1  # on top of the seed of the data: other questions than those that the answers are counted on


def main(study: Study, kind: str) -> None:
    """Train every model of a kind that has no answers yet; a stopped run goes on where it was."""
    answers = section(study.params)
    if kind not in answers.kinds:
        raise ParamsError(
            f"answers.kinds has no {kind!r}", expected=f"one of {', '.join(answers.kinds)}", remedy="correct the name"
        )
    torch.set_num_threads(answers.threads)
    mine = [cell for cell in cells(answers) if cell.kind == kind]

    def parameters(cell: AnswerCell) -> dict[str, object]:
        return parameters_of(cell, answers)

    todo = unscored(mine, study.answers_of(kind), parameters)
    print(f"{kind}: {len(mine) - len(todo)} of {len(mine)} models have their answers", flush=True)
    if not todo:
        return
    questions, code, recipe = read(answers), code_id(f"{PACKAGE}.stages.train_answers"), answers.recipe
    for cell in tqdm(todo, desc=kind, unit="model", disable=None):
        began = time.monotonic()
        start = study.answers_scratch(kind) / cell.name
        shutil.rmtree(start, ignore_errors=True)
        one = learner(kind, start, questions.wordings, questions.answers, cell.seed)
        method = method_of(answers.arms[cell.arm], len(questions.wordings), len(questions.answers), cell.seed)
        some = measured(questions.held_out[cell.prior], answers.watched, answers.data_seed + WATCHED)
        monitor = monitor_of(one, some, answers.every)
        loss = teach(
            one, questions.trained[cell.prior], method, steps=recipe.steps[kind], batch_size=recipe.batch_size,
            rate=recipe.learning_rate[kind], weight_decay=recipe.weight_decay, seed=cell.seed, watch=monitor.step,
        )  # fmt: skip
        keep(
            study.answers_of(kind), cell, tried(one, cell, questions, answers) | seen(monitor),
            stage="train_answers", parameters=parameters(cell), code=code,
            told={"answering_loss": loss, "passes": method.passes, "questions": questions.files,
                  "alarms": [asdict(alarm) for alarm in monitor.alarms]},
        )  # fmt: skip
        shutil.rmtree(start)
        took = f"{time.monotonic() - began:.0f} s, {monitor.cost():.0%} of the training watched"
        print(f"{kind} {cell.name}: {took}, last loss {loss:.3f} nats", flush=True)


if __name__ == "__main__":
    run_stage(main)
