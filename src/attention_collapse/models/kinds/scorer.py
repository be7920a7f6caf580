"""A function that scores image–caption pairs, such as a model behind an API."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from PIL import Image
from torch import Tensor

from attention_collapse.errors import ModelError
from attention_collapse.families import NO_ATTENTION
from attention_collapse.models.declared import named_object, users_code
from attention_collapse.models.interface import Batch, KindOfModel, Provenance, Without
from attention_collapse.models.spec import ModelSpec
from attention_collapse.models.user_scores import described, one_number_per_pair

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
    users_code = True
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
        given = [image.copy() for image in images]  # the function may draw in them, and they are scored again
        with users_code(self.name, "the scoring function"):
            found = self._function(given, texts)
            return one_number_per_pair(found, len(images), where=f"{self.name}: the scoring function")


def load(name: str, spec: ModelSpec, device: str = "cpu") -> Scorer:  # noqa: ARG001 — the user's to choose
    """The function that the user names."""
    function = named_object(name, spec)
    if not callable(function) or isinstance(function, type):
        raise ModelError(
            f"{name}: {spec.factory} is {'a class' if isinstance(function, type) else described(function)}",
            expected="a function of images and texts that gives one number per pair",
            remedy="name the function, or an object of the class with a `__call__`",
        )
    return Scorer(name, function, Provenance(spec.origin, None, None, None, 0, untrained=False))
