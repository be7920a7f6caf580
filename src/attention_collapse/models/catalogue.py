"""Models by name. Importing this imports no model library."""

from __future__ import annotations

import difflib
from pathlib import Path

from attention_collapse.errors import ModelError
from attention_collapse.models.spec import ModelSpec

CATALOGUE = {
    "openclip-scenes": ModelSpec(kind="openclip", weights="checkpoint", path="data/controls/openclip-scenes"),
    "openclip-vit-b-32": ModelSpec(kind="openclip", weights="pretrained", architecture="ViT-B-32", tag="openai"),
    "openclip-vit-b-32-laion2b": ModelSpec(
        kind="openclip", weights="pretrained", architecture="ViT-B-32", tag="laion2b_s34b_b79k"
    ),
    "openclip-vit-b-16": ModelSpec(kind="openclip", weights="pretrained", architecture="ViT-B-16", tag="openai"),
    "openclip-vit-l-14": ModelSpec(kind="openclip", weights="pretrained", architecture="ViT-L-14", tag="openai"),
    "openclip-vit-b-32-untrained": ModelSpec(kind="openclip", weights="untrained", architecture="ViT-B-32", seed=0),
}


def named(name: str) -> ModelSpec:
    """The catalogue's entry, or for a path a checkpoint folder; ModelError with the near match otherwise."""
    if name in CATALOGUE:
        return CATALOGUE[name]
    if Path(name).is_dir():
        return ModelSpec(kind="openclip", weights="checkpoint", path=name)
    near = difflib.get_close_matches(name, CATALOGUE, n=1)
    raise ModelError(
        f"unknown model {name!r}",
        expected=f"one of {', '.join(CATALOGUE)}, or a checkpoint folder",
        remedy=f"did you mean {near[0]!r}?" if near else "run `attention-collapse models` for the list",
    )
