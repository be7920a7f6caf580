"""Reading weights without running code, and refusing weights that do not fit."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from attention_collapse.errors import ModelError

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
# What torch.compile, FSDP and activation checkpointing put into the names of a module's tensors, at any depth.
INSERTED = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
EVERY_CLIP_HAS = "logit_scale"  # the tensor by which the place of a model within a larger one is known


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors by name from safetensors, or from a PyTorch file: a state dict, or a training checkpoint that holds one.

    A pickle that would run code is refused: PyTorch files are read with `weights_only=True`, always. What else a
    training checkpoint holds, such as the optimiser's state, stays on the disk (its tensors are mapped, not read). The
    names are those of the model before DDP, FSDP or torch.compile wrapped it.

    Examples
    --------
    >>> import tempfile

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"state_dict": {"module.weight": torch.ones(2)}, "epoch": 3}, Path(folder, "epoch_3.pt"))
    ...     read_state_dict(Path(folder, "epoch_3.pt"))
    {'weight': tensor([1., 1.])}
    """
    if path.suffix not in SUFFIXES:
        raise ModelError(
            f"{path}: weights in a {path.suffix or 'suffixless'} file",
            expected=f"one of {', '.join(SUFFIXES)}",
            remedy="convert the weights to safetensors",
        )
    try:
        if path.suffix == ".safetensors":
            saved: Any = dict(load_file(path))
        else:
            saved = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file", expected="a weights file", remedy="check the path") from None
    except Exception as error:  # a damaged file makes the readers raise anything, down to KeyError
        raise _unsafe(path, error) from None
    return _unwrapped(path, _state_dict(path, saved))


def _unsafe(path: Path, error: Exception) -> ModelError:
    """What to say of a file that holds more than tensors and plain containers, or is damaged."""
    text = str(error) or type(error).__name__
    classes = re.findall(r"GLOBAL ([\w.]+) was not an allowed global", text)
    return ModelError(
        f"{path}: cannot be read safely ({f'it holds {classes[0]}' if classes else text.splitlines()[0]})",
        expected="safetensors, or a PyTorch file that holds tensors and plain containers only",
        remedy="reading such a file can run code, so it is not done here: in the program that wrote it, save the "
        "tensors alone: safetensors.torch.save_file(model.state_dict(), FILE), or torch.save(model.state_dict(), FILE)",
    )


def _is_state_dict(value: object) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(one, Tensor) for one in value.values())


def _state_dict(path: Path, saved: Any) -> Mapping[str, Tensor]:
    """The one state dict that a file is or holds: under "state_dict" (open_clip, Lightning), "model" or another key."""
    if _is_state_dict(saved):
        found: Mapping[str, Tensor] = saved
        return found
    held = [key for key, value in saved.items() if _is_state_dict(value)] if isinstance(saved, Mapping) else []
    if len(held) != 1:
        keys = f" with the keys {_listed([str(key) for key in saved])}" if isinstance(saved, Mapping) else ""
        several = f" and {len(held)} state dicts: {', '.join(str(key) for key in held)}" if held else ""
        raise ModelError(
            f"{path}: holds {type(saved).__name__}, not tensors by name{keys}{several}",
            expected="a state dict, or a training checkpoint that holds one",
            remedy="save the model's `state_dict()` alone, as safetensors or by torch.save",
        )
    return _state_dict(path, saved[held[0]])


def _unwrapped(path: Path, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by the names that they had before the model was wrapped, in whatever order that was done."""
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        parts = [part for part in str(key).split(".") if part not in INSERTED]
        while len(parts) > 1 and parts[0] == "module":  # DDP, once for each time that it was wrapped
            del parts[0]
        if (name := ".".join(parts)) in found:
            raise ModelError(
                f"{path}: two tensors are {name} once the wrappers' names are left out",
                expected="the tensors of one model",
                remedy="save the unwrapped model's `state_dict()`",
            )
        found[name] = value
    return found


def without_owner(state: Mapping[str, Tensor], where: object) -> tuple[dict[str, Tensor], list[str]]:
    """A CLIP's tensors out of those of the module that held it as an attribute, and notes on what that held besides.

    Lightning names them `model.visual.conv1.weight` for the attribute `model`. Where the model is saved by itself, the
    tensors are what they were.

    Examples
    --------
    >>> state = {"model.logit_scale": torch.ones(()), "loss.weight": torch.ones(2)}
    >>> without_owner(state, "last.ckpt")
    ({'logit_scale': tensor(1.)}, ["1 tensors beside the model's are not used: loss.weight"])
    """
    owners = sorted({key.removesuffix(EVERY_CLIP_HAS) for key in state if f".{key}".endswith(f".{EVERY_CLIP_HAS}")})
    if not owners or "" in owners:
        return dict(state), []
    if len(owners) > 1:
        raise ModelError(
            f"{where}: holds several models: {', '.join(owner.rstrip('.') for owner in owners)}",
            expected="one model",
            remedy="save the `state_dict()` of the one that is meant alone",
        )
    beside = sorted(key for key in state if not key.startswith(owners[0]))
    notes = [f"{len(beside)} tensors beside the model's are not used: {_listed(beside)}"] if beside else []
    return {key.removeprefix(owners[0]): value for key, value in state.items() if key.startswith(owners[0])}, notes


def _listed(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def load_exactly(module: nn.Module, state: Mapping[str, Tensor], where: object) -> None:
    """Load a state dict whose names and shapes are exactly the module's; nothing is resized, skipped or left random.

    Examples
    --------
    >>> layer = nn.Linear(1, 1)
    >>> load_exactly(layer, {"weight": torch.tensor([[2.0]]), "bias": torch.tensor([1.0])}, "weights.pt")
    >>> layer(torch.tensor([3.0])).item()
    7.0
    """
    own = module.state_dict()
    problems = []
    if missing := sorted(own.keys() - state.keys()):
        problems.append(f"missing {_listed(missing)}")
    if extra := sorted(state.keys() - own.keys()):
        problems.append(f"unknown {_listed(extra)}")
    if wrong := [
        f"{name} {tuple(state[name].shape)} where the model has {tuple(own[name].shape)}"
        for name in sorted(own.keys() & state.keys())
        if state[name].shape != own[name].shape
    ]:
        problems.append(f"shape of {_listed(wrong)}")
    if not problems and (broken := [name for name, value in state.items() if not bool(value.isfinite().all())]):
        problems.append(f"NaN or infinite values in {_listed(sorted(broken))}")
    if problems:
        raise ModelError(
            f"{where}: {'; '.join(problems)}",
            expected=f"the {len(own)} tensors of the architecture, in its shapes, all finite",
            remedy="check that the checkpoint and the architecture belong together",
        )
    module.load_state_dict(dict(state))


def require_sha256(name: str, where: object, digest: str, pin: str | None) -> None:
    """ModelError unless the weights are those that the parameters pin (None pins nothing).

    Examples
    --------
    >>> require_sha256("mine", "weights.pt", "ab12", pin=None)
    >>> try: require_sha256("mine", "weights.pt", "ab12", pin="cd34")
    ... except ModelError as error: error.got
    'mine: the weights in weights.pt have sha256 ab12'
    """
    if pin is not None and digest != pin:
        raise ModelError(
            f"{name}: the weights in {where} have sha256 {digest}",
            expected=f"{pin}, pinned in the parameters",
            remedy="restore them; change the pin only if new weights are meant",
        )


def require_finite(name: str, module: nn.Module) -> None:
    """ModelError if a parameter holds NaN or infinite values.

    Examples
    --------
    >>> layer = nn.Linear(1, 1)
    >>> _ = nn.init.constant_(layer.bias, float("nan"))
    >>> try: require_finite("mine", layer)
    ... except ModelError as error: error.got
    'mine: NaN or infinite values in bias'
    """
    if broken := [key for key, value in module.named_parameters() if not bool(value.isfinite().all())]:
        raise ModelError(
            f"{name}: NaN or infinite values in {_listed(broken)}",
            expected="finite weights",
            remedy="restore the checkpoint, or load it in the dtype that it was trained in",
        )
