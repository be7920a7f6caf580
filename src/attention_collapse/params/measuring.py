"""The sections of what a study measures: its pairs, how models run, the measures, statistics and the decision."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from attention_collapse.models.protocols import MM_SHAP, PUBLISHED_PERMUTATIONS
from attention_collapse.params.section import Section


class FetchCoco(Section):
    """Which pairs a study uses."""

    source: Literal["embedded", "folder", "val2017"] = "embedded"
    n: int | None = Field(default=100, ge=1)
    seed: int = Field(default=0, ge=0)
    path: str | None = None  # source: folder; of any format that docs/data.md lists
    split: str | None = None  # source: folder; of a source with several
    columns: dict[str, str] | None = None  # source: folder; role -> name, where the columns are not known
    images: str | None = None  # source: folder; where the names of the images begin
    annotations_url: str | None = None  # source: val2017; null is the official archive
    # SugarCrepe's or VALSE's hard foils: files, folders, or URLs (URL#sha256=… insists on those bytes); the images are
    # then those that they are about
    foils: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] | None = None
    max_pixels: int = Field(default=50_000_000, ge=1)
    strict: bool = False

    @field_validator("foils", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given

    @model_validator(mode="after")
    def _path_goes_with_folder(self) -> FetchCoco:
        if (self.source == "folder") != (self.path is not None):
            raise ValueError("`path` is given exactly when `source` is folder")
        if self.source != "folder" and (self.split or self.columns or self.images):
            raise ValueError("`split`, `columns` and `images` go with `source: folder`")
        if self.source == "embedded" and self.n is None:
            raise ValueError("the embedded source renders as many scenes as `n` says, so `n` is a number")
        for source in self.foils or ():
            url, mark, sha256 = source.partition("#")
            if mark and "://" in url and not re.fullmatch(r"sha256=[0-9a-f]{64}", sha256):  # as sha256sum prints it
                raise ValueError(f"behind {url} stands #{sha256}, and no #sha256= with 64 digits of 0-9a-f")
        if self.source == "embedded" and self.foils is not None:
            raise ValueError("the embedded source makes its own foils, so `foils` goes with another `source`")
        return self


class ExtractAttention(Section):
    """How the models run; none of it may change a number beyond rounding."""

    batch_size: int = Field(default=32, ge=1)
    device: str = "cpu"
    threads: int = Field(default=2, ge=1)


class Engine(Section):
    """Who runs a study's extraction, contributions and T-SHAP; none of it changes a number (docs/cluster.md).

    `kind: local` is one process; `ray` as many `actors` as asked for, each with a model of its own, `threads` CPUs and
    `gpus` GPUs, on the cluster of the `address`: auto is the one that runs here or that RAY_ADDRESS names, else a Ray
    that is started for the run; local always is such a one.
    """

    kind: Literal["local", "ray"] = "local"
    address: str = Field(default="auto", min_length=1)
    actors: int = Field(default=1, ge=1)
    gpus: float = Field(default=0, ge=0, strict=False)

    @model_validator(mode="after")
    def _the_rest_goes_with_ray(self) -> Engine:
        if self.kind == "local" and self.model_fields_set - {"kind"}:
            raise ValueError("address, actors and gpus go with `kind: ray`")
        return self


class Contribution(Section):
    """Ablation partners, how many images T-SHAP explains and by which protocol, and the seed of partners and foils.

    `t_shap_protocol`: docs/measures.md, section 5, says which is which.
    """

    partners: int = Field(default=8, ge=1)
    t_shap_images: int = Field(default=16, ge=1)
    t_shap_permutations: int = Field(default=10, ge=1)
    t_shap_protocol: Literal["native", "mm-shap"] = "native"
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _mm_shap_has_its_permutations(self) -> Contribution:
        if self.t_shap_protocol == MM_SHAP and self.t_shap_permutations != PUBLISHED_PERMUTATIONS:
            raise ValueError(f"t_shap_permutations is {PUBLISHED_PERMUTATIONS} where t_shap_protocol is {MM_SHAP}")
        return self


class ComputeMcs(Section):
    """Which query rows the headline uses."""

    rows: Literal["all", "readout"] = "all"


class Stats(Section):
    """What every test and interval of a study takes: no other place holds a level, a power or a bound of severity.

    `margin` is the smallest difference of a mean share that matters (power, tests of equivalence); `severe` the mean
    imbalance max(s, 1 − s) above which a model is severe.
    """

    n_resamples: int = Field(default=10_000, ge=100)
    confidence: float = Field(default=0.95, gt=0, lt=1)
    power: float = Field(default=0.8, gt=0, lt=1)
    severe: float = Field(default=0.8, ge=0.5, lt=1)
    margin: float = Field(default=0.05, gt=0, lt=1)
    seed: int = Field(default=0, ge=0)

    @property
    def alpha(self) -> float:
        """Level of every test: what the confidence leaves."""
        return round(1 - self.confidence, 12)


class Decision(Section):
    """Which measure counts, and how many models a decision takes (docs/measures.md, section 6).

    `confirm_margin`: a severe model counts for a GO if its accuracy loses no more than this with the modality that it
    ignores swapped.
    """

    measure: str = "reliance_share"
    confirm_margin: float = Field(default=0.05, ge=0, lt=1)
    models_tested: int = Field(default=3, ge=1)
    models_severe: int = Field(default=2, ge=1)
