"""Which of open_clip's architectures a state dict may be of, told from its names and shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import open_clip

from attention_collapse.errors import ModelError
from attention_collapse.models.checkpoint import read_state_dict, without_owner

Shapes = Mapping[str, Sequence[int]]
MOST = 6  # candidates that a message names
CLIP_CONTEXT, CLIP_WORDS, CLIP_HEADS = 77, 49408, 64  # open_clip's defaults: tokens, vocabulary; of a ResNet's width


def _layers(shapes: Shapes, prefix: str) -> int:
    found = (re.match(re.escape(prefix) + r"\.(\d+)\.", key) for key in shapes)
    return len({match[1] for match in found if match})


def _facts_of_tensors(shapes: Shapes) -> dict[str, Any]:
    """What the shapes say: sizes of the two towers, by the names of open_clip's configurations."""
    text = (
        "text." if "text.token_embedding.weight" in shapes or any("text.transformer." in key for key in shapes) else ""
    )
    facts: dict[str, Any] = {
        "timm": any(key.startswith("visual.trunk.") for key in shapes),
        "hugging_face_text": any(key.startswith("text.transformer.embeddings.") for key in shapes),
        "decoder": any(key.startswith("text_decoder.") for key in shapes),
        "bias": "logit_bias" in shapes,
    }
    for name, key, axis in (
        ("words", f"{text}token_embedding.weight", 0),
        ("text_width", f"{text}token_embedding.weight", 1),
        ("context", f"{text}positional_embedding", 0),
        ("patch", "visual.conv1.weight", 2),
        ("image_tokens", "visual.positional_embedding", 0),
        ("vision_width", "visual.class_embedding", 0),
    ):
        if key in shapes:
            facts[name] = shapes[key][axis]
    if layers := _layers(shapes, f"{text}transformer.resblocks"):
        facts["text_layers"] = layers
    blocks = [_layers(shapes, f"visual.layer{stage}") for stage in (1, 2, 3, 4)]
    facts["vision_layers"] = blocks if any(blocks) else _layers(shapes, "visual.transformer.resblocks")
    if any(blocks):
        facts |= {"patch": None, "image_tokens": shapes.get("visual.attnpool.positional_embedding", (None,))[0]}
        facts["vision_width"] = shapes["visual.layer1.0.conv1.weight"][0]
    for key in ("visual.proj", f"{text}text_projection"):
        if key in shapes:
            facts["embed_dim"] = shapes[key][1]
    return facts


def _facts_of_configuration(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same of an architecture, as far as its configuration says."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    facts: dict[str, Any] = {
        "timm": "timm_model_name" in vision,
        "hugging_face_text": "hf_model_name" in text,
        "decoder": "multimodal_cfg" in config,
        "bias": config.get("init_logit_bias") is not None,
        "embed_dim": config["embed_dim"],
    }
    if "hf_model_name" not in text:
        facts |= {
            "words": text.get("vocab_size", CLIP_WORDS), "text_width": text.get("width", 512),
            "context": text.get("context_length", CLIP_CONTEXT) + bool(text.get("embed_cls")),
            "text_layers": text.get("layers", 12),
        }  # fmt: skip
    if facts["timm"]:
        return facts
    layers, size = vision.get("layers", 12), vision.get("image_size", 224)
    facts |= {"vision_layers": layers, "vision_width": vision.get("width", 768)}
    if isinstance(layers, list):  # a ResNet: 32 pixels a cell, and the mean of all
        return facts | {"patch": None, "image_tokens": (size // 32) ** 2 + 1}
    patch = vision.get("patch_size", 16)
    return facts | {"patch": patch, "image_tokens": (size // patch) ** 2 + 1}


def candidates(shapes: Shapes) -> list[str]:
    """Names of open_clip's architectures that nothing in the shapes contradicts; [] where they tell nothing."""
    own = _facts_of_tensors(shapes)
    if not {"text_width", "vision_width", "timm"} & {name for name, value in own.items() if value}:
        return []
    found = []
    for name in open_clip.list_models():
        facts = _facts_of_configuration(open_clip.get_model_config(name))
        if all(own[fact] == facts[fact] for fact in own.keys() & facts.keys()):
            found.append(name)
    return found


def without_architecture(path: Path) -> ModelError:
    """What to say of a weights file of which nobody says the architecture."""
    state, _ = without_owner(read_state_dict(path), path)
    found = candidates({key: tuple(value.shape) for key, value in state.items()})
    if not found and any(key.startswith(("text_model.", "vision_model.", "model.")) for key in state):
        return ModelError(
            f"{path}: the tensors have the names of the transformers library, and a file does not say what model it is",
            expected="a folder: config.json, weights, processor and tokenizer files",
            remedy="load it into its model, then save model and processor in a folder (`save_pretrained`)",
        )
    fits = f"; by its shapes it can be {', '.join(found[:MOST])}" + (f" … ({len(found)})" if len(found) > MOST else "")
    alike = "; the shapes do not tell quickgelu from its twin, so name the one that it was trained as"
    return ModelError(
        f"{path}: a weights file does not say what architecture it is of{fits if found else ''}",
        expected="a file together with its architecture, or a folder with a configuration",
        remedy=f"add --architecture {found[0] if found else 'NAME'} (in params.yaml and in Python: `architecture`)"
        + (alike if any("quickgelu" in name for name in found) else ", one of open_clip.list_models()"),
    )
