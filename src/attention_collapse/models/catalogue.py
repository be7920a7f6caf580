"""Models by name, with what is published about them. Importing this imports no model library."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attention_collapse.errors import ModelError
from attention_collapse.models.spec import ModelSpec


@dataclass(frozen=True)
class Entry:
    """A model and its facts.

    Attributes
    ----------
    licence
        Of the weights, as far as known; the model's page is what counts.
    millions
        Parameters in millions, rounded; None where a file here tells exactly.
    """

    spec: ModelSpec
    licence: str
    millions: int | None


def _hub(kind: str, repo: str, licence: str, millions: int, **options: Any) -> Entry:
    return Entry(ModelSpec(kind=kind, weights="hub", repo=repo, **options), licence, millions)


def _tag(architecture: str, tag: str, millions: int, kind: str = "openclip", licence: str = "MIT") -> Entry:
    return Entry(ModelSpec(kind=kind, weights="pretrained", architecture=architecture, tag=tag), licence, millions)


ENTRIES = {
    "openclip-scenes": Entry(
        ModelSpec(kind="openclip", weights="checkpoint", path="data/controls/openclip-scenes"), "MIT", None
    ),
    "openclip-vit-b-32": _tag("ViT-B-32", "openai", 151),
    "openclip-vit-b-32-laion2b": _tag("ViT-B-32", "laion2b_s34b_b79k", 151),
    "openclip-vit-b-16": _tag("ViT-B-16", "openai", 150),
    "openclip-vit-l-14": _tag("ViT-L-14", "openai", 428),
    "openclip-siglip-b-16": _tag("ViT-B-16-SigLIP", "webli", 203, licence="Apache-2.0"),
    "openclip-coca-b-32": _tag("coca_ViT-B-32", "laion2b_s13b_b90k", 254),
    "openclip-coca-b-32-decoder": _tag("coca_ViT-B-32", "laion2b_s13b_b90k", 254, kind="openclip-coca"),
    "clip-vit-b-32": _hub("clip", "openai/clip-vit-base-patch32", "MIT", 151),
    "siglip-b-16": _hub("siglip", "google/siglip-base-patch16-224", "Apache-2.0", 203),
    "siglip2-b-16-naflex": _hub("siglip2", "google/siglip2-base-patch16-naflex", "Apache-2.0", 375),
    "align-base": _hub("align", "kakaobrain/align-base", "see its page", 172),
    "blip-itm-base": _hub("blip", "Salesforce/blip-itm-base-coco", "see its page", 224),
    "blip2-itm-vit-g": _hub("blip2", "Salesforce/blip2-itm-vit-g", "MIT", 1170),
    "vilt-coco": _hub("vilt", "dandelin/vilt-b32-finetuned-coco", "Apache-2.0", 111),
    "flava-full": _hub("flava", "facebook/flava-full", "BSD-3-Clause", 358),
    "idefics-9b": _hub("idefics", "HuggingFaceM4/idefics-9b", "LLaMA non-commercial", 8929, dtype="bfloat16"),
    "idefics3-8b": _hub("idefics3", "HuggingFaceM4/Idefics3-8B-Llama3", "Apache-2.0", 8462, dtype="bfloat16"),
    "llava-1.5-7b": _hub("llava", "llava-hf/llava-1.5-7b-hf", "LLaMA 2", 7063, dtype="bfloat16"),
    "llava-next-7b": _hub("llava-next", "llava-hf/llava-v1.6-vicuna-7b-hf", "LLaMA 2", 7063, dtype="bfloat16"),
    "qwen2-vl-2b": _hub("qwen2-vl", "Qwen/Qwen2-VL-2B-Instruct", "Apache-2.0", 2209, dtype="bfloat16"),
    "qwen2.5-vl-3b": _hub("qwen2.5-vl", "Qwen/Qwen2.5-VL-3B-Instruct", "Qwen Research", 3755, dtype="bfloat16"),
    "paligemma-3b": _hub("paligemma", "google/paligemma-3b-pt-224", "Gemma", 2923, dtype="bfloat16"),
    "smolvlm-500m": _hub("smolvlm", "HuggingFaceTB/SmolVLM2-500M-Video-Instruct", "Apache-2.0", 507),
    "openclip-vit-b-32-untrained": Entry(
        ModelSpec(kind="openclip", weights="untrained", architecture="ViT-B-32", seed=0), "none: random weights", 151
    ),
}
CATALOGUE = {name: entry.spec for name, entry in ENTRIES.items()}

# model_type of a config.json -> kind
KIND_OF_TYPE = {
    "align": "align", "blip": "blip", "blip-2": "blip2", "clip": "clip", "flava": "flava", "idefics": "idefics",
    "idefics3": "idefics3", "llava": "llava", "llava_next": "llava-next", "paligemma": "paligemma",
    "qwen2_5_vl": "qwen2.5-vl", "qwen2_vl": "qwen2-vl", "siglip": "siglip", "siglip2": "siglip2",
    "smolvlm": "smolvlm", "vilt": "vilt", "fusion-v1": "fusion-v1", "fusion-v2": "fusion-v2",
}  # fmt: skip


def _kind_of(folder: Path) -> str:
    """The kind of a checkpoint folder, from its configuration."""
    if (folder / "open_clip_config.json").is_file():
        return "openclip"
    try:
        found = json.loads((folder / "config.json").read_text("utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ModelError(
            f"{folder}: open_clip_config.json is absent, and so is a config.json with a model_type",
            expected="a checkpoint folder in the hub's layout",
            remedy="check the path; `openclip-scenes` needs the repository's root as the working folder",
        ) from None
    if found not in KIND_OF_TYPE:
        raise ModelError(
            f"{folder}: model_type {found!r}",
            expected=f"one of {', '.join(KIND_OF_TYPE)}",
            remedy="describe the model with kind: python (README, “a model in no table”)",
        )
    return KIND_OF_TYPE[found]


def named(name: str) -> ModelSpec:
    """The catalogue's entry, or for a path a checkpoint folder; ModelError with the near match otherwise."""
    if name in CATALOGUE:
        return CATALOGUE[name]
    if Path(name).is_dir():
        return ModelSpec(kind=_kind_of(Path(name)), weights="checkpoint", path=name)
    near = difflib.get_close_matches(name, CATALOGUE, n=1)
    raise ModelError(
        f"unknown model {name!r}",
        expected=f"one of {', '.join(CATALOGUE)}, or a checkpoint folder",
        remedy=f"did you mean {near[0]!r}?" if near else "run `attention-collapse models` for the list",
    )
