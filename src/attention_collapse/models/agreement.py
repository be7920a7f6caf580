"""Whether a decoder's processor places as many image tokens as its model makes features of a picture.

The two follow from keys of different files, and nothing but the model itself knows both numbers; so it is asked, with
two pictures, when it is loaded. The keys that disagree are then looked up, to name them.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attention_collapse.errors import ModelError
from attention_collapse.models.boundary import first_sentence
from attention_collapse.models.definition import is_there, read_object
from attention_collapse.models.picture_fit import black_and_white

PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
SAME = {  # key of the processor's files -> of config.json, which must be equal
    "patch_size": "vision_config.patch_size",
    "temporal_patch_size": "vision_config.temporal_patch_size",
    "merge_size": "vision_config.spatial_merge_size",
    "vision_feature_select_strategy": "vision_feature_select_strategy",
    "image_grid_pinpoints": "image_grid_pinpoints",
}
COUNTS = ("num_additional_image_tokens", "image_seq_len", "image_seq_length", "num_image_tokens")
IN_CONFIG = (  # what the number of features follows from
    "vision_config.image_size", "vision_config.patch_size", "scale_factor", "downsample_ratio", "mm_tokens_per_image",
)  # fmt: skip


def features_of_pictures(module: Any, inputs: Mapping[str, Any]) -> list[int] | int | None:
    """How many features the model makes of each picture, or of all; None where it says nothing of them."""
    ask = getattr(module, "get_image_features", None)
    if ask is None:
        return None
    names = inspect.signature(ask).parameters
    given = {
        key: value.to(module.device, module.dtype) if value.is_floating_point() else value.to(module.device)
        for key, value in inputs.items()
        if key in names and isinstance(value, Tensor)
    }
    with torch.inference_mode():
        found = ask(**given)
    features = getattr(found, "pooler_output", found)
    if isinstance(features, Tensor):
        return [features.shape[1]] * features.shape[0] if features.ndim == 3 else features.shape[0]
    return [one.numel() // one.shape[-1] for one in features]


def require_agreement(name: str, module: Any, processor: Any, encode: Any, keys: Any) -> None:
    """ModelError unless image tokens and features of a picture are as many, naming the keys that disagree.

    Parameters
    ----------
    encode
        (pictures, captions) -> the model's inputs, as its kind makes them.
    keys
        inputs -> (batch, token) booleans: the tokens that stand for pictures.
    """
    pictures = [black_and_white(64, 48), black_and_white(48, 96)]
    try:
        inputs = encode(pictures, ["a"] * len(pictures))
        tokens = [int(count) for count in keys(inputs).sum(-1)]
        features = features_of_pictures(module, inputs) if all(tokens) else None
    except ModelError:
        raise
    except Exception as error:  # a processor without a key that it needs raises anything
        suspects, _ = disagreements(module.config, processor)
        if not suspects:
            raise ModelError(
                f"{name}: the processor cannot prepare a pair, or the model cannot read its picture "
                f"({first_sentence(error)})",
                expected="a chat template that places one image token per image, and settings that fit the model",
                remedy="check chat_template, processor_config.json and preprocessor_config.json beside config.json",
            ) from error
        raise _disagree(f"{name}: the processor does not fit the model ({first_sentence(error)})", suspects) from error
    if isinstance(features, list) and len(features) != len(tokens):
        features = sum(features)  # a row for each tile: how many tiles a picture has is not told apart
    if features is None or tokens == features or sum(tokens) == features:
        return
    made = features if isinstance(features, int) else " and ".join(map(str, features))
    placed = " and ".join(map(str, tokens))
    what = f"{name}: the processor places {placed} image tokens for two pictures, and the model makes {made} features"
    suspects, counts = disagreements(module.config, processor)
    raise _disagree(what, suspects or counts)


def _disagree(what: str, suspects: list[str]) -> ModelError:
    return ModelError(
        f"{what}: {'; '.join(suspects)}",
        expected="as many image tokens as features: processor and model of one checkpoint",
        remedy=f"take {' and '.join(PROCESSOR_FILES)} from the repository that config.json is from, or correct the key",
    )


def disagreements(config: Any, processor: Any) -> tuple[list[str], list[str]]:
    """The keys that disagree or are absent, in words; and all those that the two numbers follow from."""
    folder = Path(config.name_or_path or "nowhere")  # of the checkpoint that it was read from
    written = {file: read_object(folder / file) for file in PROCESSOR_FILES if is_there(folder / file)}
    found, counts = [], []
    for key, other in SAME.items():
        wanted, (value, where) = _in_config(config, other), _of_processor(processor, written, key)
        if wanted is not None and where and _plain(value) != _plain(wanted):
            found.append(f"{where}, but config.json has {other} {wanted!r}")
    for key in COUNTS:
        if hasattr(processor, key):
            counts.append(_of_processor(processor, written, key)[1])
    follows = [f"{key} {value}" for key in IN_CONFIG if (value := _in_config(config, key)) is not None]
    absent = [where for where in counts if "absent" in where]
    return found + absent, [*counts, f"config.json has {', '.join(follows)}"]


def _of_processor(processor: Any, written: Mapping[str, Mapping[str, Any]], key: str) -> tuple[Any, str]:
    """A processor's value and where it stands, in words; "" where the processor has no such key."""
    parts = [processor, getattr(processor, "image_processor", None)]
    holder = next((part for part in parts if hasattr(part, key)), None)
    if holder is None:
        return None, ""
    value = getattr(holder, key)
    for file, content in written.items():
        nested = content.get("image_processor")
        if key in content or (isinstance(nested, Mapping) and key in nested):
            return value, f"{file} has {key} {value!r}"
    file = PROCESSOR_FILES[0] if holder is processor else PROCESSOR_FILES[1]
    return value, f"{key} is absent from {file} (taken as {value!r})"


def _in_config(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = getattr(config, part, None)
    return config


def _plain(value: Any) -> Any:
    """A value in one form: pairs of numbers as lists, one number for a square."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
