"""What was found of usable information, for a program (`Information.to_dict`, `table`) and for a person (`text`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attention_collapse.measures import usable_information
from attention_collapse.measures.record import records
from attention_collapse.report.digits import fixed
from attention_collapse.report.estimate import LISTED, Estimate, save_json, without_nan

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 2  # of `Information.to_dict`; 2: no interval from fewer than 10 images
RECORDS = records(usable_information)
WIDTH = max(len(measure.label) for measure in RECORDS.values()) + 2
OTHER = {"image": "text", "text": "image"}


@dataclass(frozen=True)
class Information:
    """What the features of each modality tell of a label.

    Attributes
    ----------
    source
        Where the features come from: a model's name, or a file.
    weights
        The weights of the model, described as in a `Diagnosis`; None where the features were given.
    settings
        What was asked for: folds, components, seed, confidence.
    classes
        Class -> number of images.
    skipped
        Images and labels that could not be used: kind, id, reason.
    estimates
        Measure -> its mean over images, in nats.
    chosen
        What a predictor may see -> the form that was chosen -> in how many folds.
    unfinished
        How many predictors stopped before their optimum.
    """

    source: str
    weights: Mapping[str, Any] | None
    settings: Mapping[str, Any]
    classes: Mapping[str, int]
    skipped: Sequence[Mapping[str, Any]]
    estimates: Mapping[str, Estimate]
    chosen: Mapping[str, Mapping[str, int]]
    unfinished: int

    def __getitem__(self, measure: str) -> Estimate:
        return self.estimates[measure]

    @property
    def n_images(self) -> int:
        """Labelled images that were measured."""
        return sum(self.classes.values())

    def table(self) -> pd.DataFrame:
        """One row per measure: its record's label and unit, and the estimate."""
        import pandas as pd

        rows = [
            {"measure": name, "label": RECORDS[name].label, "unit": RECORDS[name].unit}
            | {key: getattr(found, key) for key in ("mean", "ci_low", "ci_high", "n", "reason")}
            for name, found in self.estimates.items()
        ]
        return pd.DataFrame(rows).set_index("measure")

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON: an undefined number is None. `schema` numbers this structure."""
        estimates = {
            name: {key: value for key, value in vars(found).items() if key not in ("name", "confidence")}
            for name, found in self.estimates.items()
        }
        data = vars(self) | {"schema": SCHEMA, "n_images": self.n_images, "estimates": estimates}
        clean: dict[str, Any] = without_nan(data | {"skipped": list(self.skipped)})
        return clean

    def save(self, file: Path | None) -> list[Path]:
        """Write it as JSON, if a file is given; UnwrittenError, whose `result` this is, if that cannot be."""
        return save_json(self, file)

    def text(self) -> str:
        """The summary that `attention-collapse information` prints."""
        lines = [self.source]
        if self.weights is not None:
            lines += [f"NOTE: {note}" for note in self.weights["notes"]]
            if self.weights["untrained"]:
                lines.insert(0, "NOTE: untrained weights. This is a control, not a result about a trained model.")
        shown = [f"{name} {count}" for name, count in self.classes.items()]
        more = f", … and {len(shown) - LISTED} more" if len(shown) > LISTED else ""
        lines.append(f"{self.n_images} images of {len(shown)} classes ({', '.join(shown[:LISTED])}{more})")
        if self.skipped:
            counts = Counter(item["kind"] for item in self.skipped)
            lines.append("skipped: " + ", ".join(f"{n} {kind}{'s' * (n != 1)}" for kind, n in counts.items()))
        lines += [f"  skipped {item['kind']} {item['id']}: {item['reason']}" for item in self.skipped[:LISTED]]
        if len(self.skipped) > LISTED:
            lines.append(f"  … and {len(self.skipped) - LISTED} more")
        lines += ["", "the label, in nats, on images that no predictor was trained on"]
        lines += [f"  {RECORDS[name].label:<{WIDTH}}{found}" for name, found in self.estimates.items()]
        lines += ["", f"what the predictors of {self.settings['folds']} folds are made of"]
        for sees, forms in self.chosen.items():
            made = "; ".join(f"{form} ({count})" for form, count in forms.items())
            lines.append(f"  sees {sees}: {made}")
        if self.unfinished:
            lines.append(f"  NOTE: {self.unfinished} predictors stopped before their optimum")
        return "\n".join([*lines, "", *(self._reading(name) for name in OTHER)])

    def _reading(self, modality: str) -> str:
        """What the interval of the information beyond the other modality says, in a sentence."""
        found = self.estimates[f"usable_information_{modality}"]
        other = OTHER[modality]
        if found.interval is None:
            value = "undefined" if found.mean is None else f"{fixed(found.mean)} nats"
            return f"the {modality} beyond the {other}: {value}; there is no interval ({found.reason})"
        low, high = found.interval
        if low > 0:
            return f"the {modality} tells of the label what the {other} does not: what ignores it gives that up"
        if high < 0:
            return f"the {modality} only misleads a predictor that has the {other}: too few images for its features"
        return f"that the {modality} adds anything to the {other} is not shown: what ignores it need not lose by it"
