"""`params.yaml` as frozen objects. An unknown key raises and names the near match; a wrong type says what was got."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from attention_collapse.errors import ParamsError
from attention_collapse.models.protocols import MM_SHAP, PUBLISHED_PERMUTATIONS
from attention_collapse.models.spec import ModelSpec

NAME = r"^[A-Za-z0-9_-]+$"  # DVC addresses a stage as name@key, so a key holds no other sign


class Section(BaseModel):
    """One section of the parameter file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


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


class TrainControls(Section):
    """Contrastive training of the small OpenCLIP model of the embedded study."""

    seed: int = Field(ge=0)
    scenes: int = Field(ge=2)
    steps: int = Field(ge=1)
    batch_size: int = Field(ge=2)
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    held_out_scenes: int = Field(ge=2)


class Cues(Section):
    """How often content and cues agree with the label, and the seeds of the models that see it so (null: all)."""

    content: float = Field(default=1.0, ge=0.5, le=1)
    text: float = Field(default=0.5, ge=0.5, le=1)
    image: float = Field(default=0.5, ge=0.5, le=1)
    seeds: Annotated[tuple[int, ...], Field(strict=False)] | None = None


BY_KIND = ("matching_steps", "matching_learning_rate")  # of the recipe: a number for each kind


class PlantingRecipe(Section):
    """Steps of the three parts of `engine.planting` and their optimiser, those of matching by kind."""

    attribute_steps: int = Field(ge=1)
    word_steps: int = Field(ge=1)
    matching_steps: dict[str, Annotated[int, Field(ge=1)]]
    batch_size: int = Field(ge=8)
    learning_rate: float = Field(gt=0)
    matching_learning_rate: dict[str, Annotated[float, Field(gt=0)]]
    weight_decay: float = Field(ge=0)


class Plant(Section):
    """The models with planted answers: their data, regimes, seeds and training."""

    kinds: Annotated[tuple[str, ...], Field(min_length=1, strict=False)]
    scenes: int = Field(ge=16)
    held_out: int = Field(ge=8)
    data_seed: int = Field(ge=0)
    threads: int = Field(ge=1)
    workers: int = Field(ge=1)  # processes that measure models of a kind at the same time
    seeds: Annotated[tuple[int, ...], Field(min_length=1, strict=False)]
    regimes: dict[str, Cues] = Field(min_length=1)
    recipe: PlantingRecipe
    measured: int = Field(ge=8)  # pairs that every measure sees
    emap_images: int = Field(ge=2)  # of them, those whose grid of scores EMAP needs
    t_shap_images: int = Field(ge=1)  # of them, those that T-SHAP explains

    @model_validator(mode="after")
    def _every_kind_has_its_steps(self) -> Plant:
        for name in BY_KIND:
            missing = [kind for kind in self.kinds if kind not in getattr(self.recipe, name)]
            if missing:
                raise ValueError(f"recipe.{name} has a number for every kind, so for {', '.join(missing)} too")
        return self

    def training(self, kind: str) -> dict[str, Any]:
        """What decides the weights of one kind's models, besides code and seed of the libraries."""
        given = self.model_dump(exclude={"kinds", "workers", "measured", "emap_images", "t_shap_images"})
        given["recipe"] |= {name: given["recipe"][name][kind] for name in BY_KIND}
        return given


BALANCED = 0.5  # reliability of a cue that says nothing


class Doses(Section):
    """Models trained with whole content beside a cue, dose by dose; all else of their training is that of `plant`."""

    kinds: Annotated[tuple[str, ...], Field(min_length=1, strict=False)]
    modalities: Annotated[tuple[Literal["text", "image"], ...], Field(min_length=1, strict=False)]  # of the cue
    reliabilities: Annotated[tuple[Annotated[float, Field(ge=0.5, le=1)], ...], Field(min_length=2, strict=False)]
    seeds: Annotated[tuple[int, ...], Field(min_length=1, strict=False)]
    pairs: int = Field(ge=8)  # held out, the same for every model
    partners: int = Field(ge=1)  # other pairs that lend each pair an image and a text

    @model_validator(mode="after")
    def _doses_rise_from_none(self) -> Doses:
        if self.reliabilities[0] != BALANCED or sorted(set(self.reliabilities)) != list(self.reliabilities):
            raise ValueError("reliabilities rise from 0.5, the cue that says nothing")
        return self


class Way(Section):
    """One way to train: a method of `prevention` with its options."""

    method: str = "erm"
    options: dict[str, float | str] = {}  # of the method


class Arm(Way):
    """One way to train, of those that are compared on planted cues, and how long."""

    steps: float = Field(default=1.0, gt=0)  # times the recipe's
    stops_early: bool = False  # at the best accuracy as trained
    balanced: bool = False  # an oracle: cues say nothing in training


class Dose(Section):
    """A cue: where it is (words: a prior spread over them), and how often it agrees with the label in training."""

    modality: Literal["text", "image", "words"]
    reliability: float = Field(gt=0.5, le=1)
    kinds: Annotated[tuple[str, ...] | None, Field(min_length=1, strict=False)] = None  # trained beside it; None: all
    arms: Annotated[tuple[str, ...] | None, Field(min_length=1, strict=False)] = None  # those of a kind, or fewer
    seeds: Annotated[tuple[int, ...] | None, Field(min_length=2, strict=False)] = None


class GainRule(Section):
    """When a method prevents in a kind: fixed before any of the models was trained."""

    gain: float = Field(ge=0, lt=1)  # the paired gain in accuracy without the cue is shown to be above this
    loss: float = Field(ge=0, lt=1)  # and accuracy as trained is shown not to be worse by more


class PreventionRule(GainRule):
    """The same, and when it is recommended."""

    kinds: int = Field(ge=1)  # recommended where it prevents in as many kinds


class Scope(Section):
    """What is trained of one kind, where it is not everything."""

    arms: Annotated[tuple[str, ...] | None, Field(min_length=2, strict=False)] = None
    seeds: Annotated[tuple[int, ...] | None, Field(min_length=2, strict=False)] = None


class Prevention(Section):
    """Ways to train compared on models that would collapse; all else of their training is that of `plant`."""

    kinds: Annotated[dict[str, Scope], Field(min_length=1)]
    doses: Annotated[tuple[Dose, ...], Field(min_length=1, strict=False)]
    arms: dict[Annotated[str, Field(pattern=NAME)], Arm]
    seeds: Annotated[tuple[int, ...], Field(min_length=2, strict=False)]
    pairs: int = Field(ge=8)  # held out, the same for every model
    partners: int = Field(ge=1)
    watched: int = Field(ge=8)  # further pairs that are scored while a model is trained
    every: int = Field(ge=1)  # in steps
    rule: PreventionRule

    @model_validator(mode="after")
    def _gains_are_over_plain_training(self) -> Prevention:
        if self.arms.get("erm") != Arm():
            raise ValueError("arms has no plain `erm: {}`, over which gains are counted")
        chosen = {f"kinds.{kind}": scope.arms for kind, scope in self.kinds.items()}
        chosen |= {f"doses.{place}": dose.arms for place, dose in enumerate(self.doses)}
        for where, arms in chosen.items():
            if arms is not None and ("erm" not in arms or not set(arms) <= set(self.arms)):
                raise ValueError(f"{where}.arms are among {', '.join(self.arms)}, and `erm` is one of them")
        for place, dose in enumerate(self.doses):
            if unknown := [kind for kind in dose.kinds or () if kind not in self.kinds]:
                raise ValueError(f"doses.{place}.kinds names {', '.join(unknown)}, which kinds does not have")
        return self

    @model_validator(mode="after")
    def _no_model_is_named_twice(self) -> Prevention:
        cues = [(dose.modality, dose.reliability) for dose in self.doses]
        if twice := [place for place, cue in enumerate(cues) if cue in cues[:place]]:
            raise ValueError(f"doses.{twice[0]} is the cue of another; put the kinds, arms and seeds of both into one")
        chosen = {"seeds": self.seeds} | {f"kinds.{kind}.seeds": scope.seeds for kind, scope in self.kinds.items()}
        chosen |= {f"doses.{place}.seeds": dose.seeds for place, dose in enumerate(self.doses)}
        for where, seeds in chosen.items():
            if seeds and len(set(seeds)) < len(seeds):
                raise ValueError(f"{where} names a seed twice")
        return self


class AnswerRecipe(Section):
    """How small models are trained to answer questions, kind by kind."""

    steps: dict[str, Annotated[int, Field(ge=1)]]
    learning_rate: dict[str, Annotated[float, Field(gt=0)]]
    batch_size: int = Field(ge=1)
    weight_decay: float = Field(ge=0)


class Answers(Section):
    """Models trained on the questions of easy-VQA, as published and with the answers' prior shifted."""

    kinds: Annotated[tuple[str, ...], Field(min_length=1, strict=False)]
    seeds: Annotated[tuple[int, ...], Field(min_length=1, strict=False)]
    favoured: float = Field(gt=0.5, lt=1)  # share of a wording's favoured answer in training; the rest in the test
    data_seed: int = Field(ge=0)  # of the favoured answers, and of which questions are kept and measured
    questions: int = Field(ge=8)  # measured of each set, one per image
    partners: int = Field(ge=1)  # other questions that lend each an image and a wording
    arms: dict[Annotated[str, Field(pattern=NAME)], Way] = {"erm": Way()}  # with the shifted prior; else plain alone
    rule: GainRule
    watched: int = Field(default=400, ge=8)  # held-out questions that the monitor asks while a model is trained
    every: int = Field(default=100, ge=1)  # in steps
    threads: int = Field(default=1, ge=1)
    recipe: AnswerRecipe

    @model_validator(mode="after")
    def _gains_are_over_plain_training(self) -> Answers:
        if self.arms.get("erm") != Way():
            raise ValueError("arms has no plain `erm: {}`, over which gains are counted")
        return self

    @model_validator(mode="after")
    def _every_kind_has_its_recipe(self) -> Answers:
        for name in ("steps", "learning_rate"):
            if unknown := [kind for kind in self.kinds if kind not in getattr(self.recipe, name)]:
                raise ValueError(f"recipe.{name} has no {', '.join(unknown)}")
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


class Params(Section):
    """One study."""

    study: str = Field(pattern=NAME)
    params_file: str
    models: dict[str, ModelSpec] = Field(min_length=1)
    fetch_coco: FetchCoco = FetchCoco()
    train_controls: TrainControls | None = None
    plant: Plant | None = None
    doses: Doses | None = None
    prevention: Prevention | None = None
    answers: Answers | None = None
    extract_attention: ExtractAttention = ExtractAttention()
    engine: Engine = Engine()
    contribution: Contribution = Contribution()
    compute_mcs: ComputeMcs = ComputeMcs()
    stats: Stats = Stats()
    decision: Decision = Decision()

    @model_validator(mode="after")
    def _controls_name_models(self) -> Params:
        for name, spec in self.models.items():
            if not name or not set(name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"):
                raise ValueError(f"model key {name!r} may hold letters, digits, '-' and '_' only")
            if spec.control_for is not None and spec.control_for not in self.models:
                raise ValueError(f"models.{name}.control_for names {spec.control_for!r}, which is no model here")
        return self

    @model_validator(mode="after")
    def _doses_go_by_the_recipe_of_planted_models(self) -> Params:
        known = self.plant.kinds if self.plant else ()
        for name, section in (("doses", self.doses), ("prevention", self.prevention)):
            if section is not None and (unknown := [kind for kind in section.kinds if kind not in known]):
                raise ValueError(f"{name}.kinds names {', '.join(unknown)}, for which plant.recipe has no steps")
        return self


def _fields_at(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    """The keys that may stand at a place of the parameter file."""
    for part in path:
        if model is Params and part == "models":
            model = ModelSpec
        elif isinstance(part, str) and part in model.model_fields:
            annotation = model.model_fields[part].annotation
            options = [annotation, *getattr(annotation, "__args__", ())]
            model = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), model)
    return list(model.model_fields)


def _explain(where: str, error: ValidationError, root: type[BaseModel]) -> ParamsError:
    # A misspelt key is also a missing one: name the misspelling first.
    first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    *parents, last = first["loc"] or ("(top level)",)
    key = ".".join(str(part) for part in first["loc"]) or "the file"
    if first["type"] == "extra_forbidden":
        allowed = _fields_at(root, tuple(parents))
        near = difflib.get_close_matches(str(last), allowed, n=1)
        return ParamsError(
            f"{where}: unknown key {key}",
            expected=f"one of {', '.join(allowed)}",
            remedy=f"did you mean {near[0]!r}?" if near else "remove the key",
        )
    got = "nothing" if first["type"] == "missing" else f"{first['input']!r}"
    shown = got if len(got) < 80 else "a value that does not fit"
    return ParamsError(
        f"{where}: {key} is {shown}",
        expected=first["msg"].removeprefix("Value error, "),
        remedy="correct the value" if first["type"] != "missing" else "add the key",
    )


def load_params(path: Path) -> Params:
    """Read and check one parameter file; raise ParamsError naming the key."""
    try:
        data = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ParamsError(
            f"{path}: no such file",
            expected="a study's params.yaml",
            remedy="restore it (`git checkout -- FILE`), or correct the path",
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: not YAML ({error})", expected="a YAML mapping", remedy="mend the file") from None
    if not isinstance(data, dict):
        raise ParamsError(f"{path}: holds {type(data).__name__}", expected="a YAML mapping", remedy="mend the file")
    try:
        return Params.model_validate(data)
    except ValidationError as error:
        raise _explain(str(path), error, Params) from None


def parse_engine(given: Any) -> Engine:
    """Check what is asked for outside a parameter file: "local", "ray", or a mapping as under `engine`."""
    try:
        return Engine.model_validate({"kind": given} if isinstance(given, str) else given)
    except ValidationError as error:
        raise _explain("engine", error, Engine) from None


def parse_spec(data: dict[str, Any], where: str) -> ModelSpec:
    """Check one model description given outside a parameter file."""
    try:
        return ModelSpec.model_validate(data)
    except ValidationError as error:
        raise _explain(where, error, ModelSpec) from None
