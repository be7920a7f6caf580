"""What a training method is, and the inputs that it handles without knowing the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention_collapse.arguments import whole
from attention_collapse.errors import DataError, ParamsError
from attention_collapse.prevention.checks import check_answers, check_state

Inputs: TypeAlias = Tensor | Mapping[str, Any]  # a tensor, or tensors by name; the first axis is the pair
Score: TypeAlias = Callable[[Any, Any], Tensor]  # (image, text) -> (pair,) log-odds of a match, or (pair, class) logits


def take(inputs: Inputs, index: Tensor) -> Any:
    """The rows of `index` (n,) of every tensor; what is no tensor stays as it is."""
    if isinstance(inputs, Tensor):
        return inputs[index.to(inputs.device)]
    return {name: take(value, index) if isinstance(value, Tensor) else value for name, value in inputs.items()}


def losses(logits: Tensor, target: Tensor) -> Tensor:
    """(pair,) cross-entropies in nats.

    Parameters
    ----------
    logits
        (pair,) log-odds of the answer 1, or (pair, class).
    target
        (pair,) probabilities of the answer 1, or class numbers.

    Raises
    ------
    DataError
        Scores or labels that are none (`checks.check_answers`).
    """
    check_answers(logits, target)
    if logits.ndim == 1:
        return F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none")
    return F.cross_entropy(logits, target, reduction="none")


def finite(loss: Tensor) -> Tensor:
    """The loss; an error where it is NaN or infinite, before it can reach a weight."""
    if not torch.isfinite(loss).all():
        raise DataError(
            f"a loss of {loss.detach().float().mean().item()}", expected="a finite loss",
            remedy="lower the learning rate, or look for NaN in the inputs; no step was taken",
        )  # fmt: skip
    return loss


def a_method(given: Any) -> Method:
    """What a loop of a framework was given as its method, if it is one."""
    if not isinstance(given, Method):
        said = given.__name__ if isinstance(given, type) else type(given).__name__
        raise ParamsError(
            f"method is {said}", expected="a method of attention_collapse.prevention, such as SwappedNegatives()",
            remedy="make one: a class has to be called, a name is not enough",
        )  # fmt: skip
    return given


class Method:
    """One way to train. A subclass overrides `loss`, and says in its attributes what it rests on.

    Attributes
    ----------
    name
        The method's name in tables and parameter files.
    source
        Where the method comes from.
    needs
        What it takes besides a loss that is a function of (image, text, target).
    passes
        Pairs that are run forward per pair of a batch, plain training's 1 included; a pass without gradients counts ⅓.

    Examples
    --------
    >>> issubclass(Plain, Method) and Plain().passes
    1.0
    """

    name: ClassVar[str]
    source: ClassVar[str]
    needs: ClassVar[str] = "nothing"

    @property
    def passes(self) -> float:
        """See above; of half of the pairs matching, where that decides."""
        return 1.0

    def loss(self, score: Score, image: Inputs, text: Inputs, target: Tensor, group: Tensor | None = None) -> Tensor:
        """The loss of one batch, a scalar with its gradient.

        Parameters
        ----------
        score
            Runs the model that is trained, with gradients.
        image, text
            Inputs of each modality, pairs along the first axis.
        target
            (pair,) 1 for a match and 0 for none; class numbers where `score` gives logits of classes.
        group
            (pair,) numbers of the groups that an oracle weighs by; other methods ignore it.

        Raises
        ------
        DataError
            The loss is NaN or infinite, the labels or the score are none, image, text and labels do not fit together,
            or the batch is a single pair, so that there is nothing to swap.
        """
        raise NotImplementedError

    def after_backward(self) -> None:
        """Called between `loss.backward()` and the optimiser's step."""

    def parameters(self) -> Iterable[nn.Parameter]:
        """What the method trains besides the model; hand it to the optimiser."""
        return ()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on as if it had not stopped; nothing, or the method's name is in it."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave; DataError where another method gave it."""
        check_state(state, self.name, ())


class Drawing(Method):
    """A method that draws at random, from a generator of its own: the run around it draws what it would without it."""

    def __init__(self, seed: int = 0) -> None:
        self.generator = torch.Generator().manual_seed(whole("seed", seed, least=0))

    def others(self, n: int) -> Tensor:
        """(n,) for each of n rows the position of another, each used once: a cycle through a random order.

        Raises
        ------
        DataError
            Fewer than two rows: there is nothing to swap.
        """
        if n < 2:
            raise DataError(
                f"a batch of {n} pair" if n == 1 else "an empty batch", expected="2 pairs or more: one is swapped in",
                remedy="raise the batch size, or drop the last batch of an epoch (`drop_last=True`)",
            )  # fmt: skip
        order = torch.randperm(n, generator=self.generator)
        found = torch.empty_like(order)
        found[order] = order.roll(1)
        return found

    def state_dict(self) -> dict[str, Any]:
        """The generator's state."""
        return {"method": self.name, "generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Draw on from there."""
        check_state(state, self.name, ("generator",))
        self.generator.set_state(state["generator"])


class Plain(Method):
    """Empirical risk minimisation: the mean loss.

    Examples
    --------
    >>> pairs, target = torch.zeros(2, 1), torch.tensor([1, 0])
    >>> loss = Plain().loss(lambda image, text: (image * text)[:, 0], pairs, pairs, target)
    >>> round(loss.exp().item(), 4)  # log-odds of 0 cost ln 2
    2.0
    """

    name = "erm"
    source = "the baseline"

    def loss(self, score: Score, image: Inputs, text: Inputs, target: Tensor, group: Tensor | None = None) -> Tensor:
        """The mean cross-entropy, in nats."""
        return finite(losses(score(image, text), target).mean())
