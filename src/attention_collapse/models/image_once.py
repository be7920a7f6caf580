"""A model's image encoder runs once on an image, however many captions the image meets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from attention_collapse.errors import ModelError
from attention_collapse.models.interface import PairScorer, Without


def _over_tensors(function: Callable[..., Tensor], *outputs: Any) -> Any:
    """An encoder's output rebuilt from its tensors: `function` of those at the same place of outputs of one form."""
    first = outputs[0]
    if isinstance(first, Tensor):
        return function(*outputs)
    if isinstance(first, dict):  # transformers' ModelOutput, which leaves out what is None
        return type(first)(**{key: _over_tensors(function, *(output[key] for output in outputs)) for key in first})
    if isinstance(first, tuple | list):
        return type(first)(_over_tensors(function, *parts) for parts in zip(*outputs, strict=True))
    return first


@contextmanager
def image_once(model: PairScorer) -> Iterator[Callable[[Sequence[int]], None]]:
    """Within the context, run the image encoder only on images that the pass before did not hold.

    Yields a function to call before each pass with its images, (batch,) positions in any numbering: the encoder then
    runs on each new one by itself, and each item gets its image's rows, so that no score depends on which passes went
    before. What is kept are the images of one pass, so passes go image by image. Scores stay those of the bare model
    but for the rounding of another batch size.

    Raises
    ------
    ModelError
        If the encoder takes or gives a tensor whose first axis does not count images.
    """
    name = model.image_encoder
    if isinstance(name, Without):
        yield lambda _images: None
        return
    encoder = model.module.get_submodule(name)
    forward, own = encoder.forward, "forward" in vars(encoder)  # its own: where accelerate has put one
    images: list[int] = []
    kept: dict[int, Any] = {}  # image -> the encoder's output on it, as a batch of one

    def announce(batch: Sequence[int]) -> None:
        images[:] = batch
        for image in kept.keys() - set(batch):
            del kept[image]

    def rows(tensor: Tensor, count: int, chosen: Any) -> Tensor:
        if not tensor.ndim or len(tensor) != count:
            raise ModelError(
                f"{model.name}: {name} has a tensor of shape {tuple(tensor.shape)} in a pass of {count} images",
                expected=f"one row per image, {count} rows",
                remedy="announce the images of each pass; if the encoder has other rows, its kind has no image_encoder",
            )
        return tensor[chosen]

    def once(*args: Any, **kwargs: Any) -> Any:
        for image, item in {image: item for item, image in enumerate(images) if image not in kept}.items():
            one = partial(rows, count=len(images), chosen=slice(item, item + 1))
            its_args, its_kwargs = _over_tensors(one, (args, kwargs))
            kept[image] = _over_tensors(partial(rows, count=1, chosen=slice(None)), forward(*its_args, **its_kwargs))
        return _over_tensors(lambda *parts: torch.cat(parts), *(kept[image] for image in images))

    encoder.forward = once
    try:
        yield announce
    finally:
        if own:
            encoder.forward = forward
        else:
            del encoder.forward
