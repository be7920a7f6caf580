"""Values of a checkpoint's config.json that no model of the transformers library can be built or run with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from transformers.activations import ACT2FN

from attention_collapse.errors import ModelError

SECTIONS = ("text_config", "vision_config", "image_config")
ACTIVATIONS = ("hidden_act", "hidden_activation", "activation_function", "projector_hidden_act")
SIZES = (
    "patch_size", "image_size", "hidden_size", "intermediate_size", "vocab_size", "num_hidden_layers",
    "num_attention_heads", "num_key_value_heads", "num_channels", "max_position_embeddings", "projection_dim",
)  # fmt: skip
ONE_END = ("clip_text_model", "metaclip_2_text_model")  # they look for one end token in the text


def require_values(name: str, config: Any) -> None:
    """ModelError for a key whose value the library would stumble over, with what it may be.

    Examples
    --------
    >>> from transformers import CLIPConfig

    >>> try: require_values("mine", CLIPConfig(text_config={"hidden_act": "no_such"}))
    ... except ModelError as error: error.got
    "mine: config.json cannot be used: it has text_config.hidden_act 'no_such'"
    """
    for key, value, may_be in _wrong(config):
        raise _error(name, key, value, may_be)


def require_sizes(name: str, written: Mapping[str, Any]) -> None:
    """ModelError for a size or a number of parts below 1, over which the library stumbles while it reads the file.

    Parameters
    ----------
    written
        What config.json holds.

    Examples
    --------
    >>> try: require_sizes("mine", {"text_config": {"num_attention_heads": 0}})
    ... except ModelError as error: error.got
    'mine: config.json cannot be used: it has text_config.num_attention_heads 0'
    """
    for where, part in (("", written), *((f"{key}.", written.get(key)) for key in SECTIONS)):
        for key in SIZES:
            value = part.get(key) if isinstance(part, Mapping) else None
            if isinstance(value, int) and value < 1:
                raise _error(name, f"{where}{key}", value, "a whole number, 1 or more")


def _error(name: str, key: str, value: Any, may_be: str) -> ModelError:
    return ModelError(
        f"{name}: config.json cannot be used: it has {key} {value!r}",
        expected=may_be,
        remedy="correct the key, or take config.json from the repository that the weights are from",
    )


def _wrong(config: Any) -> Iterator[tuple[str, Any, str]]:
    """(key, value, what it may be) of each wrong value."""
    parts = {"": config} | {f"{key}.": part for key in SECTIONS if (part := getattr(config, key, None)) is not None}
    for where, part in parts.items():
        for key in ACTIVATIONS:
            value = getattr(part, key, None)
            if isinstance(value, str) and value not in ACT2FN:
                yield f"{where}{key}", value, f"one of {', '.join(sorted(ACT2FN))}"
        end = getattr(part, "eos_token_id", None)
        if getattr(part, "model_type", "") in ONE_END and isinstance(end, list | tuple):
            yield f"{where}eos_token_id", end, "one whole number: the id of the token at which the text is read out"
    layers = getattr(getattr(config, "vision_config", None), "num_hidden_layers", None)
    chosen = getattr(config, "vision_feature_layer", None)
    for layer in chosen if isinstance(chosen, list | tuple) else [chosen]:
        if isinstance(layers, int) and isinstance(layer, int) and not -layers - 1 <= layer <= layers:
            yield "vision_feature_layer", chosen, f"layers from {-layers - 1} to {layers}: the image tower has {layers}"
