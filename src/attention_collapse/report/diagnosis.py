"""What a diagnosis found, for a program (`Diagnosis.to_dict`, `table`, `save`) and for a person (`text`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attention_collapse import arguments
from attention_collapse.errors import DataError, ParamsError
from attention_collapse.explain import unwritten
from attention_collapse.files import csv_text, whole_file, write_json, write_text
from attention_collapse.measures.catalogue import MEASURES
from attention_collapse.measures.record import ATTENTION, CONTRIBUTION
from attention_collapse.report.captions import caption_notes
from attention_collapse.report.conclusion import Conclusion, conclude
from attention_collapse.report.digits import fixed
from attention_collapse.report.estimate import LISTED, Estimate, without_nan
from attention_collapse.stats.few_images import too_few

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 2  # of `Diagnosis.to_dict`; docs/diagnose.md says what each number changed
PAIRS_FORMATS = (".csv", ".parquet")
FIGURES = ("measures", "modality_contribution", "layer_wise_attention", "attention_entropy")  # up to four
READ_FIRST = (  # whether the score tells what matches, and what it needs for that; of the text, before the others
    "accuracy", "accuracy_hard", "blind_accuracy", "choice_image", "choice_text",
    "reliance_image", "reliance_text", "reliance_share",
)  # fmt: skip
OWN_UNIT = ("score", "score²")  # of values that others are made of, and that no two models share
WIDTH = max(len(measure.label) for measure in MEASURES.values()) + 2


@dataclass(frozen=True)
class Outputs:
    """Where a diagnosis is written, each place checked before anything is computed; None: nowhere.

    Examples
    --------
    >>> Outputs.of(out="result.json", plots="figures").per_pair is None
    True
    """

    out: Path | None = None
    per_pair: Path | None = None
    plots: Path | None = None

    @classmethod
    def of(
        cls, out: Any = None, per_pair: Any = None, plots: Any = None, *, keep_out: Collection[Path] = ()
    ) -> Outputs:
        """ParamsError for a place that cannot be written, that lies in a folder of `keep_out`, or where a file stands
        that is no earlier result; for two of one name, and for a table whose name says no format.
        """
        found = cls(
            arguments.output_file("out", out, keep_out=keep_out),
            arguments.output_file("per_pair", per_pair, suffixes=PAIRS_FORMATS, form="table", keep_out=keep_out),
            arguments.output_folder("plots", plots, pairs_of=FIGURES, keep_out=keep_out),
        )
        if found.out and found.per_pair and found.out.resolve() == found.per_pair.resolve():
            raise ParamsError(
                f"out and per_pair are both {out}", expected="a file for each", remedy="name two different files"
            )
        return found


@dataclass(frozen=True)
class Diagnosis:
    """One model on one set of pairs.

    Attributes
    ----------
    model, family
        Its name, and the family that says which measures it defines.
    weights
        Where they come from: origin, hashes, revision, number of parameters, whether untrained, notes.
    settings
        What was asked for: rows, seed, partners, baselines, confidence.
    data
        What was measured, as of `data.fingerprint.fingerprint`, and how many hard foils it has.
    environment
        Versions of the packages, device, processor, and the type of the weights' numbers (`dtype`).
    n_images, n_pairs, n_truncated
        What was measured; captions longer than the model's context were cut.
    skipped
        Images and captions that could not be used: kind, id, reason.
    estimates
        Measure -> its mean over images, undefined ones with their reason.
    layers
        Layer ("01" first) -> MCS, its null and its calibrated form with their intervals.
    readings
        original (by the reported thresholds), null (against uniform attention), and the shares of pairs and of nulls
        above the reported threshold.
    details
        Tests, severity, diagnostics, the metrics of a study's stage compute_mcs, and how T-SHAP was played.
    captions
        What the model's tokenizer makes of the captions: `engine.captions.examine_captions`.
    tables
        "pairs" (`engine.per_pair`), "images" and "heads" (`engine.scores`), which are not part of `to_dict`.
    """

    model: str
    family: str
    weights: Mapping[str, Any]
    settings: Mapping[str, Any]
    data: Mapping[str, Any]
    environment: Mapping[str, Any]
    n_images: int
    n_pairs: int
    n_truncated: int
    skipped: Sequence[Mapping[str, Any]]
    estimates: Mapping[str, Estimate]
    layers: Mapping[str, Mapping[str, Any]]
    readings: Mapping[str, Any]
    details: Mapping[str, Any]
    captions: Mapping[str, Any]
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict, repr=False, compare=False)

    def __getitem__(self, measure: str) -> Estimate:
        """The estimate of a measure by its name; KeyError with near names where there is none."""
        if measure in self.estimates:
            return self.estimates[measure]
        by_label = {MEASURES[name].label: name for name in self.estimates}
        near = get_close_matches(measure, [*self.estimates, *by_label], n=1, cutoff=0.4)
        hint = f"; did you mean {by_label.get(near[0], near[0])!r}?" if near else ""
        raise KeyError(f"no measure {measure!r}{hint}: `attention-collapse measures` lists them")

    def table(self) -> pd.DataFrame:
        """One row per measure: its record's label, unit and what it is about, and the estimate."""
        import pandas as pd

        rows = [
            {"measure": name, "label": MEASURES[name].label, "about": MEASURES[name].about, "unit": MEASURES[name].unit}
            | {key: getattr(found, key) for key in ("mean", "ci_low", "ci_high", "n", "n_undefined", "reason")}
            for name, found in self.estimates.items()
        ]
        return pd.DataFrame(rows).set_index("measure")

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON: an undefined number is None. `schema` numbers this structure."""
        data = {
            "schema": SCHEMA, "model": self.model, "family": self.family, "weights": self.weights,
            "settings": self.settings, "data": self.data, "environment": self.environment,
            "n_images": self.n_images, "n_pairs": self.n_pairs,
            "n_truncated_captions": self.n_truncated, "captions": self.captions, "skipped": list(self.skipped),
            "estimates": {
                name: {key: value for key, value in vars(found).items() if key not in ("name", "confidence")}
                for name, found in self.estimates.items()
            },
            "layers": self.layers, "readings": self.readings, "details": self.details,
            "conclusion": vars(self.conclusion()),
        }  # fmt: skip
        clean: dict[str, Any] = without_nan(data)
        return clean

    def conclusion(self) -> Conclusion:
        """What may be said from these numbers, and what may not."""
        return conclude(self)

    def save(self, outputs: Outputs) -> list[Path]:
        """Write what is asked for; returns the paths of the files.

        Raises
        ------
        UnwrittenError
            A file could not be written; the error's `result` is this diagnosis.
        """
        written: list[Path] = []
        try:
            if outputs.out:
                write_json(outputs.out, self.to_dict())
                written.append(outputs.out)
            if outputs.per_pair:
                self._write_pairs(outputs.per_pair)
                written.append(outputs.per_pair)
            if outputs.plots:
                written += self.save_figures(outputs.plots)
        except OSError as error:
            raise unwritten(self, error) from error
        return written

    def _write_pairs(self, file: Path) -> None:
        table = self.tables["pairs"]
        if file.suffix.lower() == ".csv":
            rows = table.astype(object).where(table.notna(), None).to_numpy().tolist()
            write_text(file, csv_text(list(table.columns), rows))
            return
        with whole_file(file) as temporary:
            table.to_parquet(temporary, index=False)

    def save_figures(self, folder: str | Path) -> list[Path]:
        """Draw the measures, the scores of each image, the layers and the heads, each as PNG and PDF into a folder."""
        from attention_collapse.report.diagnosis_figures import draw

        return draw(self, Path(folder))

    def save_figure(self, stem: str | Path) -> list[Path]:
        """Draw MCS, its null and its calibrated form layer by layer; returns the paths of a PNG and a PDF.

        Raises DataError if the model has no layer with both entropies.
        """
        from attention_collapse.report.figures import layer_wise_attention, save, use_style

        if not self.layers:
            raise DataError(
                f"{self.model}: no layer has both entropies ({self['mcs'].reason})",
                expected="a model with attention in both modalities",
                remedy="draw what it has: save_figures",
            )
        use_style()
        confidence = self.settings["confidence"]
        return save(layer_wise_attention(self.model, self.layers, self.settings["rows"], confidence), Path(stem))

    def text(self) -> str:
        """The summary that `attention-collapse diagnose` prints."""
        lines = [
            f"{self.model}  ({self.family}; {self.weights['weights']}; {self.weights['parameters']:,} parameters)",
            f"{self.n_images} images, {self.n_pairs} pairs, {len(self.skipped)} skipped, rows: {self.settings['rows']}",
        ]
        if source := self.settings.get("source"):
            split = f", split {source['split']}" if source["split"] else ""
            lines += [f"pairs: {source['format']}{split}", *(f"  {note}" for note in source["notes"])]
        if self.weights["untrained"]:
            lines.insert(0, "NOTE: untrained weights. This is a control, not a result about a trained model.")
        lines += [f"NOTE: {note}" for note in self.weights["notes"]]
        if few := too_few(self.n_images):
            lines.append(f"NOTE: no interval and no verdict: {few}")
        lines += caption_notes(self.captions, self.n_truncated)
        lines += [f"  skipped {item['kind']} {item['id']}: {item['reason']}" for item in self.skipped[:LISTED]]
        if len(self.skipped) > LISTED:
            lines.append(f"  … and {len(self.skipped) - LISTED} more")
        lines += ["", "attention: where the model looks", *self._listed(ATTENTION), *self._read()]
        lines += ["", "contribution: what the score depends on", *self._listed(CONTRIBUTION), *self._limits()]
        settings = self.settings
        if "reason" in settings:
            lines.append(f"  none: {settings['reason']}")
        else:
            partners = settings["partners"]
            lines.append(f"  an absent modality is {' or '.join(settings['baselines'])}; {partners} partners")
        if "reliance_of" in settings:
            lines.append(f"  the score is a likelihood: reliance is of {settings['reliance_of']}")
        if played := self.details.get("t_shap"):
            ways = f": {played['t_shap_masking']}" if played["t_shap_masking"] else ""
            lines.append(f"  T-SHAP by the protocol {played['t_shap_protocol']}{ways}")
        if "n_alike" in settings:
            lines.append(f"  {settings['n_alike']} images share a caption or a file; none is another's partner or foil")
        return "\n".join([*lines, "", *self.conclusion().lines()])

    def _listed(self, about: str) -> list[str]:
        """A line per measure that is defined, what is read first first, and one per reason why others are not."""
        lines: list[str] = []
        reasons: dict[str, list[str]] = {}  # sentence -> the measures it is said of
        few, left_out = too_few(self.n_images), 0  # said above, once
        for name in sorted(self.estimates, key=lambda name: (*READ_FIRST, name).index(name)):
            measure, found = MEASURES[name], self.estimates[name]
            if measure.about != about:
                continue
            if measure.unit in OWN_UNIT and found.mean is not None:
                left_out += 1
                continue
            if found.mean is None:
                reasons.setdefault(f"not defined: {found.reason or 'no image has it'}", []).append(measure.label)
                continue
            if found.interval is None and found.reason != few:
                reasons.setdefault(f"no interval: {found.reason}", []).append(measure.label)
            undefined = f"   ({found.n_undefined} undefined)" if found.n_undefined else ""
            lines.append(f"  {measure.label:<{WIDTH}}{found.numbers}{undefined}   {measure.unit}")
        if left_out:
            plural = "s" * (left_out > 1)
            lines.append(f"  not listed: {left_out} value{plural} in the score's own unit, in the result (--out FILE)")
        for sentence, labels in reasons.items():
            what, _, reason = sentence.partition(": ")
            lines.append(f"  {what}: {', '.join(labels)}: {reason}")
        return lines

    def _limits(self) -> list[str]:
        """What must be said beside the Shapley share where it is printed."""
        one, other = (self.estimates.get(name) for name in ("shapley_share", "shapley_share_mean_image"))
        if one is None or one.mean is None:
            return []
        lines = [
            "  the Shapley share is about one half for any dual encoder, and a caption's own likelihood moves it: read",
            "  the reliance, the choices and, with hard foils, what they cost (docs/measures.md, section 5)",
        ]
        a, b = one.interval, other.interval if other else None
        if a and b and (a[1] < b[0] or b[1] < a[0]):
            lines.append("  NOTE: its two baselines contradict each other, so neither is a finding")
        return lines

    def _read(self) -> list[str]:
        difference = self.estimates["mcs_minus_null"]
        if difference.mean is None:
            return []
        if too_few(self.n_images):
            return []
        above, nulls = self.readings["share_of_pairs_above_0_7"], self.readings["share_of_nulls_above_0_7"]
        return [
            "",
            f"  by the original thresholds (0.3 / 0.7): {self.readings['original']}; {above:.1%} of pairs above 0.7, "
            f"where uniform attention already has {nulls:.1%}",
            f"  against the null: {self.readings['null']} (MCS − null = {fixed(difference.mean, sign=True)})",
        ]
