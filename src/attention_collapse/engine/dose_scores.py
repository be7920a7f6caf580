"""Committed scores of the models trained dose by dose: read, and checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from attention_collapse.engine.doses import ABOUT, Cell
from attention_collapse.errors import DataError


def about_cell(folder: Path, cell: Cell) -> dict[str, Any]:
    """What a cell's file says of itself; nothing if there is none."""
    file = folder / f"{cell.name}.safetensors"
    return read_cell(file)[1] if file.is_file() else {}


def read_cell(file: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A cell's tensors (see `doses.scored`, `doses.attended`) in float64, and what the file says of itself."""
    try:
        with safe_open(file, framework="numpy") as stored:
            about = json.loads((stored.metadata() or {})[ABOUT])
            return {name: stored.get_tensor(name).astype(np.float64) for name in stored.keys()}, about  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise DataError(
            f"{file}: no scores of a model ({error})", expected="a file as the stage train_doses writes it",
            remedy="restore it (`git checkout -- FILE`), or remove it and run `dvc repro -f train_doses`",
        ) from None  # fmt: skip
