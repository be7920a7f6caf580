"""The untrained twin of a model: the same architecture with fresh weights, so that what training made can be seen."""

from __future__ import annotations

from attention_collapse.models.hub import hub_folder
from attention_collapse.models.spec import ModelSpec
from attention_collapse.registry import kinds

PATTERNS = {
    "open_clip": ("open_clip_config.json", ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")),
    "transformers": ("config.json", ("model*.safetensors", "pytorch_model*.bin")),
}


def twin_spec(name: str, spec: ModelSpec, seed: int = 0) -> ModelSpec | str:
    """How the twin is loaded, or a sentence that says why there is none.

    A hub model's twin is built of the snapshot in the local cache, which the model itself was loaded from. The feature
    encoders of an in-house model are frozen parts of it, and stay as they are.
    """
    library = kinds()[spec.kind].library
    if spec.weights == "untrained":
        return "the model is itself untrained"
    if spec.weights == "factory":
        return "how the model is built is the user's own, so it cannot be built again with fresh weights"
    architecture = spec.architecture or spec.path
    if spec.weights == "hub":
        config, weights = PATTERNS[library]
        architecture = str(hub_folder(name, spec.repo or "", spec.revision, config, weights))
    return ModelSpec(
        kind=spec.kind, weights="untrained", architecture=architecture, seed=seed, dtype=spec.dtype, prompt=spec.prompt
    )
