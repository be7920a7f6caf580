"""The whole specification of a model as it was run: all that its numbers follow from, beside the data."""

from __future__ import annotations

from typing import Any

from torch import nn

from attention_collapse.identity.environment import environment
from attention_collapse.models.activation import activations
from attention_collapse.models.interface import Model
from attention_collapse.models.spec import ModelSpec


def specification(model: Model, spec: ModelSpec | None = None) -> dict[str, Any]:
    """What a model is and how it ran, as plain values; None where the model does not have it.

    Parameters
    ----------
    spec
        As it was asked for; None of a model that was made elsewhere.

    Returns
    -------
    dict
        asked
            The fields of `spec` that were given: kind, weights, architecture, tag, repo, path, dtype, prompt …
        kind, architecture, model_type
            The kind's name, the module's class, and its configuration's name for it.
        parameters, dtype, device
            As they are, several joined by commas: not as they were asked for.
        attention, activation
            The implementation of attention, and the classes of the activations.
        image_processor, prompt
            The class that prepares pictures; a decoder's instruction beside the image.
        score
            What a pair's score is: a scaled cosine with its scale and bias, a likelihood, or a matching score.
        versions
            Of the libraries that make numbers, and the processor.
    """
    module = model.module if isinstance(model.module, nn.Module) else None
    config = getattr(module, "config", None)
    return {
        "asked": spec.model_dump(exclude_none=True) if spec else None,
        "kind": spec.kind if spec else type(model).__module__.rpartition(".")[2].replace("_", "-"),
        "architecture": type(module).__name__ if module is not None else None,
        "model_type": getattr(config, "model_type", None),
        "parameters": model.provenance.get("parameters"),
        "dtype": _joined(str(p.dtype).removeprefix("torch.") for p in module.parameters()) if module else None,
        "device": _joined(str(p.device) for p in module.parameters()) if module else None,
        "attention": _attention(module, config) if module else None,
        "activation": activations(module) or None if module else None,
        "image_processor": model.provenance.get("image_processor"),
        "prompt": getattr(model, "instruction", None),
        "score": _score(model),
        "versions": environment(),
    }


def _joined(values: Any) -> str | None:
    return ", ".join(sorted(set(values))) or None


def _attention(module: nn.Module, config: Any) -> str | None:
    """The transformers library's name for it, or the classes of PyTorch's and timm's own."""
    named = getattr(config, "_attn_implementation", None)
    if named:
        return str(named)
    return _joined(
        f"{type(part).__module__.split('.')[0]}.{type(part).__name__}"
        for part in module.modules()
        if "attention" in type(part).__name__.lower()
    )


def _score(model: Any) -> str:
    if hasattr(model, "logit_scale"):
        return f"cosine × {model.logit_scale:.6g} + {model.logit_bias:.6g}"
    return "mean log-likelihood, nats per token" if model.is_likelihood else "matching score"
