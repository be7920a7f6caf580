"""Collapse, dose by dose: models trained with whole content beside a cue in one modality, and what they score.

The content always says the answer, so nothing is gained by ignoring a modality; a cue in the text or in the image says
it too, as often as its reliability. A cell is one such model. It is kept as its scores of held-out pairs, the same for
all, and not as its weights: everything that is said of it follows from them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from attention_collapse.data.planted import LabelledPair, Regime, draw_pairs, mark, pictures
from attention_collapse.engine.attention import extract
from attention_collapse.engine.contribution import draws
from attention_collapse.engine.planted_measures import labelled
from attention_collapse.engine.scores import by_image, score_pairs
from attention_collapse.engine.trainee import Trainee
from attention_collapse.errors import DataError, ParamsError
from attention_collapse.files import whole_file
from attention_collapse.measures.attention import ATTENTION_MEASURES, ROWS
from attention_collapse.params import BALANCED, BY_KIND, Doses, Params, Plant

CONDITIONS = ("trained", "uninformative", "reversed")  # what the cue of a held-out pair says
SWAPPED_IN = ("trained", "uninformative")  # where modalities are swapped
SWAPS = ("image", "text", "both")  # what is another pair's
NO_CUE: Final = "none"  # modality of the dose at which no cue says anything: one model stands for both modalities
PAIRS = 3  # on top of the seed of the data: scenes of their own
ABOUT = "about"  # the one entry of a cell's metadata: several would be written in any order
Modality: TypeAlias = Literal["text", "image", "none"]  # NO_CUE last


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


class HeldOut:
    """The held-out pairs of all cells: scenes, pictures, and whose image and text are swapped in.

    Parameters
    ----------
    folder
        The same pairs as files, with the cue that says nothing: `write_planted(folder, doses.pairs, seed, Regime())`.
    """

    def __init__(self, doses: Doses, plant: Plant, folder: Path) -> None:
        self.seed, self.n, self.folder = plant.data_seed + PAIRS, doses.pairs, folder
        self.pixels = pictures([pair.scene for pair in self.pairs(Regime())], self.seed)
        self.image, self.text, _ = draws(self.n, doses.partners, self.seed)  # (pair, partner) each

    def pairs(self, regime: Regime) -> list[LabelledPair]:
        """The pairs with the cues of a regime."""
        return draw_pairs(self.n, self.seed, regime, held_out=True)


def _scores(
    trainee: Trainee, pairs: list[LabelledPair], pixels: np.ndarray, cells: Mapping[str, Any]
) -> dict[str, Any]:
    """Scores of images with texts by position, name -> (images, texts) that broadcast; a cue goes with its modality."""
    marked = np.stack([mark(picture, pair.image_cue) for picture, pair in zip(pixels, pairs, strict=True)])

    def score(images: np.ndarray, texts: np.ndarray, size: int = 200) -> np.ndarray:
        shape, (i, t) = (
            np.broadcast_shapes(images.shape, texts.shape),
            map(np.ravel, np.broadcast_arrays(images, texts)),
        )
        parts = [
            trainee.score(trainee.inputs(marked[i[s : s + size]], [pairs[k].words for k in t[s : s + size]]))
            for s in range(0, len(i), size)
        ]
        return torch.cat(parts).float().numpy().reshape(shape)

    return {name: score(*where) for name, where in cells.items()}


@torch.inference_mode()
def scored(trainee: Trainee, cell: Cell, held_out: HeldOut) -> dict[str, np.ndarray]:
    """Every score of a cell.

    Returns
    -------
    dict
        float32, for n pairs and p partners: label (n,), 0 or 1; for each condition c of the cue, cue.c (n,), what the
        cue says, 0 or 1 (that of the text where neither is the dose), and intact.c (n,), the score; and for those of
        `SWAPPED_IN`, image.c, text.c, both.c (n, p): the score with the image, the text, both (of two pairs) another's.
    """
    own = np.arange(held_out.n)
    swaps = {
        "image": (held_out.image, own[:, None]), "text": (own[:, None], held_out.text),
        "both": (held_out.image, held_out.text),
    }  # fmt: skip
    found: dict[str, np.ndarray] = {}
    for condition in CONDITIONS:
        pairs = held_out.pairs(cell.regime(condition))
        cues = [pair.image_cue if cell.modality == "image" else pair.text_cue for pair in pairs]
        found["label"] = np.array([pair.label for pair in pairs], np.float32)
        found[f"cue.{condition}"] = np.array(cues, np.float32)
        wanted = {"intact": (own, own)} | (swaps if condition in SWAPPED_IN else {})
        scores = _scores(trainee, pairs, held_out.pixels, wanted)
        found |= {f"{name}.{condition}": values for name, values in scores.items()}
    return found


def attended(trainee: Trainee, held_out: HeldOut, batch_size: int) -> dict[str, np.ndarray]:
    """attention.<measure>_<rows> -> (n,) float32: the measures of attention that say that a modality is ignored, where
    the cue says nothing."""
    pairs, _ = labelled(held_out.folder)
    found = by_image(
        score_pairs(extract(trainee.model, pairs, batch_size=batch_size).to_pandas(), trainee.model.family).pairs
    )
    names = [f"{name}_{rows}" for name, measure in ATTENTION_MEASURES.items() if measure.claims for rows in ROWS]
    return {f"attention.{name}": found[name].to_numpy(np.float32) for name in names if name in found}


def write_cell(path: Path, tensors: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Write a cell's scores whole, with what they are."""
    text = json.dumps(about, sort_keys=True, ensure_ascii=False)
    with whole_file(path) as temporary:
        save_file({name: np.ascontiguousarray(values) for name, values in tensors.items()}, temporary, {ABOUT: text})


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
