"""Models in no table: a module described by its user in a few lines, or a bare scoring function."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from attention_collapse.errors import ModelError
from attention_collapse.families import CROSS_ATTENTION, NO_ATTENTION, SINGLE_STREAM
from attention_collapse.models.interface import Batch, Output, Pair, Provenance, Read, even_weights
from attention_collapse.models.sites import matching_sites
from attention_collapse.models.spec import ModelSpec
from attention_collapse.probe import IMAGE, TEXT


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
    """

    module: nn.Module
    prepare: Callable[[Sequence[Image.Image], Sequence[str]], dict[str, Any]]
    score: Callable[[nn.Module, dict[str, Any]], Tensor]
    sites: Mapping[str, str]
    groups: Callable[[dict[str, Any]], Mapping[str, Tensor]]
    rows: Callable[[dict[str, Any]], Mapping[str, Tensor]]
    readout: Callable[[dict[str, Any]], Mapping[str, Tensor]] | None = None
    family: str = SINGLE_STREAM


class DeclaredModel:
    """A user's module behind `interface.Model`."""

    def __init__(self, name: str, declared: Declared, provenance: Provenance) -> None:
        if declared.family not in (SINGLE_STREAM, CROSS_ATTENTION):
            raise ModelError(
                f"{name}: family {declared.family!r}",
                expected=f"{SINGLE_STREAM!r} or {CROSS_ATTENTION!r}",
                remedy="say where the text meets the image",
            )
        self.name, self.provenance, self._declared = name, asdict(provenance), declared
        self.module, self.family = declared.module, declared.family
        self.sites = {tower: matching_sites(name, self.module, declared.sites[tower]) for tower in ("vision", "text")}
        self.missing: Mapping[str, str] = {}

    def batch(self, kind: str, contents: Sequence[Pair]) -> Batch:  # noqa: ARG002
        """Inputs of image–caption pairs, as the user prepares them."""
        images, texts = zip(*contents, strict=True)
        table, inputs = self._declared, self._declared.prepare(images, texts)
        labels, rows = table.groups(inputs), table.rows(inputs)
        readout = rows if table.readout is None else table.readout(inputs)
        own = table.family == SINGLE_STREAM
        reads = tuple(
            Read(
                tower,
                self.sites[tower],
                {"all": even_weights(rows[tower]), "readout": even_weights(readout[tower])},
                (labels[tower] == group).sum(-1).expand(len(contents)),
                group=group if own else None,
            )
            for tower, group in (("vision", IMAGE), ("text", TEXT))
        )
        groups = {site: labels[tower] for tower in ("vision", "text") for site in self.sites[tower]}
        return Batch(inputs, reads, groups, (False,) * len(contents))

    def run(self, batch: Batch) -> Output:
        """The user's score."""
        return Output(score=self._declared.score(self.module, batch.inputs))


class Scorer:
    """A scoring function: a model behind an interface that shows no attention. See `interface.Model`."""

    family = NO_ATTENTION
    module = None

    def __init__(self, name: str, function: Callable[..., Sequence[float]], provenance: Provenance) -> None:
        self.name, self._function, self.provenance = name, function, asdict(provenance)
        self.sites: Mapping[str, tuple[str, ...]] = {}
        self.missing = {"vision": "a scoring function shows no attention"}

    def batch(self, kind: str, contents: Sequence[Pair]) -> Batch:  # noqa: ARG002
        """The pairs as they are."""
        return Batch(list(contents), (), {}, (False,) * len(contents))

    def run(self, batch: Batch) -> Output:
        """The function's scores."""
        images, texts = (list(part) for part in zip(*batch.inputs, strict=True))
        scores = torch.as_tensor(self._function(images, texts), dtype=torch.float64)
        if scores.shape != (len(images),):
            raise ModelError(
                f"{self.name}: {tuple(scores.shape)} scores for {len(images)} pairs",
                expected="one number a pair",
                remedy="correct the scoring function",
            )
        return Output(score=scores)


def load(name: str, spec: ModelSpec, device: str = "cpu") -> DeclaredModel | Scorer:  # noqa: ARG001
    """Call the user's factory. Kind "scorer" takes the function itself."""
    where, _, function = (spec.factory or "").partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` has it: the command's own entry point does not
    try:
        found = getattr(import_module(where), function)
    except (ImportError, AttributeError) as error:
        raise ModelError(
            f"{name}: {spec.factory} cannot be imported ({error})",
            expected='"package.module:function" that Python finds from the working folder',
            remedy="check the name, or set PYTHONPATH",
        ) from None
    if spec.kind == "scorer":
        return Scorer(name, found, Provenance(spec.origin, None, None, None, 0, untrained=False))
    declared = found()
    if not isinstance(declared, Declared):
        raise ModelError(
            f"{name}: {spec.factory} returned {type(declared).__name__}",
            expected="attention_collapse.models.declared.Declared",
            remedy="return the table that the README shows",
        )
    declared.module.eval()
    parameters = sum(parameter.numel() for parameter in declared.module.parameters())
    return DeclaredModel(name, declared, Provenance(spec.origin, None, None, None, parameters, untrained=False))
