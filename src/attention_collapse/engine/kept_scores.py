"""Which models have no scores yet, and keeping those of a model that was just trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from attention_collapse.engine.dose_cells import Kept, about_cell, write_cell
from attention_collapse.files import evidence_id

C = TypeVar("C", bound=Kept)
CONTENTS = "scores of held-out pairs by a model whose weights are not kept"


def unscored(mine: Iterable[C], folder: Path, parameters: Callable[[C], Mapping[str, Any]]) -> list[C]:
    """The cells whose file in `folder` is missing, or was made by other parameters."""
    return [cell for cell in mine if about_cell(folder, cell).get("parameters") != parameters(cell)]


def keep(
    folder: Path, cell: Kept, tensors: Mapping[str, np.ndarray], *,
    stage: str, parameters: Mapping[str, Any], code: str, told: Mapping[str, Any],
) -> None:  # fmt: skip
    """Write a cell's scores whole, with what decides them, how to train it anew, and what its training `told`."""
    about = {
        "contents": CONTENTS, "parameters": parameters, "code": code,
        "evidence_id": evidence_id(stage, parameters, {"code": code}),
        "trained_by": f"dvc repro -f {stage}@{cell.kind}", **told,
    }  # fmt: skip
    write_cell(folder / f"{cell.name}.safetensors", tensors, about)
