"""Cells: the models trained dose by dose, what decides them, and the files that keep their scores.

The content always says the answer, so nothing is gained by ignoring a modality; a cue in the text or in the image says
it too, as often as its reliability. A cell is one such model. It is kept as its scores of held-out pairs, the same for
all, and not as its weights: everything that is said of it follows from them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Protocol, TypeAlias

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from attention_collapse.data.planted import Regime
from attention_collapse.errors import DataError, ParamsError
from attention_collapse.files import whole_file
from attention_collapse.params import BALANCED, BY_KIND, Doses, Params, Plant

CONDITIONS = ("trained", "uninformative", "reversed")  # what the cue of a held-out pair says
SWAPPED_IN = ("trained", "uninformative")  # where modalities are swapped
NO_CUE: Final = "none"  # modality of the dose at which no cue says anything: one model stands for both modalities
ABOUT = "about"  # the one entry of a cell's metadata: several would be written in any order
Modality: TypeAlias = Literal["text", "image", "words", "none"]  # words: a prior spread over them; NO_CUE last


class Kept(Protocol):
    """A model that is kept as its scores: a frozen dataclass of what decides it."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def kind(self) -> str:
        """Of the model."""

    @property
    def name(self) -> str:
        """Of its file, among those of its kind."""


@dataclass(frozen=True)
class Cell:
    """One model: its kind, where its cue is, how reliable that was in training, and its seed."""

    kind: str
    modality: Modality
    reliability: float
    seed: int

    @property
    def name(self) -> str:
        """Of its file, among those of its kind."""
        return f"{self.modality}-{self.reliability:g}-{self.seed}"

    def regime(self, condition: str) -> Regime:
        """How often the cue agrees with the label; the content always does."""
        says = {"trained": self.reliability, "uninformative": BALANCED, "reversed": 1 - self.reliability}[condition]
        return Regime() if self.modality == NO_CUE else Regime(**{self.modality: says})


def sections(params: Params) -> tuple[Doses, Plant]:
    """The study's doses and the recipe they go by."""
    if params.doses is None or params.plant is None:
        raise ParamsError(
            f"{params.params_file} has no section {'plant' if params.doses else 'doses'}",
            expected="the sections doses and plant", remedy="add it",
        )  # fmt: skip
    return params.doses, params.plant


def cells(doses: Doses) -> list[Cell]:
    """Every cell, in the order of training: kind by kind, modality by modality, seed by seed."""
    found = [
        Cell(kind, modality if reliability > BALANCED else NO_CUE, reliability, seed)
        for kind in doses.kinds
        for modality in doses.modalities
        for seed in doses.seeds
        for reliability in doses.reliabilities
    ]
    return list(dict.fromkeys(found))


def recipe_of(plant: Plant, kind: str) -> dict[str, Any]:
    """What decides a kind's weights besides a cell's own dose and seed."""
    recipe = plant.recipe.model_dump()
    recipe |= {name: recipe[name][kind] for name in BY_KIND}
    return {"scenes": plant.scenes, "data_seed": plant.data_seed, "threads": plant.threads, "recipe": recipe}


def parameters_of(cell: Cell, doses: Doses, plant: Plant) -> dict[str, Any]:
    """What decides a cell's scores, besides code and libraries."""
    return {**asdict(cell), **recipe_of(plant, cell.kind), "pairs": doses.pairs, "partners": doses.partners}


def write_cell(path: Path, tensors: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Write a cell's scores whole, with what they are."""
    text = json.dumps(about, sort_keys=True, ensure_ascii=False)
    with whole_file(path) as temporary:
        save_file({name: np.ascontiguousarray(values) for name, values in tensors.items()}, temporary, {ABOUT: text})


def about_cell(folder: Path, cell: Kept) -> dict[str, Any]:
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
