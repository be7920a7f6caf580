"""Parts of a model object that its user has replaced: found by comparison with a fresh model of the class."""

from __future__ import annotations

import copy
from typing import Any

import torch
import transformers
from torch import nn

from attention_collapse.errors import ModelError

Replaced = dict[str, tuple[str, str]]  # part -> (its class, the class that it had)


def replaced_towers(name: str, module: Any, kind: Any) -> Replaced:
    """The largest parts that are of another class than in a fresh model of the same configuration.

    Classes derived from the library's count as the library's, layers that an adapter has put around a matrix are no
    replacement, and fewer or more layers are none either.
    """
    library = getattr(transformers, kind.class_name)
    try:
        with torch.device("meta"):
            fresh: nn.Module = library(copy.deepcopy(module.config))
    except Exception as error:  # a configuration that the user has changed
        raise ModelError(
            f"{name}: its configuration describes no {kind.class_name} ({type(error).__name__}: {str(error)[:200]})",
            expected="the configuration that the model was made of",
            remedy="save the model (`save_pretrained`), correct config.json, and measure the folder",
        ) from None
    own, found = dict(module.named_modules()), Replaced()
    for site, before in fresh.named_modules():
        now = own.get(site)
        inner = any(site.startswith(f"{part}.") for part in found)
        if now is None or inner or not any(True for _ in before.children()) or isinstance(now, type(before)):
            continue
        found[site] = (type(now).__name__, type(before).__name__)
    return found
