"""A fusion model's image tower runs once on an image, however many captions the image meets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from attention_collapse.errors import ModelError

if TYPE_CHECKING:
    from attention_collapse.models.interface import Model

# Class of model -> the submodule that takes one row an image. Not here, and so run as they are: those without an image
# tower of their own (ViLT), and those whose tower takes a row a tile (LLaVA-NeXT, Idefics3, SmolVLM) or a patch (Qwen).
IMAGE_TOWERS = {
    "Blip": "vision_model",
    "Blip2": "vision_model",
    "CoCaDecoder": "visual",
    "Flava": "flava.image_model",
    "Idefics": "model.vision_model",
    "InHouse": "image_encoder",
    "Llava": "model.vision_tower",
    "PaliGemma": "model.vision_tower",
}


def _over_tensors(function: Callable[..., Tensor], *outputs: Any) -> Any:
    """A tower's output rebuilt from its tensors: `function` of those at the same place of outputs of one form."""
    first = outputs[0]
    if isinstance(first, Tensor):
        return function(*outputs)
    if isinstance(first, dict):  # transformers' ModelOutput, which leaves out what is None
        return type(first)(**{key: _over_tensors(function, *(output[key] for output in outputs)) for key in first})
    if isinstance(first, tuple | list):
        return type(first)(_over_tensors(function, *parts) for parts in zip(*outputs, strict=True))
    return first


@contextmanager
def image_once(model: Model) -> Iterator[Callable[[Sequence[int]], None]]:
    """Within the context, run the image tower only on images that the pass before did not hold.

    Yields a function to call before each pass with its images, (batch,) positions in any numbering: the tower then runs
    on the new ones alone, and each item gets its image's rows. What is kept are the images of one pass, so passes go
    image by image. Scores stay those of the bare model but for the rounding of another batch size.

    Raises
    ------
    ModelError
        If the tower takes or gives a tensor whose first axis does not count images.
    """
    name = IMAGE_TOWERS.get(type(model).__name__)
    if name is None:
        yield lambda _images: None
        return
    tower: Any = cast("nn.Module", model.module).get_submodule(name)
    forward, own = tower.forward, "forward" in vars(tower)  # its own: where accelerate has put one
    images: list[int] = []
    kept: dict[int, Any] = {}  # image -> the tower's output on it, as a batch of one

    def announce(batch: Sequence[int]) -> None:
        images[:] = batch
        for image in kept.keys() - set(batch):
            del kept[image]

    def rows(tensor: Tensor, count: int, chosen: Any) -> Tensor:
        if not tensor.ndim or len(tensor) != count:
            raise ModelError(
                f"{model.name}: {name} has a tensor of shape {tuple(tensor.shape)} in a pass of {count} images",
                expected=f"one row an image, {count} rows",
                remedy="announce the images of each pass; remove the model's class from IMAGE_TOWERS if it has others",
            )
        return tensor[chosen]

    def once(*args: Any, **kwargs: Any) -> Any:
        new = {image: item for item, image in enumerate(images) if image not in kept}
        chosen = list(new.values())
        args, kwargs = _over_tensors(lambda tensor: rows(tensor, len(images), chosen), (args, kwargs))
        if new:
            output = forward(*args, **kwargs)
            _over_tensors(lambda tensor: rows(tensor, len(new), slice(None)), output)
            for row, image in enumerate(new):
                kept[image] = _over_tensors(itemgetter(slice(row, row + 1)), output)
        return _over_tensors(lambda *parts: torch.cat(parts), *(kept[image] for image in images))

    tower.forward = once
    try:
        yield announce
    finally:
        if own:
            tower.forward = forward
        else:
            del tower.forward
