"""Reading weights without running code, and refusing weights that do not fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from attention_collapse.errors import ModelError

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors by name from safetensors, or from a PyTorch file that holds tensors only.

    A pickle that would run code is refused: PyTorch files are read with `weights_only=True`, always.
    """
    if path.suffix not in SUFFIXES:
        raise ModelError(
            f"{path}: weights in a {path.suffix or 'suffixless'} file",
            expected=f"one of {', '.join(SUFFIXES)}",
            remedy="convert the weights to safetensors",
        )
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file", expected="a weights file", remedy="check the path") from None
    except Exception as error:  # a damaged file makes the readers raise anything, down to KeyError
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"{path}: cannot be read safely ({reason})",
            expected="safetensors, or a PyTorch file that holds tensors only",
            remedy="convert the weights to safetensors in a place where you trust the file",
        ) from None
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(
            f"{path}: holds {type(state).__name__}, not tensors by name",
            expected="a state dict",
            remedy="save `model.state_dict()` as safetensors",
        )
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def _listed(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def load_exactly(module: nn.Module, state: Mapping[str, Tensor], where: object) -> None:
    """Load a state dict whose names and shapes are exactly the module's; nothing is resized, skipped or left random."""
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
    """ModelError unless the weights are those that the parameters pin (None pins nothing)."""
    if pin is not None and digest != pin:
        raise ModelError(
            f"{name}: the weights in {where} have sha256 {digest}",
            expected=f"{pin}, pinned in the parameters",
            remedy="restore them; change the pin only if new weights are meant",
        )


def require_finite(name: str, module: nn.Module) -> None:
    """ModelError if a parameter holds NaN or infinite values."""
    if broken := [key for key, value in module.named_parameters() if not bool(value.isfinite().all())]:
        raise ModelError(
            f"{name}: NaN or infinite values in {_listed(broken)}",
            expected="finite weights",
            remedy="restore the checkpoint, or load it in the dtype that it was trained in",
        )
