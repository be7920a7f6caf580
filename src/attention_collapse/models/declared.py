"""Models in no table: how a user describes a module in a few lines, and how what the user names is found."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor, nn

from attention_collapse.errors import AttentionCollapseError, ModelError
from attention_collapse.families import SINGLE_STREAM
from attention_collapse.models.boundary import first_sentence
from attention_collapse.models.spec import ModelSpec

NOT_THEIRS = (str(Path(__file__).resolve().parents[1]), str(Path(importlib.__file__).parent), "<frozen")


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
    """What `factory: "package.module:function"` names.

    Examples
    --------
    >>> named_object("mine", ModelSpec(kind="scorer", weights="factory", factory="math:prod"))((2, 3))
    6
    """
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
    except Exception as error:  # the user's module runs while it is imported
        raise ModelError(
            f"{name}: {where} raised {told(error)} while it was imported",
            expected="a module that can be imported",
            remedy="correct it: `python -c 'import {where}'` shows the same".replace("{where}", where),
        ) from error


def told(error: BaseException) -> str:
    """An exception of a user's code: its class, its first sentence, and the user's line that it came from.

    Examples
    --------
    >>> told(ValueError("no score for a picture of one pixel"))
    'ValueError: no score for a picture of one pixel'
    """
    said = first_sentence(error)
    kind = type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(NOT_THEIRS)]
    place = f" in {Path(own[0].filename).name}, line {own[0].lineno}" if own else ""
    return f"{said if said.startswith(kind) else f'{kind}: {said}'}{place}"


@contextmanager
def users_code(name: str, what: str) -> Iterator[None]:
    """Raise what a user's code raises within as a ModelError that names it; the cause stays attached."""
    try:
        yield
    except AttentionCollapseError:
        raise
    except Exception as error:
        raise ModelError(
            f"{name}: {what} raised {told(error)}",
            expected="a function that takes every picture with every caption",
            remedy="correct it, or leave out what it cannot take",
        ) from error
