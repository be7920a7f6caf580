"""A model object below its wrappers: whether its weights are plain numbers, their hash, and a copy around them."""

from __future__ import annotations

import copy
import hashlib
import itertools
from typing import Any

import torch
from torch import Tensor, nn

from attention_collapse.errors import ModelError

LIBRARIES = ("open_clip", "transformers")
QUANTISING = ("bitsandbytes", "torchao", "auto_gptq", "gptqmodel", "awq", "optimum", "quanto", "hqq", "eetq", "aqlm")
QUANTISED = ("Linear4bit", "Linear8bitLt", "QuantLinear", "Params4bit", "Int8Params")  # classes, whoever brings them
FLAGS = ("is_quantized", "is_loaded_in_4bit", "is_loaded_in_8bit", "quantization_method", "hf_quantizer")


def _packages(found: object) -> list[str]:
    return [cls.__module__.split(".")[0] for cls in type(found).__mro__]


def library_of(module: object) -> str | None:
    """The library that an object's class, or one that it derives from, belongs to; None for another."""
    return next((package for package in _packages(module) if package in LIBRARIES), None)


def unwrapped(model: Any) -> Any:
    """The model below torch.compile, DataParallel, DDP and PEFT, in whatever order they were put around it.

    A PEFT model's own layers stay in the model below, and stay active. What is no module is given back as it is.
    """
    while True:
        if "_orig_mod" in getattr(model, "_modules", {}):  # torch.compile
            model = model._orig_mod
        elif isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif "peft" in _packages(model) and hasattr(model, "get_base_model"):
            _require_layers(model)
            model = model.get_base_model()
        else:
            return model


def _require_layers(model: Any) -> None:
    """ModelError for an adapter that is more than layers within the model, and so would be lost."""
    kinds = {str(getattr(config.peft_type, "value", config.peft_type)) for config in model.peft_config.values()}
    if any(getattr(config, "is_prompt_learning", False) for config in model.peft_config.values()):
        raise ModelError(
            f"{type(model).__name__}: an adapter of type {', '.join(sorted(kinds))}, which puts tokens before the text",
            expected="an adapter within the layers, such as LoRA",
            remedy="describe the model with kind: python (docs/adding.md)",
        )


def require_plain(name: str, module: Any) -> None:
    """ModelError for what is no module, or whose weights are quantised, sharded or absent."""
    if not isinstance(module, nn.Module):
        what = (
            f"the class {module.__name__}"
            if isinstance(module, type)
            else f"an object of class {type(module).__name__}"
        )
        raise ModelError(
            f"model is {what}",
            expected="a name, a folder, a mapping, or a loaded torch.nn.Module",
            remedy="give the model itself: for a pipeline its `.model`, for a class what `from_pretrained` returns",
        )
    if any("FullySharded" in type(part).__name__ for part in module.modules()):
        raise _sharded(name)
    if reason := _quantised(module):
        raise ModelError(
            f"{name}: quantised weights ({reason})",
            expected="weights in float32, bfloat16 or float16: other numbers are another model's",
            remedy="load it without quantization_config, in bfloat16 if memory is short; or measure its scores alone, "
            "with --kind scorer (docs/adding.md, “A model in no table”)",
        )
    for key, tensor in module.named_parameters():
        if tensor.is_meta:
            raise ModelError(
                f"{name}: {key} lies on the meta device and holds no numbers",
                expected="a model whose weights are loaded",
                remedy="load it without init_empty_weights and without offloading to the disk",
            )
        if type(tensor).__name__ == "DTensor" or type(tensor.data).__name__ == "DTensor":
            raise _sharded(name)


def _sharded(name: str) -> ModelError:
    return ModelError(
        f"{name}: weights sharded over several processes",
        expected="the whole model in one process",
        remedy="save it whole (the full state dict), and measure the folder or the file",
    )


def _quantised(module: Any) -> str | None:
    """By what sign the weights are known to be quantised; None for plain ones."""
    config = getattr(module, "config", None)
    signs = [flag for flag in FLAGS if getattr(module, flag, None)]
    signs += ["quantization_config"] if getattr(config, "quantization_config", None) else []
    for key, part in module.named_modules():
        layer = type(part)
        packed = ".quantized" in layer.__module__ or layer.__module__.split(".")[0] in QUANTISING
        signs += [f"{key} is {layer.__name__}"] if packed or layer.__name__ in QUANTISED else []
    for key, tensor in itertools.chain(module.named_parameters(), module.named_buffers()):
        weight = isinstance(tensor, nn.Parameter) or key.endswith(("weight", "weight_packed"))
        packed = _packages(tensor)[0] in QUANTISING or type(tensor).__name__ in QUANTISED
        if packed or (weight and not tensor.is_floating_point()):
            signs.append(f"{key} is {str(tensor.dtype).removeprefix('torch.')}")
    return signs[0] if signs else None


def sharing_copy(name: str, module: nn.Module) -> Any:
    """A module of the same structure over the memory of the same parameters and buffers, in evaluation mode."""
    shared: dict[int, Any] = {id(buffer): buffer for buffer in module.buffers()}
    shared |= {id(one): nn.Parameter(one.detach(), requires_grad=False) for one in module.parameters()}
    try:
        return copy.deepcopy(module, shared).eval()
    except Exception as error:  # the user's own attributes may refuse to be copied in any way
        raise ModelError(
            f"{name}: the object cannot be copied beside its weights ({first_line(error)})",
            expected="a module whose attributes can be copied, so that the object itself stays untouched",
            remedy="save it (`save_pretrained`) and measure the folder, or take off what cannot be copied",
        ) from None


def first_line(error: BaseException) -> str:
    """An error's class and the first line of its message."""
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0][:200]}"


def state_sha256(module: nn.Module) -> str:
    """Hash of a module's tensors, by name: the name, type and shape of each, and its bytes."""
    digest = hashlib.sha256()
    for key, value in sorted(module.state_dict().items()):
        if isinstance(value, Tensor):
            digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
