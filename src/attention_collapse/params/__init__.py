"""The parameter file of a study as frozen objects, section by section."""

from attention_collapse.params.measuring import Contribution, Decision, Engine, ExtractAttention, FetchCoco, Stats
from attention_collapse.params.reading import Params, load_params, parse_engine, parse_spec
from attention_collapse.params.training import (
    BALANCED,
    BY_KIND,
    Answers,
    Arm,
    Dose,
    Doses,
    GainRule,
    Plant,
    PlantingRecipe,
    Prevention,
    TrainControls,
    Way,
)

__all__ = [
    "BALANCED",
    "BY_KIND",
    "Answers",
    "Arm",
    "Contribution",
    "Decision",
    "Dose",
    "Doses",
    "Engine",
    "ExtractAttention",
    "FetchCoco",
    "GainRule",
    "Params",
    "Plant",
    "PlantingRecipe",
    "Prevention",
    "Stats",
    "TrainControls",
    "Way",
    "load_params",
    "parse_engine",
    "parse_spec",
]
