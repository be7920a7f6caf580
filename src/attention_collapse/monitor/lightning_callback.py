"""A callback for Lightning (`pip install lightning`): values go to its loggers, the state into its checkpoints."""

from __future__ import annotations

from typing import Any

from attention_collapse.extras import missing
from attention_collapse.monitor.monitor import Monitor, a_monitor

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise (missing(error) or error) from error


class MonitorCallback(Callback):
    """Runs a monitor in a Lightning Trainer: `Trainer(callbacks=[MonitorCallback(monitor)])`.

    Parameters
    ----------
    monitor
        Its `model` is the module that is trained.
    prefix
        Before every name in the log.
    """

    def __init__(self, monitor: Monitor, *, prefix: str = "monitor/") -> None:
        self.monitor, self.prefix = a_monitor(monitor), prefix

    @property
    def state_key(self) -> str:
        """Of its state in a checkpoint: by the prefix, so that two monitors have two."""
        return f"{type(self).__qualname__}[{self.prefix}]"

    def _step(self, trainer: Trainer) -> None:
        values = self.monitor.step(trainer.global_step)
        if values is not None:  # not by log_dict, which keeps what falls between two of its own steps to itself
            named = {f"{self.prefix}{name}": value for name, value in values.items()}
            for logger in trainer.loggers:
                logger.log_metrics(named, step=trainer.global_step)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check what is not trained yet."""
        self._step(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check, if due."""
        self._step(trainer)

    def state_dict(self) -> dict[str, Any]:
        """The monitor's."""
        return self.monitor.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The monitor's."""
        self.monitor.load_state_dict(state_dict)
