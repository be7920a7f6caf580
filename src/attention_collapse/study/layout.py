"""Where each file of a study lies, and what evidence its results are of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attention_collapse.errors import ParamsError
from attention_collapse.files import evidence_id
from attention_collapse.identity.source_code import PACKAGE, code_id
from attention_collapse.models.spec import TRAINED_HERE, ModelSpec
from attention_collapse.params import Params

NULL_REFERENCE = Path("metrics/null_reference.json")  # of no study: it follows from token counts alone
CAPTION_LENGTHS = Path("data/coco_val2017_caption_lengths.json")  # of no study: what that follows from
REPORTED_CLAIMS = Path("data/reported_claims.yaml")  # of no study: the numbers that started the project
VALIDITY = Path("metrics/embedded/validity.json")  # of every study: the planted models are the embedded study's
PLANTED_PLOTS = Path("plots/embedded-validity")  # likewise


class Layout:
    """Where each file of a study lies below a repository's root; the pipeline describes its stages in these paths."""

    name: str
    root: Path

    @property
    def data(self) -> Path:
        """Everything about the pairs."""
        return self.root / "data" / self.name

    @property
    def manifest(self) -> Path:
        """Committed: what the pairs are."""
        return self.data / "manifest.json"

    @property
    def pairs(self) -> Path:
        """Cached by DVC: the pairs themselves, in COCO's layout."""
        return self.data / "pairs"

    def attention(self, model: str) -> Path:
        """Scratch, made again wherever it is not there: statistics of every attention call."""
        return self.data / "attention" / f"{model}.parquet"

    def checkpoint(self, model: str) -> Path:
        """Committed: which weights the model was loaded from."""
        return self.data / "checkpoints" / f"{model}.json"

    def contributions_table(self, model: str) -> Path:
        """Committed: causal contributions per image."""
        return self.data / "contribution" / f"{model}.csv"

    def contributions(self, model: str) -> Path:
        """Committed: the model's causal contributions."""
        return self.metrics / "contribution" / f"{model}.json"

    @property
    def planted_pairs(self) -> Path:
        """Scratch: the labelled pairs of each regime, while the models with planted answers are measured on them."""
        return self.data / ".planted"

    def planted_table(self, kind: str) -> Path:
        """Committed: every measure of every model of a kind with a planted answer, per pair."""
        return self.data / "planted" / f"{kind}.csv"

    def planted(self, kind: str) -> Path:
        """Committed: means of the measures of a kind's planted models."""
        return self.metrics / "planted" / f"{kind}.json"

    def doses_of(self, kind: str) -> Path:
        """Committed: the scores of every model of a kind that was trained at some dose of a cue."""
        return self.data / "doses" / kind

    def dose_scratch(self, kind: str) -> Path:
        """Scratch: untrained and warmed-up models of a kind, which all doses of a seed start from."""
        return self.data / ".doses" / kind

    def prevention_of(self, kind: str) -> Path:
        """Committed: the scores of every model of a kind that was trained in one of the ways that are compared."""
        return self.data / "prevention" / kind

    @property
    def prevention_table(self) -> Path:
        """Committed: accuracies and reliances of every such model, and what its training took."""
        return self.data / "prevention.csv"

    @property
    def prevention(self) -> Path:
        """Committed: which way to train prevents collapse."""
        return self.metrics / "prevention.json"

    @property
    def prevention_plots(self) -> Path:
        """Committed: figures of the ways to train."""
        return self.root / "plots" / f"{self.name}-prevention"

    def answers_of(self, kind: str) -> Path:
        """Committed: what every model of a kind answers that was trained on questions."""
        return self.data / "answers" / kind

    def answers_scratch(self, kind: str) -> Path:
        """Scratch: untrained models of a kind that are about to be trained on questions."""
        return self.data / ".answers" / kind

    @property
    def answers_table(self) -> Path:
        """Committed: every measure of what these models answer."""
        return self.data / "answers.csv"

    @property
    def answers(self) -> Path:
        """Committed: what they answer, and what that depends on."""
        return self.metrics / "answers.json"

    @property
    def answers_plots(self) -> Path:
        """Committed: the figure of that."""
        return self.root / "plots" / f"{self.name}-answers"

    @property
    def dose_table(self) -> Path:
        """Committed: what each of these models tells, and every measure of it."""
        return self.data / "doses.csv"

    @property
    def doses(self) -> Path:
        """Committed: accuracy and measures dose by dose, and which measure tells collapsed models."""
        return self.metrics / "doses.json"

    @property
    def dose_plots(self) -> Path:
        """Committed: the figure of that."""
        return self.root / "plots" / f"{self.name}-doses"

    @property
    def validity(self) -> Path:
        """Committed: how well each measure tells planted collapse from balance."""
        return self.metrics / "validity.json"

    @property
    def validity_plots(self) -> Path:
        """Committed: the figures of that judgement."""
        return self.root / "plots" / f"{self.name}-validity"

    @property
    def validity_paper(self) -> Path:
        """Committed: its table and macros."""
        return self.root / "paper" / "generated" / f"{self.name}-validity"

    @property
    def dose_paper(self) -> Path:
        """Committed: macros of what the doses tell."""
        return self.root / "paper" / "generated" / f"{self.name}-doses"

    @property
    def prevention_paper(self) -> Path:
        """Committed: tables and macros of the ways to train."""
        return self.root / "paper" / "generated" / f"{self.name}-prevention"

    @property
    def answers_paper(self) -> Path:
        """Committed: table and macros of the models that answer questions."""
        return self.root / "paper" / "generated" / f"{self.name}-answers"

    def pairs_table(self, model: str) -> Path:
        """Committed: scores per image–caption pair."""
        return self.data / "measures" / model / "pairs.csv"

    def layers_table(self, model: str) -> Path:
        """Committed: scores per image and layer."""
        return self.data / "measures" / model / "layers.csv"

    def heads_table(self, model: str) -> Path:
        """Committed: mean entropies per tower, layer and head."""
        return self.data / "measures" / model / "heads.csv"

    @property
    def metrics(self) -> Path:
        """Committed metrics."""
        return self.root / "metrics" / self.name

    def scores(self, model: str) -> Path:
        """Committed: the model's scores."""
        return self.metrics / "mcs" / f"{model}.json"

    @property
    def statistics(self) -> Path:
        """Committed: intervals and tests of all models."""
        return self.metrics / "stats.json"

    @property
    def decision(self) -> Path:
        """Committed: what the statistics add up to."""
        return self.metrics / "decision.json"

    @property
    def audit(self) -> Path:
        """Committed: the reported claims, what they imply and what was measured."""
        return self.metrics / "audit.json"

    @property
    def audit_paper(self) -> Path:
        """Committed: the audit's table and macros."""
        return self.root / "paper" / "generated" / f"{self.name}-audit"

    @property
    def plots(self) -> Path:
        """Committed figures and plot data."""
        return self.root / "plots" / self.name

    def extremes(self, model: str) -> Path:
        """Committed: the images of the model's lowest, median and highest MCS."""
        return self.data / "measures" / model / "extremes.csv"

    def maps(self, model: str) -> Path:
        """Where the model looks in these images, and what it saw of them; committed for our own scenes alone."""
        return self.data / "maps" / model

    @property
    def overlays(self) -> Path:
        """Those maps over the pictures; committed for our own scenes alone (.gitignore)."""
        return self.root / "plots" / f"{self.name}-overlay"

    @property
    def paper(self) -> Path:
        """Committed tables and macros of this study."""
        return self.root / "paper" / "generated" / self.name

    @property
    def reports(self) -> Path:
        """Committed reports of this study, in Markdown."""
        return self.root / "reports" / self.name

    def trained(self, control: str) -> Path:
        """Committed: the checkpoint folder of a small model that is trained here, or of all with planted answers."""
        return self.root / TRAINED_HERE / control

    def training(self, control: str) -> Path:
        """Committed: how well that training went."""
        return self.root / "metrics" / "controls" / f"{control}.json"


@dataclass(frozen=True)
class Study(Layout):
    """The files of one study, and its parameters."""

    params: Params
    root: Path = Path()

    @property
    def name(self) -> str:  # type: ignore[override]
        """Its name, as files and reports have it."""
        return self.params.study

    def spec(self, model: str) -> ModelSpec:
        """The parameters of one model."""
        if model not in self.params.models:
            raise ParamsError(
                f"model {model!r} is not in {self.params.params_file}",
                expected=f"one of {', '.join(self.params.models)}",
                remedy="add it under `models`",
            )
        return self.params.models[model]


def evidence_of(stage: str, params: Mapping[str, Any], inputs: Mapping[str, str], kind: str | None = None) -> str:
    """The evidence id of a stage's result: parameters, pinned inputs, and the code of the stage and the model's kind.

    Nothing in it was computed, so it is the same on every machine; other code gives other evidence.
    """
    return evidence_id(stage, params, {**inputs, "code": code_id(f"{PACKAGE}.stages.{stage}", kind)})
