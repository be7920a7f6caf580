"""A callback for the Trainer of transformers: values go through its own log, and the state lies in its checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from attention_collapse.errors import DataError, ParamsError
from attention_collapse.extras import missing
from attention_collapse.files import write_text
from attention_collapse.monitor.monitor import Monitor, a_monitor

try:
    from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ImportError as error:
    raise (missing(error) or error) from error

FILE = "attention_collapse_monitor.json"  # in a checkpoint's folder


class MonitorCallback(TrainerCallback):
    """Runs a monitor in a Trainer: `MonitorCallback(monitor).attach(trainer)`.

    Parameters
    ----------
    monitor
        Its `model` is the one that the Trainer trains.
    prefix
        Before every name in the log.
    resume
        Whether a resumed run goes on with the state in its checkpoint; False: begins anew there.
    """

    def __init__(self, monitor: Monitor, *, prefix: str = "monitor/", resume: bool = True) -> None:
        self.monitor, self.prefix, self.resume = a_monitor(monitor), prefix, resume
        self.trainer: Trainer | None = None

    def attach(self, trainer: Trainer) -> MonitorCallback:
        """Enter it in a Trainer, whose log it will use; a callback is told of everything but the log."""
        self.trainer = trainer
        trainer.add_callback(self)
        return self

    def _step(self, step: int) -> None:
        if self.trainer is None:
            raise ParamsError(
                "a MonitorCallback whose Trainer is not known", expected="MonitorCallback(monitor).attach(trainer)",
                remedy="call attach instead of passing it in callbacks=[…]",
            )  # fmt: skip
        values = self.monitor.step(step)
        if values is not None:
            due = self.trainer.control.should_log  # a log of ours would count as the Trainer's own
            self.trainer.log({f"{self.prefix}{name}": value for name, value in values.items()})
            self.trainer.control.should_log = due

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Go on with the state of the checkpoint, if the run does; check what is not trained yet."""
        step = state.global_step
        if step and self.resume and self.monitor.last_step != step:
            file = Path(str(args.output_dir)) / f"checkpoint-{step}" / FILE
            if not file.is_file():
                raise DataError(
                    f"the run goes on at step {step}, and there is no {file}",
                    expected="the monitor's state beside the checkpoint",
                    remedy="load it yourself (monitor.load_state_dict), or pass resume=False to begin anew",
                )
            try:
                kept = json.loads(file.read_text("utf-8"))
            except ValueError:
                raise DataError(
                    f"{file} cannot be read", expected="the monitor's state, whole, as it was written",
                    remedy="restore it, or pass resume=False to begin anew",
                ) from None  # fmt: skip
            self.monitor.load_state_dict(kept)
        self._step(step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Check, if due."""
        self._step(state.global_step)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the state into the checkpoint's folder."""
        if state.is_world_process_zero:
            folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            write_text(folder / FILE, json.dumps(self.monitor.state_dict()))
