"""Where a model is to run: a device that this machine has, or one clear sentence."""

from __future__ import annotations

import warnings

import torch

from attention_collapse.errors import ModelError
from attention_collapse.models.boundary import first_sentence

AUTO = "auto"
PLACED = "transformers"  # the library whose models accelerate places layer by layer
KNOWN = ("cpu", "cuda", "mps", "xpu", "hpu", "mtia", "xla")  # that hold numbers and run models


def found_here() -> list[str]:
    """The devices that PyTorch finds on this machine, the CPU last."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator is None:
        return ["cpu"]
    return [*(f"{accelerator.type}:{index}" for index in range(torch.accelerator.device_count())), "cpu"]


def usable_device(name: str, device: object, library: str) -> str:
    """The device to load a model to.

    Parameters
    ----------
    name
        The model's, for messages.
    device
        As PyTorch writes it, or "auto": accelerate spreads the layers of a model of the transformers library over what
        there is; any other model goes to the accelerator of this machine, or to the CPU where there is none.
    library
        The library of the model's kind.

    Raises
    ------
    ModelError
        Not a device, not on this machine, or one that holds no numbers.
    """
    text = str(device) if isinstance(device, str | torch.device) else repr(device)
    here = ", ".join(found_here())
    if text == AUTO:
        return AUTO if library == PLACED else found_here()[0]
    why = "" if isinstance(device, str | torch.device) else f"it is of type {type(device).__name__}, and no name"
    if text.partition(":")[0] == "meta":
        why = "holds shapes without numbers, so that nothing can be measured on it"
    elif not why:
        why = _unusable(text)
    if why:
        raise ModelError(
            f"{name}: device {text!r} cannot be used: {why}",
            expected=f"one of {here} (found on this machine), or auto",
            remedy="name one of these, or install the driver and the build of PyTorch that the device needs",
        )
    return text


def _unusable(device: str) -> str:
    """Why PyTorch cannot use a device; "" where it can."""
    kind = device.partition(":")[0]
    if kind not in KNOWN:
        return f"none of {', '.join(KNOWN)}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            number = torch.device(device).index or 0
            if kind == "cpu" and number:
                return "there is one CPU device"
            torch.empty(1, device=device)
    except NotImplementedError:  # PyTorch prints every backend that it does have
        return f"this build of PyTorch has no {kind}"
    except Exception as error:  # RuntimeError, AssertionError, ModuleNotFoundError: each backend has its own
        return first_sentence(error)
    return ""
