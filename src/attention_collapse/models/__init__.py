"""One way to load a model of any kind; the library behind it is imported only then."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from attention_collapse.models.spec import ModelSpec

if TYPE_CHECKING:
    from attention_collapse.models.interface import Model

# kind -> "module:function" taking (name, spec, device)
KINDS = {
    "openclip": "attention_collapse.models.openclip:load",
    "openclip-coca": "attention_collapse.models.openclip:load",
    "clip": "attention_collapse.models.towers:load",
    "siglip": "attention_collapse.models.towers:load",
    "siglip2": "attention_collapse.models.towers:load",
    "align": "attention_collapse.models.towers:load",
    "blip": "attention_collapse.models.encoders:load",
    "blip2": "attention_collapse.models.encoders:load",
    "vilt": "attention_collapse.models.encoders:load",
    "flava": "attention_collapse.models.encoders:load",
    "idefics": "attention_collapse.models.decoders:load",
    "idefics3": "attention_collapse.models.decoders:load",
    "llava": "attention_collapse.models.decoders:load",
    "llava-next": "attention_collapse.models.decoders:load",
    "paligemma": "attention_collapse.models.decoders:load",
    "qwen2-vl": "attention_collapse.models.decoders:load",
    "qwen2.5-vl": "attention_collapse.models.decoders:load",
    "smolvlm": "attention_collapse.models.decoders:load",
    "fusion-v1": "attention_collapse.models.inhouse:load",
    "fusion-v2": "attention_collapse.models.inhouse:load",
    "python": "attention_collapse.models.declared:load",
    "scorer": "attention_collapse.models.declared:load",
}


def load(name: str, spec: ModelSpec, device: str = "cpu") -> Model:
    """Load a model in eval mode; raise ModelError rather than return anything but the weights asked for."""
    module, _, function = KINDS[spec.kind].partition(":")
    model: Model = getattr(import_module(module), function)(name, spec, device)
    return model
