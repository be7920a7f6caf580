"""One way to load a model of any kind; the library behind it is imported only then."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from attention_collapse import registry
from attention_collapse.errors import ModelError
from attention_collapse.models.spec import ModelSpec

if TYPE_CHECKING:
    from attention_collapse.models.interface import Model


def load(name: str, spec: ModelSpec, device: str = "cpu") -> Model:
    """Load a model in eval mode; raise ModelError rather than return anything but the weights asked for.

    Examples
    --------
    >>> from PIL import Image
    >>> spec = ModelSpec(kind="scorer", weights="factory", factory="examples.scorer:score")
    >>> model = load("brightness", spec)
    >>> model.score(model.pairs([Image.new("RGB", (8, 8), "white")], ["a red ring"])).tolist()
    [1.0]
    """
    from attention_collapse.models.device import usable_device
    from attention_collapse.models.interface import DualEncoder, PairScorer

    kind = registry.kinds()[spec.kind]
    device = usable_device(name, device, kind.library)
    model: Model = import_module(kind.module).load(name, spec, device)
    if isinstance(model, DualEncoder) == isinstance(model, PairScorer):
        raise ModelError(
            f"{name}: {kind.module}.load returned {type(model).__name__}",
            expected="either a DualEncoder or a PairScorer, with all that models/interface.py asks of it",
            remedy="complete the kind's class",
        )
    return model
