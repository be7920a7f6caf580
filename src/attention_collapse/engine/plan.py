"""What a study costs before it runs: passes of each model and, where they were measured, seconds and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from attention_collapse.engine.calibration import ANY, Calibration, Measured
from attention_collapse.engine.passes import STEPS, Passes

LOADS = 2  # a study's model is loaded once to extract its attention, and once for contributions and T-SHAP
SCHEMA = 1


@dataclass(frozen=True)
class Cost:
    """Seconds of each step and of the start, and the peak of memory in bytes, on one machine."""

    steps: Mapping[str, float]
    start: float
    host_bytes: int
    device_bytes: int | None

    @property
    def seconds(self) -> float:
        """All of it."""
        return sum(self.steps.values()) + self.start


def cost(passes: Mapping[str, Passes], measured: Measured) -> Cost | None:
    """Passes times what a pass took, step by step, and the start once for each time that the model is loaded.

    None where a step's pass was not measured.

    Examples
    --------
    >>> from attention_collapse.engine.calibration import Timed
    >>> once = {"pair": 0.5}
    >>> timed = Timed(seconds=once, fastest=once, slowest=once, passes={"pair": 4})
    >>> measured = Measured(asked={}, weights={}, batch_size=2, pairs="4 pairs", runs=3, start_seconds=3.0,
    ...     processor_share=1.0, host_bytes=2**30, device_bytes=None, steps={"attention": timed})
    >>> cost({"attention": {"pair": 100}}, measured).seconds  # 100 · 0.5 + 2 · 3
    56.0
    """
    found = {}
    for step, counts in passes.items():
        timed = measured.steps.get(step)
        seconds = timed.seconds if timed else {}
        if any(unit not in seconds and ANY not in seconds for unit in counts):
            return None
        found[step] = sum(count * seconds.get(unit, seconds.get(ANY, 0.0)) for unit, count in counts.items())
    return Cost(found, LOADS * measured.start_seconds, measured.host_bytes, measured.device_bytes)


@dataclass(frozen=True)
class ModelPlan:
    """What one model costs.

    Attributes
    ----------
    passes
        Step -> image, text or pair -> passes.
    per_pair
        Step -> passes per pair of that step: per caption, per image with its first caption, per explained image.
    about
        Steps whose passes are about right; the others' are exact.
    costs
        One for each calibration; None: not measured there.
    why_not
        Why the model could not be measured here, where that was tried; "" else.
    """

    name: str
    passes: Mapping[str, Passes]
    per_pair: Mapping[str, float]
    about: tuple[str, ...]
    costs: tuple[Cost | None, ...]
    why_not: str = ""

    @property
    def total(self) -> int:
        """All passes."""
        return sum(sum(counts.values()) for counts in self.passes.values())


@dataclass(frozen=True)
class StudyPlan:
    """What a study costs: its pairs, its models, and the machines that were measured."""

    study: str
    images: int
    captions: int
    foils: int
    explained: int
    source: str
    models: Sequence[ModelPlan]
    machines: Sequence[Calibration]

    def totals(self) -> list[tuple[float, int]]:
        """Of each machine the seconds of all models that were measured there, and how many these are."""
        known = [[one.costs[index] for one in self.models] for index in range(len(self.machines))]
        return [(sum(one.seconds for one in costs if one), sum(one is not None for one in costs)) for costs in known]

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "schema": SCHEMA, "study": self.study, "source": self.source,
            "pairs": {"images": self.images, "captions": self.captions, "foils_of_first_captions": self.foils,
                      "explained": self.explained},
            "machines": [one.machine.model_dump() for one in self.machines],
            "totals": [{"seconds": seconds, "models": models} for seconds, models in self.totals()],
            "models": {
                one.name: {
                    "passes": {step: dict(one.passes[step]) for step in STEPS}, "passes_in_all": one.total,
                    "per_pair": dict(one.per_pair), "about": list(one.about), "why_not_measured": one.why_not,
                    "costs": [asdict(found) | {"seconds": found.seconds} if found else None for found in one.costs],
                }
                for one in self.models
            },
        }  # fmt: skip
