"""Models of the transformers library, from a folder or a hub revision: exactly the named weights, or an error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import transformers
from transformers import AutoConfig, AutoProcessor

from attention_collapse.errors import ModelError
from attention_collapse.models.adapter import Merged, merge
from attention_collapse.models.boundary import boundary, first_sentence
from attention_collapse.models.checkpoint import require_finite, require_sha256
from attention_collapse.models.config_values import require_sizes, require_values
from attention_collapse.models.definition import is_there, read_object, require_objects
from attention_collapse.models.hub import (
    count_parameters,
    definition_sha256,
    hub_folder,
    snapshot_revision,
    weights_sha256,
)
from attention_collapse.models.interface import KindOfModel, Provenance, named_class
from attention_collapse.models.picture_fit import activation_notes, require_fit
from attention_collapse.models.spec import BYTES_OF_DTYPE, ModelSpec
from attention_collapse.models.vocabulary import (
    ROLES,
    embedding_rows,
    require_special_ids,
    require_tokenizer_files,
    require_vocabulary,
)

CONFIG = "config.json"
WEIGHTS = (
    "model*.safetensors",
    "pytorch_model*.bin",
)  # in order of preference; the latter with weights_only
ADAPTER = "adapter_config.json"


@dataclass(frozen=True, kw_only=True)
class AdaptedProvenance(Merged, Provenance):
    """Where the weights of a model with an adapter in them came from: `sha256` is that of the base model's."""


def _folder(name: str, spec: ModelSpec) -> Path:
    if spec.weights == "hub":
        return hub_folder(name, spec.repo or "", spec.revision, CONFIG, WEIGHTS)
    folder = Path((spec.path if spec.weights == "checkpoint" else spec.architecture) or "")
    if not is_there(folder / CONFIG):
        raise ModelError(
            f"{name}: no {CONFIG} in {folder}",
            expected="a folder in the hub's layout: config.json, weights, processor and tokenizer files",
            remedy="check the path",
        )
    return folder


def weight_files(folder: Path) -> list[Path]:
    """The weights of a folder that the library reads: one file or the shards of an index, safetensors first.

    ModelError for an index that names a shard which is not there.
    """
    for file in ("model.safetensors", "pytorch_model.bin"):
        if (folder / file).is_file():
            return [folder / file]
        try:
            index = json.loads((folder / f"{file}.index.json").read_text("utf-8"))
            shards = [folder / Path(name).name for name in sorted(set(index["weight_map"].values()))]
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            continue
        if absent := [shard.name for shard in shards if not shard.is_file()]:
            more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
            raise ModelError(
                f"{folder}: {', '.join(absent[:3])}{more}, of the {len(shards)} shards in {file}.index.json: not there",
                expected="every shard that the index names, beside it",
                remedy="copy or download the shards that are missing",
            )
        return shards
    return []


def memory_needed(files: list[Path], dtype: str) -> float | None:
    """GiB that the weights take in `dtype`, from the files' headers; None where they are no safetensors."""
    parameters = count_parameters(files)
    return None if parameters is None else parameters * BYTES_OF_DTYPE[dtype] / 2**30


def load_pretrained(name: str, spec: ModelSpec, device: str, class_name: str) -> tuple[Any, Any, Provenance]:
    """(module, processor, provenance) of a checkpoint, with nothing missing, resized or random.

    Parameters
    ----------
    device
        A PyTorch device, or "auto": accelerate places the layers on what there is.
    class_name
        Class of the transformers library.
    """
    cls = getattr(transformers, class_name)
    folder, dtype = _folder(name, spec), spec.dtype or "float32"
    require_objects(folder)
    config = _config(name, folder, cls)
    files = [] if spec.weights == "untrained" else weight_files(folder)
    digest: str | None = None
    notes: list[str] = []
    if spec.weights == "untrained":
        with torch.random.fork_rng(devices=[]), _described(name, folder, cls):
            torch.manual_seed(spec.seed or 0)
            module = cls(config).to(getattr(torch, dtype))
        require_finite(name, module)
    else:
        if not files:
            raise ModelError(
                f"{name}: no weights in {folder}",
                expected=" or ".join(WEIGHTS),
                remedy="put the weights there, or say weights: untrained if that is meant",
            )
        digest = weights_sha256(files)
        require_sha256(name, folder, digest, spec.sha256)
        need = memory_needed(files, dtype)
        if need is not None and need > 1:
            print(f"{name}: needs about {need:.1f} GiB of memory in {dtype}", flush=True)
        module, notes = read_weights(name, folder, cls, dtype, device)
    merged: Merged | None = None
    if spec.adapter:
        module, merged = merge(name, module, spec.adapter)
    if device != "auto":
        module.to(device)
    module.eval().requires_grad_(False)
    require_tokenizer_files(name, folder)
    with boundary(
        f"{name}: no processor in {folder}",
        expected="preprocessor_config.json and tokenizer files beside config.json",
        remedy="copy them from the model that it was trained from (`processor.save_pretrained(FOLDER)`), or download "
        "those of its repository and revision",
    ):
        processor = _processor(folder)
    notes += require_fit(name, processor, config) + activation_notes(name, config, spec.origin)
    about = asdict(merged) if merged else {}
    return module, processor, (AdaptedProvenance if merged else Provenance)(
        weights=spec.origin,
        sha256=digest,
        definition_sha256=definition_sha256(folder),
        revision=snapshot_revision(folder) or spec.revision,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        untrained=spec.is_control,
        notes=tuple(notes),
        image_processor=named_class(getattr(processor, "image_processor", processor)),
        **about,
    )  # fmt: skip


def _processor(folder: Path) -> Any:
    cls: Any = AutoProcessor
    return cls.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _described(name: str, folder: Path, cls: Any) -> AbstractContextManager[None]:
    """Around what reads a configuration or builds a model from it."""
    return boundary(
        f"{name}: {folder / CONFIG} cannot be used",
        expected=f"the configuration of a {cls.__name__}",
        remedy="check the path and the kind; code from a repository is never run",
    )


def _config(name: str, folder: Path, cls: Any) -> Any:
    with _described(name, folder, cls):
        require_sizes(name, read_object(folder / CONFIG))
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if not isinstance(config, cls.config_class):
        raise ModelError(
            f"{name}: {folder} holds a {config.model_type!r} model",
            expected=f"{cls.config_class.model_type!r}, which this kind loads",
            remedy="correct the kind; a model without an image input has no kind here",
        )
    require_values(name, config)
    return config


def _some(items: list[str], between: str = ", ") -> str:
    more = f" and {len(items) - 3} more" if len(items) > 3 else ""
    return between.join(items[:3]) + more


def read_weights(name: str, folder: Path, cls: Any, dtype: str, device: str) -> tuple[Any, list[str]]:
    """A module with every tensor from the folder's files, and notes on tensors that it does not use."""
    if (folder / ADAPTER).is_file():  # the library would load it unasked, where PEFT is installed
        raise ModelError(
            f"{name}: a model and an adapter ({ADAPTER}) in {folder}",
            expected="a model's folder, and an adapter's beside it",
            remedy="move the adapter's files into a folder of their own, and name it as the adapter",
        )
    placement = {"device_map": "auto"} if device == "auto" else {}
    try:
        module, info = cls.from_pretrained(
            folder, dtype=getattr(torch, dtype), local_files_only=True, trust_remote_code=False,
            output_loading_info=True, ignore_mismatched_sizes=True,  # refused below, with the sizes
            **placement,
        )  # fmt: skip
    except Exception as error:  # a damaged or unsafe file makes the readers raise anything
        raise ModelError(
            f"{name}: {folder} cannot be loaded ({first_sentence(error)})",
            expected="safetensors (or a PyTorch file that holds tensors only) that fit the configuration",
            remedy="restore the files; convert the weights to safetensors where you trust them",
        ) from None
    missing = sorted(set(info["missing_keys"]) - {key for key, *_ in info["mismatched_keys"]})
    mismatched = [
        f"{key} is {tuple(there)}, where config.json makes it {tuple(own)}"
        for key, there, own in sorted(info["mismatched_keys"])
    ]
    problems = ([f"missing {_some(missing)}"] if missing else []) + ([_some(mismatched, "; ")] if mismatched else [])
    problems += [str(message) for message in info["error_msgs"]]
    if problems:
        raise ModelError(
            f"{name}: {folder}: {'; '.join(problems)}",
            expected=f"every tensor of {cls.__name__}; nothing is left random",
            remedy="check that the checkpoint and the kind belong together",
        )
    require_finite(name, module)
    unused = sorted(info["unexpected_keys"])
    return module, [
        f"{len(unused)} tensors of the checkpoint are not used: {', '.join(unused[:3])} …"
    ] if unused else []


class TransformersModel(KindOfModel, base=True):
    """A model of the transformers library.

    A kind says its class in the library (`class_name`), and what a reader of its numbers must know (`notes`).
    """

    class_name: ClassVar[str]
    notes: ClassVar[tuple[str, ...]] = ()
    ids: ClassVar[str] = "input_ids"
    mask: ClassVar[str] = "attention_mask"
    text_config: ClassVar[str] = "text_config"  # section of config.json that says the special tokens

    def __init__(self, name: str, spec: ModelSpec, device: str) -> None:
        module, self._processor, provenance = self._parts(name, spec, device)
        self.name, self.module, self.provenance = name, module, asdict(provenance)
        self.provenance["notes"] = (*provenance.notes, *self.notes)
        self.missing: dict[str, str] = {}
        self._require_own_tokenizer()

    def _require_own_tokenizer(self) -> None:
        """ModelError if the tokenizer cannot be the one that the model was trained with."""
        where = self.tokenizer.name_or_path
        rows = embedding_rows(self.module)
        if rows is not None:
            require_vocabulary(self.name, where, self.tokenizer, rows, self._unread())
        file = Path(where) / CONFIG  # as it was written: the library's own object fills in its defaults
        config = read_object(file) if is_there(file) else {}
        require_special_ids(self.name, where, self._stated(config.get(self.text_config) or config), self.tokenizer)

    def _stated(self, config: dict[str, Any]) -> dict[str, Any]:
        """Role -> the id of a special token that a configuration of the text says, where the saying can be trusted."""
        return {role: config.get(f"{role}_token_id") for role in ROLES}

    def _unread(self) -> set[int]:
        """Ids that the model replaces before it looks them up."""
        return set()

    def _parts(self, name: str, spec: ModelSpec, device: str) -> tuple[Any, Any, Provenance]:
        """Module, processor and provenance. One that is in memory already (`models.given`) has them at hand."""
        return load_pretrained(name, spec, device, self.class_name)

    @classmethod
    def without_vision(cls, _replaced: Mapping[str, tuple[str, str]]) -> str | None:
        """Why vision's attention cannot be read where parts were replaced; None: it can, or the kind finds out."""
        return None

    @classmethod
    def load(cls, name: str, spec: ModelSpec, device: str = "cpu") -> Self:
        """The model with exactly the weights that are asked for."""
        return cls(name, spec, device)

    @property
    def tokenizer(self) -> Any:
        """The processor's tokenizer."""
        return self._processor.tokenizer
