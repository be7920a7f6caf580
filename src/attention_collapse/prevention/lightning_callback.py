"""A callback for Lightning (`pip install lightning`): the loss stands in the module's own `training_step`."""

from __future__ import annotations

from typing import Any

from attention_collapse.errors import ParamsError
from attention_collapse.extras import missing
from attention_collapse.prevention.method import Method, a_method

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise (missing(error) or error) from error


class PreventionCallback(Callback):
    """What a method does after the backward pass, and its state in the checkpoints.

    The module's `training_step` returns `method.loss(score, image, text, target)`, and its `configure_optimizers` takes
    `method.parameters()` too.
    """

    def __init__(self, method: Method) -> None:
        self.method = a_method(method)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse accumulated gradients where the method scales those of one batch."""
        scales = type(self.method).after_backward is not Method.after_backward
        if scales and trainer.accumulate_grad_batches > 1:
            raise ParamsError(
                f"{self.method.name} with gradients accumulated over {trainer.accumulate_grad_batches} batches",
                expected="accumulate_grad_batches=1: it scales the gradients of one batch",
                remedy="raise the batch size instead",
            )

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Scale gradients, where the method does."""
        self.method.after_backward()

    def state_dict(self) -> dict[str, Any]:
        """The method's."""
        return self.method.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The method's."""
        self.method.load_state_dict(state_dict)
