"""LoRA adapters in PEFT's format: read safely, merged into the model that they were trained on, or refused."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from attention_collapse.errors import ModelError
from attention_collapse.files import sha256_file
from attention_collapse.models.checkpoint import read_state_dict, require_finite
from attention_collapse.models.hub import hub_folder, snapshot_revision

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
BY_HAND = (
    "merge it by hand: `peft.PeftModel.from_pretrained(model, FOLDER).merge_and_unload().save_pretrained(MERGED)` and "
    "`processor.save_pretrained(MERGED)`, then measure MERGED"
)


@dataclass(frozen=True, kw_only=True)
class Merged:
    """The adapter that went into a model, as its provenance says it.

    Attributes
    ----------
    adapter
        The folder or hub repository.
    adapter_sha256, adapter_definition_sha256
        Of its weights file, and of adapter_config.json, which scales them.
    adapter_revision
        The hub's commit; None for a folder.
    """

    adapter: str
    adapter_sha256: str
    adapter_definition_sha256: str
    adapter_revision: str | None


def _configuration(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / CONFIG).read_text("utf-8"))
        kind = found["peft_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{folder / CONFIG}: absent, or not an adapter's configuration ({error!r})",
            expected="the file that `save_pretrained` of a PEFT model writes",
            remedy="check the path; save the adapter with PEFT",
        ) from None
    if kind != "LORA":
        raise ModelError(
            f"{folder}: an adapter of type {kind}",
            expected="LORA, which can be merged into the weights exactly",
            remedy=f"if PEFT can merge this type, {BY_HAND}; a prompt or prefix cannot be merged",
        )
    return dict(found)


def base_of(folder: Path) -> tuple[str, str | None]:
    """The model that an adapter was trained on, and its revision, as the adapter's configuration names them."""
    found = _configuration(folder)
    base, revision = found.get("base_model_name_or_path"), found.get("revision")
    if not isinstance(base, str) or not base:
        raise ModelError(
            f"{folder / CONFIG} names no base model",
            expected="base_model_name_or_path",
            remedy=f"name the base yourself: --model BASE --adapter {folder}",
        )
    return base, None if revision in (None, "", "main") else str(revision)


def _folder(name: str, adapter: str) -> Path:
    """Where an adapter lies: a folder, or a hub repository's snapshot."""
    if Path(adapter).is_dir():
        return Path(adapter)
    repo, _, revision = adapter.partition("@")
    if repo.count("/") != 1 or repo.startswith((".", "/")):
        raise ModelError(
            f"{name}: no adapter at {adapter}",
            expected="a folder with adapter_config.json, or organisation/name@revision on the hub",
            remedy="check the path",
        )
    return hub_folder(name, repo, revision or None, CONFIG, WEIGHTS)


def _refused(name: str, adapter: str, error: object) -> ModelError:
    text = str(error).strip() or type(error).__name__
    return ModelError(
        f"{name}: the adapter {adapter} does not fit the model ({text.splitlines()[0][:300]})",
        expected="a LoRA that was trained on this model: its modules, in its shapes",
        remedy="check that the base model is the one that it was trained on, in the same library's version",
    )


def merge(name: str, module: Any, adapter: str) -> tuple[Any, Merged]:
    """The module with an adapter merged into its weights, and what was merged.

    Every tensor of the adapter finds its place, or nothing is measured. What the adapter trained whole
    (`modules_to_save`) replaces the module's own.
    """
    folder = _folder(name, adapter)
    _configuration(folder)
    if find_spec("peft") is None:
        raise ModelError(
            f"{name}: {adapter} is an adapter, and PEFT is not installed here",
            expected="the package peft, which merges it",
            remedy=f"`pip install peft`; or where it is installed, {BY_HAND}",
        )
    file = next((folder / one for one in WEIGHTS if (folder / one).is_file()), None)
    if file is None:
        raise ModelError(
            f"{name}: no weights in {folder}", expected=" or ".join(WEIGHTS), remedy="save the adapter with PEFT"
        )
    state = read_state_dict(file)
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what PEFT warns of is an error here
            merged = _merged(module, folder, state)
    except ModelError as error:
        raise _refused(name, adapter, error.got) from None
    except Exception as error:  # PEFT meets modules of any kind, and raises anything
        raise _refused(name, adapter, error) from None
    require_finite(name, merged)
    merged.eval().requires_grad_(False)
    revision = snapshot_revision(folder)
    return merged, Merged(
        adapter=adapter, adapter_sha256=sha256_file(file), adapter_definition_sha256=sha256_file(folder / CONFIG),
        adapter_revision=revision,
    )  # fmt: skip


def _merged(module: Any, folder: Path, state: dict[str, torch.Tensor]) -> Any:
    from peft import PeftConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict

    config: Any = PeftConfig.from_pretrained(str(folder))
    config.inference_mode = True
    wrapped: Any = PeftModel(module, config)
    found: Any = set_peft_model_state_dict(wrapped, dict(state))
    own = get_peft_model_state_dict(wrapped)
    if unexpected := sorted(found.unexpected_keys):
        raise ModelError(f"{len(unexpected)} tensors such as {unexpected[0]}", expected="", remedy="")
    if len(own) != len(state):
        raise ModelError(f"{len(state)} tensors where the model takes {len(own)}", expected="", remedy="")
    for key in own.keys() & state.keys():
        if not torch.equal(own[key].float().cpu(), state[key].float()):
            raise ModelError(f"{key} was not taken as it is", expected="", remedy="")
    return wrapped.merge_and_unload(safe_merge=True)
