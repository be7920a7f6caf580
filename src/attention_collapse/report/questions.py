"""What was found of a model's answers, for a program (`Answered.to_dict`) and for a person (`text`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attention_collapse.measures.answers import ANSWER_MEASURES
from attention_collapse.measures.contribution import CONTRIBUTION_MEASURES
from attention_collapse.report.estimate import LISTED, Estimate, save_json, without_nan
from attention_collapse.stats.few_images import too_few

SCHEMA = 1  # of `Answered.to_dict`
SHOWN = (*ANSWER_MEASURES, "choice_image", "choice_text", "reliance_image", "reliance_text", "reliance_share")
RECORDS = ANSWER_MEASURES | CONTRIBUTION_MEASURES
WIDTH = max(len(RECORDS[name].label) for name in SHOWN) + 2


@dataclass(frozen=True)
class Answered:
    """One model on one set of questions.

    Attributes
    ----------
    weights
        The model's name and provenance.
    settings
        What was asked for.
    data
        The manifest of the questions that were measured, in hashes (`data.questions.question_manifest`).
    candidates
        The candidates of questions that came without any; none where all came with them.
    estimates
        Measure -> its mean over images.
    """

    weights: Mapping[str, Any]
    settings: Mapping[str, Any]
    data: Mapping[str, Any]
    candidates: Sequence[str]
    estimates: Mapping[str, Estimate]

    def __getitem__(self, measure: str) -> Estimate:
        return self.estimates[measure]

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON: an undefined number is None. `schema` numbers this structure."""
        estimates = {
            name: {key: value for key, value in vars(found).items() if key not in ("name", "confidence")}
            for name, found in self.estimates.items()
        }
        clean: dict[str, Any] = without_nan(vars(self) | {"schema": SCHEMA, "estimates": estimates})
        return clean

    def save(self, file: Path | None) -> list[Path]:
        """Write it as JSON, if a file is given; UnwrittenError, whose `result` this is, if that cannot be."""
        return save_json(self, file)

    def text(self) -> str:
        """The summary that `attention-collapse questions` prints."""
        weights, data = self.weights, self.data
        lines = [f"{weights['name']}  ({weights['weights']}; {weights['parameters']:,} parameters)"]
        if weights["untrained"]:
            lines.insert(0, "NOTE: untrained weights. This is a control, not a result about a trained model.")
        lines += [f"NOTE: {note}" for note in weights["notes"]]
        lines.append(f"{data['n_questions']:,} questions about {data['n_images']:,} images ({data['source']})")
        if self.candidates:
            lines.append(f"candidates: the {len(self.candidates)} most frequent answers ({_some(self.candidates)})")
        if skipped := data["skipped"]:
            counts = Counter(item["kind"] for item in skipped)
            lines.append("skipped: " + ", ".join(f"{n:,} {kind}{'s' * (n != 1)}" for kind, n in counts.items()))
            lines += [f"  skipped {item['kind']} {item['id']}: {item['reason']}" for item in skipped[:LISTED]]
            if len(skipped) > LISTED:
                lines.append(f"  … and {len(skipped) - LISTED:,} more")
        lines += ["", *(f"  {RECORDS[name].label:<{WIDTH}}{self.estimates[name]}" for name in SHOWN), ""]
        return "\n".join([*lines, *self._conclusion()])

    def _conclusion(self) -> list[str]:
        """What may be said of it, in sentences."""
        if reason := too_few(self.data["n_images"]):
            return [f"{reason}: nothing is concluded"]
        if not _above(self["gain_over_constant"]):
            return ["its answers are not shown to be better than the best constant answer: nothing else means anything"]
        said = ["its answers are better than any constant answer"]
        said.append(
            "they are better than the best answer by the question alone: it uses the images, and gains by them"
            if _above(self["gain_over_question_only"])
            else "that they are better than the best answer by the question alone is not shown: a model that never "
            "looks could do as well on these questions"
        )
        flips = self["answer_flip_image"]
        if flips.mean == 0:
            said.append("with another image it never answers otherwise: it does not look")
        elif flips.mean is not None:
            said.append(f"with another image {flips.mean:.0%} of its answers change")
        return said


def _some(words: Sequence[str]) -> str:
    return ", ".join(words[:LISTED]) + (", …" if len(words) > LISTED else "")


def _above(found: Estimate) -> bool:
    """Whether it is shown to be above 0: by its interval, or where all values are alike by the mean."""
    low = found.ci_low if found.ci_low is not None else found.mean
    return low is not None and low > 0
