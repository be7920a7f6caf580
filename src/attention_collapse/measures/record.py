"""What the project knows of a measure, in one record beside its formula.

Tables, statistics, figures, reports, the verdicts on planted models and the documentation are made from these records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import signature
from types import ModuleType
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from attention_collapse.families import NO_ATTENTION

Floats = NDArray[np.float64]
ATTENTION, CONTRIBUTION = "attention", "contribution"
BY_SEVERITY: Final = "severe"  # bounds: a share whose imbalance is above the study's bound of severity


@dataclass(frozen=True)
class Hypothesis:
    """A value that the mean of a measure is tested against, and the key of the test in the metrics."""

    name: str
    value: float
    alternative: Literal["two-sided", "greater"] = "two-sided"


@dataclass(frozen=True)
class Measure:
    """One measure.

    Attributes
    ----------
    formula
        Its name is that of the measure, the names of its parameters those of the columns that it is made of: statistics
        of attention, scores, or other measures. None where another part of the engine makes the column.
    label, definition
        The measure's name in tables, and its definition in one line.
    unit
        "share", "nats", "ratio", "accuracy", "score" (units of the model's own score).
    low, high
        Its range.
    null
        What attention that looks at nothing in particular, or a score that means nothing, gives: another measure, or a
        number.
    share_of
        What it is a share of; `of_text` where it is the text's and not the image's.
    level
        What the formula's columns are: values of a "pair", a "layer" or an "image" (captions averaged), or "means" over
        images, of which it is a function; "token" for a game of tokens.
    about
        ATTENTION (where the model looks) or CONTRIBUTION (what its score depends on).
    undefined
        Family of models -> why it does not define the measure; any other family does.
    needs
        Towers without which there is no such measure: "vision", "text", "surrogate".
    image_ignored, text_ignored
        Which way the measure is said to go where the image (the text) is ignored: −1 falls, 1 rises, 0 says nothing.
    bounds, bounds_source
        Values outside are called collapse, and who says so; BY_SEVERITY: the study's own bound does.
    hypotheses
        What its mean over images is tested against.
    uses
        "severity" (a decision can be taken by it), "diagnosed" (its distribution is described), "compared" (between
        models), "pooled" (over models), "layers" (reported layer by layer), "bands" (with intervals there), "detail"
        (reported in the model's own file alone).
    heading
        The heading of its column in the tables of the paper and of the figures; "" keeps it out of them.
    slack
        (columns…, error) -> how far errors of the score may move it; None: as far as its columns together.
    absent
        Why a model that could have it may lack it.
    """

    formula: Callable[..., Floats] | None
    label: str
    definition: str
    unit: str
    low: float
    high: float
    name: str = ""
    inputs: tuple[str, ...] = ()
    null: str | float | None = None
    share_of: str = ""
    of_text: bool = False
    level: Literal["pair", "layer", "image", "means", "token"] = "pair"
    about: str = ATTENTION
    undefined: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    image_ignored: int = 0
    text_ignored: int = 0
    bounds: tuple[float, float] | Literal["severe"] | None = None
    bounds_source: str = ""
    hypotheses: tuple[Hypothesis, ...] = ()
    uses: frozenset[str] = frozenset()
    heading: str = ""
    slack: Callable[..., Floats] | None = None
    absent: str = ""

    def __post_init__(self) -> None:
        if self.formula is not None:
            object.__setattr__(self, "name", self.name or self.formula.__name__)
            object.__setattr__(self, "inputs", self.inputs or tuple(signature(self.formula).parameters))

    def of(self, columns: Mapping[str, Any]) -> Floats:
        """The measure from columns by name, as its formula gives it."""
        if self.formula is None:
            raise TypeError(f"{self.name} has no formula")  # a fault of this package
        return self.formula(*(columns[name] for name in self.inputs))

    def of_means(self, *means: Any) -> Floats:
        """The measure from the means of its columns, in the order of `inputs`."""
        if self.formula is None:
            raise TypeError(f"{self.name} has no formula")  # a fault of this package
        return self.formula(*means)

    def is_possible(self, family: str, columns: Mapping[str, Any]) -> bool:
        """Whether the family defines the measure and its columns are there."""
        return self.formula is not None and family not in self.undefined and all(key in columns for key in self.inputs)

    def bounds_at(self, severe: float) -> tuple[tuple[float, float] | None, str]:
        """The bounds in a study whose bound of severity is given, and whose they are."""
        if self.bounds == "severe":
            return (1 - severe, severe), f"imbalance above {severe:.2f}"
        return self.bounds, self.bounds_source

    @property
    def claims(self) -> bool:
        """Whether it is taken to say that a modality is ignored."""
        return bool(self.image_ignored or self.text_ignored)

    @property
    def needs_competence(self) -> bool:
        """Whether it says nothing of a score that does not tell matching pairs from others, as a share of it does."""
        return self.about == CONTRIBUTION and bool(self.share_of or self.level == "means")

    @property
    def is_two_sided(self) -> bool:
        """Whether it goes one way where the image is ignored, and the other where the text is."""
        return self.image_ignored * self.text_ignored < 0


def records(*modules: ModuleType) -> dict[str, Measure]:
    """Name -> record of every measure of some modules, in the order of their text."""
    found = [item for module in modules for item in vars(module).values()]
    listed = [item for one in found for item in (one if isinstance(one, tuple) else (one,))]
    return {item.name: item for item in listed if isinstance(item, Measure)}


def using(measures: Mapping[str, Measure], use: str) -> dict[str, Measure]:
    """The measures with a use, see `Measure.uses`."""
    return {name: measure for name, measure in measures.items() if use in measure.uses}


def undefined_measures(measures: Mapping[str, Measure], family: str, missing: Mapping[str, str]) -> dict[str, str]:
    """measure -> why this model does not have it, of the measures of attention.

    Parameters
    ----------
    missing
        "vision", "text" or "surrogate" -> what this one model lacks, beyond what its family does.
    """
    if family == NO_ATTENTION:
        return dict.fromkeys(measures, missing.get("vision", "the model has no attention that can be seen"))
    reasons: dict[str, str] = {}
    for name, measure in measures.items():
        if family in measure.undefined:
            reasons[name] = measure.undefined[family]
        for tower in measure.needs:
            if tower in missing and family not in measure.undefined:
                reasons[name] = missing[tower]
    return reasons
