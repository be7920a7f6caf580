"""The kinds of model there are, and what each says of itself, read without importing its libraries.

A kind is one module: a file of `models/kinds`, whose name is the kind's with `_` for `-`, or a module that another
package names in the entry-point group `attention_collapse.kinds`. It has a function `load(name, spec, device)` and, as
literals that are read from its source:

LABEL
    The kind's name in print.
LIBRARY
    "open_clip", "transformers", "in-house" (our own architectures) or "user" (the user's own code makes the model).
MODEL_TYPES
    Values of `model_type` in the config.json of its checkpoints.
CATALOGUE
    Models by name: `weights` and the other fields of their `ModelSpec`, beside `licence` (of the weights, as far as
    known: the model's page is what counts) and `millions` (of parameters, rounded; None where a file here tells).

What its class says is in `models.interface.KindOfModel`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.machinery import PathFinder
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from attention_collapse.errors import ModelError

GROUP = "attention_collapse.kinds"
OWN = Path(__file__).resolve().with_name("models") / "kinds"
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")  # no dot: DVC would read it as a step into a mapping
LITERALS: dict[str, type] = {"LABEL": str, "LIBRARY": str, "MODEL_TYPES": tuple, "CATALOGUE": dict}
LIBRARIES = ("open_clip", "transformers", "in-house", "user")


@dataclass(frozen=True)
class Kind:
    """A kind of model: its name, the module to import and that module's source, and the literals described above."""

    name: str
    module: str
    file: Path
    label: str
    library: str
    model_types: tuple[str, ...]
    catalogue: Mapping[str, Mapping[str, Any]]

    @property
    def config(self) -> str:
        """The file of a checkpoint folder that says what the model is."""
        return "open_clip_config.json" if self.library == "open_clip" else "config.json"


def _read(name: str, module: str, file: Path) -> Kind:
    found: dict[str, Any] = {}
    for node in ast.parse(file.read_text("utf-8")).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(target, ast.Name) and target.id in LITERALS:
            with suppress(ValueError, TypeError):  # no literal
                found[target.id] = ast.literal_eval(node.value or "")
    wrong = [key for key, kind in LITERALS.items() if not isinstance(found.get(key), kind)]
    if wrong or found["LIBRARY"] not in LIBRARIES:
        raise ModelError(
            f"kind {name}: {file} does not say {', '.join(wrong) or 'a known LIBRARY'}",
            expected=f"{', '.join(LITERALS)} as literals of the module, LIBRARY one of {', '.join(LIBRARIES)}",
            remedy="see registry.py and any module of models/kinds",
        )
    return Kind(name, module, file, *(found[key] for key in LITERALS))


@cache
def own_kinds() -> Mapping[str, Kind]:
    """The kinds of this package by name."""
    named = {file.stem.replace("_", "-"): file for file in sorted(OWN.glob("[a-z]*.py"))}
    return {name: _read(name, f"{__package__}.models.kinds.{file.stem}", file) for name, file in named.items()}


@cache
def kinds() -> Mapping[str, Kind]:
    """Every kind by name: those of this package, then those that other installed packages bring."""
    found = dict(own_kinds())
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        if point.name in found:
            raise ModelError(
                f"kind {point.name!r} of {point.value} is also {found[point.name].module}",
                expected="one module per kind",
                remedy=f"rename the entry point of group {GROUP}, or uninstall its package",
            )
        file = _source(point.value)
        if file is None or not NAME.fullmatch(point.name):
            raise ModelError(
                f"entry point {point.name!r} = {point.value!r} of group {GROUP}",
                expected="a kind's name (letters, digits and hyphens) and a module of Python source",
                remedy="correct the entry point, or uninstall its package",
            )
        found[point.name] = _read(point.name, point.value, file)
    return found


def kind_label(name: str) -> str:
    """A kind's name in print."""
    return kinds()[name].label


def _source(module: str) -> Path | None:
    """The source file of a module, found without importing the packages around it."""
    first, *rest = module.split(".")
    name, spec = first, find_spec(first)
    for part in rest:
        name = f"{name}.{part}"
        spec = PathFinder.find_spec(name, spec.submodule_search_locations) if spec else None
    origin = spec.origin if spec else None
    return Path(origin) if origin and origin.endswith(".py") else None
