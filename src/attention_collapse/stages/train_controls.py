"""Stage train_controls: train the embedded study's small models: two dual encoders, and those with planted answers.

The checkpoints are committed data. The stage lists no code among its dependencies, so it is never run unasked;
`dvc repro -f train_controls` trains anew. A training run that was interrupted goes on after the last finished model.
"""

from __future__ import annotations

import torch

from attention_collapse.engine.training import (
    WEIGHTS,
    train_dual_encoder,
    train_planted,
)
from attention_collapse.errors import ParamsError
from attention_collapse.models.small import WRITERS
from attention_collapse.stages.run import run_stage
from attention_collapse.study.layout import Study


def main(study: Study, control: str) -> None:
    """Train one control."""
    controls, plant = study.params.train_controls, study.params.plant
    if controls is None or plant is None:
        raise ParamsError(
            f"{study.params.params_file} has no section {'plant' if controls else 'train_controls'}",
            expected="the sections train_controls and plant",
            remedy="add it",
        )
    torch.set_num_threads(plant.threads)  # the models are too small for more
    kind, files = control.removeprefix("planted-"), (study.trained(control), study.training(control))
    if control in WEIGHTS:
        train_dual_encoder(*files, controls)
    elif kind in WRITERS and kind != control:
        train_planted(*files, plant, kind)
    else:
        raise ParamsError(
            f"no control is called {control!r}",
            expected=f"one of {', '.join([*WEIGHTS, *(f'planted-{kind}' for kind in WRITERS)])}",
            remedy="correct the name",
        )


if __name__ == "__main__":
    run_stage(main)
