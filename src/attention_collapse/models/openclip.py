"""OpenCLIP models loaded by tag, by hub revision, from disk, or untrained."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict
from open_clip.transform import PreprocessCfg, image_transform_v2
from torch import Tensor

from attention_collapse.errors import ModelError
from attention_collapse.files import sha256_file
from attention_collapse.models.activation import activation_notes
from attention_collapse.models.boundary import boundary
from attention_collapse.models.checkpoint import (
    load_exactly,
    read_state_dict,
    require_finite,
    require_sha256,
    without_owner,
)
from attention_collapse.models.definition import is_there, read_object, require_objects
from attention_collapse.models.hub import definition_sha256, hub_file, hub_folder, snapshot_revision
from attention_collapse.models.interface import Provenance, named_class
from attention_collapse.models.picture_fit import black_and_white, require_range
from attention_collapse.models.spec import ModelSpec
from attention_collapse.models.vocabulary import require_tokenizer_files

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # in order of preference


@contextmanager
def _quiet() -> Iterator[None]:
    """open_clip warns of random weights on the root logger at every construction; ours are loaded right after."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _tagged_file(name: str, spec: ModelSpec) -> tuple[Path, dict[str, Any]]:
    """The weights file of a `pretrained` tag, and open_clip's settings for it."""
    settings = open_clip.get_pretrained_cfg(spec.architecture, spec.tag)
    if not settings:
        tags = open_clip.list_pretrained_tags_by_model(spec.architecture)
        raise ModelError(
            f"{name}: open_clip has no tag {spec.tag!r} for {spec.architecture}",
            expected=f"one of {', '.join(tags) or 'none: the architecture has no pretrained weights'}",
            remedy="correct architecture or tag",
        )
    repo, _, filename = settings.get("hf_hub", "").rpartition("/")
    if not repo:
        raise ModelError(
            f"{name}: tag {spec.tag} is not on the hub",
            expected="weights that can be pinned by revision",
            remedy="download the file by hand and use weights: checkpoint",
        )
    return hub_file(name, repo, [filename] if filename else WEIGHTS, spec.revision), settings


def _folder_config(name: str, folder: Path) -> dict[str, Any]:
    if not is_there(folder / CONFIG):
        raise ModelError(
            f"{name}: {folder / CONFIG} is absent",
            expected=f'a folder with {CONFIG} ({{"model_cfg": …, "preprocess_cfg": …}}) and {WEIGHTS[0]}',
            remedy="check the path; `openclip-scenes` needs the repository's root as the working folder",
        )
    require_objects(folder)
    config = read_object(folder / CONFIG)
    found = {"model_cfg": config.get("model_cfg"), "preprocess_cfg": config.get("preprocess_cfg", {})}
    if wrong := [key for key, part in found.items() if not isinstance(part, dict)]:
        raise ModelError(
            f"{name}: {folder / CONFIG} is not an open_clip configuration: {wrong[0]} is absent or no object",
            expected='{"model_cfg": {…}, "preprocess_cfg": {…}}',
            remedy="compare the file with open_clip's own model_configs",
        )
    return {key: dict(part) for key, part in found.items()}


def _folder_weights(name: str, folder: Path) -> Path:
    for file in WEIGHTS:
        if (folder / file).is_file():
            return folder / file
    raise ModelError(
        f"{name}: no weights in {folder}",
        expected=f"{' or '.join(WEIGHTS)}",
        remedy="put the weights there, or say weights: untrained if that is meant",
    )


def _build(name: str, architecture: str | Path, seed: int, settings: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Freshly initialised model, evaluation transform and tokenizer of an architecture (a name or a folder)."""
    known = isinstance(architecture, Path) or open_clip.get_model_config(architecture) is not None
    if not known:
        names = {one.lower(): one for one in open_clip.list_models()}
        near = difflib.get_close_matches(str(architecture).lower().replace("/", "-"), names, n=1)
        raise ModelError(
            f"{name}: open_clip knows no architecture {architecture!r}",
            expected="one of open_clip.list_models(), or a folder with an open_clip_config.json",
            remedy=f"did you mean {names[near[0]]!r}?" if near else "correct the architecture",
        )
    preprocess = {key: settings[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in settings}
    with torch.random.fork_rng(devices=[]), _quiet():
        torch.manual_seed(seed)
        if isinstance(architecture, Path):
            with boundary(
                f"{name}: {architecture / CONFIG} does not describe a model",
                expected="an open_clip configuration whose tokenizer files lie beside it",
                remedy="compare the file with open_clip's own model_configs",
            ):
                return _from_folder(name, architecture)
        try:
            module = open_clip.create_model(
                architecture, force_quick_gelu=bool(settings.get("quick_gelu")), force_preprocess_cfg=preprocess
            )
        except OSError as error:  # a text tower that is itself on the hub
            raise ModelError(
                f"{name}: {architecture} cannot be built ({str(error).splitlines()[0]})",
                expected="an architecture that is whole in open_clip, or a connection to the hub",
                remedy="choose an architecture with open_clip's own text transformer",
            ) from None
        _initialise_decoder(module)
        transform = image_transform_v2(PreprocessCfg(**module.visual.preprocess_cfg), is_train=False)
        return module, transform, open_clip.get_tokenizer(architecture)


def _initialise_decoder(module: Any) -> None:
    """open_clip 3.3 leaves the projection of CoCa's decoder as uninitialised memory; its own rule, from the seed."""
    projection = getattr(getattr(module, "text_decoder", None), "text_projection", None)
    if projection is not None:
        torch.nn.init.normal_(projection, std=projection.shape[0] ** -0.5)


def _from_folder(name: str, folder: Path) -> tuple[Any, Any, Any]:
    """The architecture that a folder's configuration describes."""
    config = _folder_config(name, folder)
    model, text = config["model_cfg"], dict(config["model_cfg"]["text_cfg"])
    if merges := text.get("tokenizer_kwargs", {}).get("bpe_path"):
        text["tokenizer_kwargs"] = {**text["tokenizer_kwargs"], "bpe_path": str(folder / Path(merges).name)}
    cls = open_clip.CustomTextCLIP if model.pop("custom_text", False) else open_clip.CLIP
    cls = open_clip.CoCa if "multimodal_cfg" in model else cls
    module = cls(**model)
    _initialise_decoder(module)
    settings = PreprocessCfg(**{**config["preprocess_cfg"], "size": module.visual.image_size})
    if text.get("hf_tokenizer_name"):
        require_tokenizer_files(name, folder)
        tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    else:
        tokenizer = open_clip.SimpleTokenizer(
            context_length=text.get("context_length", 77), **text.get("tokenizer_kwargs", {})
        )
    return module, image_transform_v2(settings, is_train=False), tokenizer


def load_parts(name: str, spec: ModelSpec, device: str) -> tuple[Any, Any, Any, Provenance]:
    """(module, image transform, tokenizer, provenance): the architecture with exactly the named weights in it."""
    settings: dict[str, Any] = {}
    revision, file, architecture = spec.revision, None, None
    if spec.weights == "pretrained":
        file, settings = _tagged_file(name, spec)
        revision = snapshot_revision(file) or revision
    elif spec.weights == "hub":
        architecture = hub_folder(name, spec.repo or "", spec.revision, CONFIG, WEIGHTS)
        revision = snapshot_revision(architecture) or revision
    elif spec.weights == "checkpoint":
        path, described = Path(spec.path or ""), _described(spec.architecture)
        architecture, file = (described, path) if spec.architecture else (path, None)
    elif Path(spec.architecture or "").is_dir():
        architecture = Path(spec.architecture or "")
    if isinstance(architecture, Path) and spec.weights != "untrained" and file is None:
        _folder_config(name, architecture)
        file = _folder_weights(name, architecture)
    module, transform, tokenizer = _build(name, architecture or spec.architecture or "", spec.seed or 0, settings)
    digest, notes = None, list[str]()
    if file is not None:
        state, notes = without_owner(read_state_dict(file), f"{name}: {file}")
        state = _in_own_names(name, module, state)
        digest = sha256_file(file)
        require_sha256(name, file, digest, spec.sha256)
        load_exactly(module, state, f"{name}: {file}")
    definition = definition_sha256(architecture) if isinstance(architecture, Path) else None
    require_finite(name, module)
    if file is not None and spec.weights == "pretrained":
        definition = _tokenizer_sha256(name, spec.architecture or "")
    module.eval().requires_grad_(False).to(device)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    with boundary(
        f"{name}: the image transform prepares no picture",
        expected="a preprocess_cfg that open_clip can use",
        remedy="compare open_clip_config.json with open_clip's own",
    ):
        prepared = transform(black_and_white())
    require_range(name, prepared, f"{CONFIG}: mean and std of preprocess_cfg")
    provenance = Provenance(
        spec.origin, digest, definition, revision, parameters, spec.is_control,
        notes=(*notes, *activation_notes(module, file, digest)), image_processor=named_class(transform),
    )  # fmt: skip
    return module, transform, tokenizer, provenance


def _described(architecture: str | None) -> Path | None:
    """The folder with the configuration of an architecture that open_clip has no name for."""
    named = architecture is None or open_clip.get_model_config(architecture) is not None
    return None if named or not Path(architecture or "").is_dir() else Path(architecture or "")


def _tokenizer_sha256(name: str, architecture: str) -> str | None:
    """Hash of a tokenizer that open_clip takes from a hub repository of its own; None where it is part of open_clip."""
    repo = (open_clip.get_model_config(architecture) or {}).get("text_cfg", {}).get("hf_tokenizer_name")
    return definition_sha256(hub_folder(name, repo, None, "tokenizer", ["tokenizer*"])) if repo else None


def _in_own_names(name: str, module: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names and scalar shapes of older or foreign checkpoints as this open_clip version has them."""
    try:
        converted: dict[str, Tensor] = convert_state_dict(module, state)
        if "positional_embedding" in converted and not hasattr(module, "positional_embedding"):
            converted = convert_to_custom_text_state_dict(converted)
    except (KeyError, AttributeError, IndexError, RuntimeError) as error:
        raise ModelError(
            f"{name}: the tensors' names are of another architecture ({error!r})",
            expected="a checkpoint of the architecture",
            remedy="check that the checkpoint and the architecture belong together",
        ) from None
    for scalar in ("logit_scale", "logit_bias"):
        own = getattr(module, scalar, None)
        if scalar in converted and own is not None and converted[scalar].numel() == own.numel():
            converted[scalar] = converted[scalar].reshape(own.shape)
    return converted
