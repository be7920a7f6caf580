"""A function that scores image–caption pairs, such as a model behind an API."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

import torch
from PIL import Image
from torch import Tensor

from attention_collapse.errors import ModelError
from attention_collapse.families import NO_ATTENTION
from attention_collapse.models.declared import named_object
from attention_collapse.models.interface import Batch, KindOfModel, Provenance, Without
from attention_collapse.models.spec import ModelSpec

LABEL = "a scoring function"
LIBRARY = "user"
MODEL_TYPES = ()
CATALOGUE: dict[str, dict[str, object]] = {}


class Scorer(KindOfModel):
    """A `PairScorer` without modules: a function, or a model behind an interface that shows no attention.

    A function whose scores are the captions' mean log-likelihoods says so: `function.is_likelihood = True`.
    """

    ids = caption = pixels = picture = Without("a scoring function shows no inputs")
    image_encoder = Without("a scoring function shows no modules")
    image_inputs = Without("a scoring function shows no inputs")
    tokenizer = token_embedding = None
    is_likelihood = False  # unless the function says so
    mm_shap = Without("its tokens are not known")

    family = NO_ATTENTION
    module = None

    def __init__(self, name: str, function: Callable[..., Sequence[float]], provenance: Provenance) -> None:
        self.name, self._function, self.provenance = name, function, asdict(provenance)
        self.sites: Mapping[str, tuple[str, ...]] = {}
        self.is_likelihood = bool(getattr(function, "is_likelihood", False))
        self.missing = {"vision": "a scoring function shows no attention"}

    def pairs(self, pictures: Sequence[Image.Image], captions: Sequence[str]) -> Batch:
        """The pairs as they are."""
        return Batch(list(zip(pictures, captions, strict=True)), (), {}, (False,) * len(captions))

    def score(self, batch: Batch) -> Tensor:
        """(batch,) the function's scores."""
        images, texts = (list(part) for part in zip(*batch.inputs, strict=True))
        scores = torch.as_tensor(self._function(images, texts), dtype=torch.float64)
        if scores.shape != (len(images),):
            raise ModelError(
                f"{self.name}: {tuple(scores.shape)} scores for {len(images)} pairs",
                expected="one number per pair",
                remedy="correct the scoring function",
            )
        return scores


def load(name: str, spec: ModelSpec, device: str = "cpu") -> Scorer:  # noqa: ARG001 — the user's to choose
    """The function that the user names."""
    return Scorer(name, named_object(name, spec), Provenance(spec.origin, None, None, None, 0, untrained=False))
