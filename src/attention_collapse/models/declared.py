"""Models in no table: how a user describes a module in a few lines, and how what the user names is found."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor, nn

from attention_collapse.errors import ModelError
from attention_collapse.families import SINGLE_STREAM
from attention_collapse.models.spec import ModelSpec


@dataclass(frozen=True)
class Declared:
    """What the user's factory returns.

    Attributes
    ----------
    module
        Any PyTorch module in evaluation mode, its weights loaded.
    prepare
        (images, texts) -> the module's keyword arguments, on its device.
    score
        (module, inputs) -> (batch,) matching score.
    sites
        Regular expression of the attention modules, for "single stream" under both names.
    groups
        inputs -> {"vision": labels, "text": labels}: (batch or 1, key) group numbers (0 other, 1 image, 2 text) of the
        keys at the sites read for vision (text→image attention, or the joint attention) and for text.
    rows
        inputs -> {"vision": rows, "text": rows}: (batch, query) booleans, the text queries to average over.
    readout
        The same for the queries whose output feeds the score; None: all of `rows`.
    family
        "single stream" (both groups in one attention) or "cross-attention fusion".
    is_likelihood
        Whether `score` is the text's mean log-likelihood: its reliance then needs hard foils.
    """

    module: nn.Module
    prepare: Callable[[Sequence[Image.Image], Sequence[str]], dict[str, Any]]
    score: Callable[[nn.Module, dict[str, Any]], Tensor]
    sites: Mapping[str, str]
    groups: Callable[[dict[str, Any]], Mapping[str, Tensor]]
    rows: Callable[[dict[str, Any]], Mapping[str, Tensor]]
    readout: Callable[[dict[str, Any]], Mapping[str, Tensor]] | None = None
    family: str = SINGLE_STREAM
    is_likelihood: bool = False


def named_object(name: str, spec: ModelSpec) -> Any:
    """What `factory: "package.module:function"` names."""
    where, _, function = (spec.factory or "").partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` has it: the command's own entry point does not
    try:
        return getattr(import_module(where), function)
    except (ImportError, AttributeError) as error:
        raise ModelError(
            f"{name}: {spec.factory} cannot be imported ({error})",
            expected='"package.module:function" that Python finds from the working folder',
            remedy="check the name, or set PYTHONPATH",
        ) from None
