"""A mix-in for the Trainer of transformers: a callback cannot change the forward pass."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from attention_collapse.errors import DataError, ParamsError
from attention_collapse.extras import missing
from attention_collapse.files import whole_file
from attention_collapse.prevention.method import Inputs, Method, Plain, a_method

try:
    from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ImportError as error:
    raise (missing(error) or error) from error

FILE = "attention_collapse_method.pt"  # in a checkpoint's folder

_Base: Any = Trainer if TYPE_CHECKING else object


class _BesideTheModel(TrainerCallback):
    """The method's state lies beside each checkpoint, a resumed run goes on with it, and its gradients are emptied."""

    def __init__(self, method: Method) -> None:
        self.method = method

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Go on with the state of the checkpoint, if the run does."""
        file = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / FILE
        if not state.global_step or not (self.method.state_dict() or file.is_file()):
            return
        if not file.is_file():
            raise DataError(
                f"the run goes on at step {state.global_step}, and there is no {file}",
                expected=f"the state of {self.method.name} beside the checkpoint",
                remedy="restore it, or train from the start",
            )
        try:
            kept = torch.load(file, weights_only=True)
        except (UnpicklingError, RuntimeError, EOFError, ValueError):
            raise DataError(
                f"{file} cannot be read", expected=f"the state of {self.method.name}, whole, as it was written",
                remedy="restore it, or train from the start",
            ) from None  # fmt: skip
        self.method.load_state_dict(kept)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Empty the method's own gradients."""
        for parameter in self.method.parameters():  # the Trainer empties the gradients of its model alone
            parameter.grad = None

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the state into the checkpoint's folder."""
        if state.is_world_process_zero and self.method.state_dict():
            folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            with whole_file(folder / FILE) as temporary:
                torch.save(self.method.state_dict(), temporary)


class PreventionMixin(_Base):  # type: ignore[misc]
    """Trains by a method: `class MyTrainer(PreventionMixin, Trainer)` with `pairs` and `score`.

    Parameters
    ----------
    method
        Of `attention_collapse.prevention`; plain training where left out. All others are the Trainer's own.

    Raises
    ------
    ParamsError
        Gradients are accumulated over several batches and the method scales them batch by batch.
    """

    def __init__(self, *args: Any, method: Method | None = None, **kwargs: Any) -> None:
        self.method = Plain() if method is None else a_method(method)
        super().__init__(*args, **kwargs)
        scales = type(self.method).after_backward is not Method.after_backward
        if scales and self.args.gradient_accumulation_steps > 1:
            raise ParamsError(
                f"{self.method.name} with gradients accumulated over {self.args.gradient_accumulation_steps} batches",
                expected="gradient_accumulation_steps=1: it scales the gradients of one batch",
                remedy="raise the batch size instead",
            )
        self.add_callback(_BesideTheModel(self.method))

    def pairs(self, inputs: dict[str, Any]) -> tuple[Inputs, Inputs, Tensor]:
        """(image, text, target) of a batch as the collator makes it: to be written for one's own data."""
        raise NotImplementedError("a PreventionMixin needs `pairs(inputs)`, which gives (image, text, target)")

    def score(self, model: Any, image: Inputs, text: Inputs) -> Tensor:
        """(pair,) log-odds of a match, or (pair, class) logits: to be written for one's own model."""
        raise NotImplementedError("a PreventionMixin needs `score(model, image, text)`")

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The method's loss in training; the Trainer's own in evaluation."""
        if not model.training:
            return super().compute_loss(model, inputs, *args, **kwargs)
        given = self.pairs(inputs)
        if not isinstance(given, tuple) or len(given) != 3:
            raise DataError(
                f"pairs(inputs) gave {len(given) if isinstance(given, tuple) else type(given).__name__}",
                expected="(image, text, target)", remedy="let it return these three",
            )  # fmt: skip
        image, text, target = given
        return self.method.loss(partial(self.score, model), image, text, target, inputs.get("group"))

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """One step, with what the method does between the backward pass and the optimiser."""
        loss: Tensor = super().training_step(*args, **kwargs)
        self.method.after_backward()
        return loss

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's, with the method's own parameters in a group of their own."""
        known, own = self.optimizer, list(self.method.parameters())
        optimizer = super().create_optimizer(*args, **kwargs)
        if known is None and own:
            optimizer.add_param_group({"params": own})
        trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        if not {id(parameter) for parameter in own} <= trained:
            raise ParamsError(
                f"an optimiser of your own, without the parameters of {self.method.name}",
                expected="one that trains method.parameters() too", remedy="hand them to it beside the model's",
            )  # fmt: skip
        return optimizer
