"""One way to load a model of any kind; the library behind it is imported only then."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from attention_collapse.models.spec import ModelSpec

if TYPE_CHECKING:
    from attention_collapse.models.dual_encoder import DualEncoder

# kind -> "module:function" taking (name, spec, device)
KINDS = {"openclip": "attention_collapse.models.openclip:load"}


def load(name: str, spec: ModelSpec, device: str = "cpu") -> DualEncoder:
    """Load a model in eval mode; raise ModelError rather than return anything but the weights asked for."""
    module, _, function = KINDS[spec.kind].partition(":")
    model: DualEncoder = getattr(import_module(module), function)(name, spec, device)
    return model
