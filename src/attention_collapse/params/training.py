"""The sections of studies that train small models: controls, planted answers, doses, prevention and questions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from attention_collapse.params.section import NAME, Section


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
    options: dict[str, float | str] = Field(default_factory=dict)  # of the method


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
    own_watched: bool = False  # each seed is watched on pairs of its own; else all seeds on the same


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
    # With the shifted prior; else plain alone.
    arms: dict[Annotated[str, Field(pattern=NAME)], Way] = Field(default_factory=lambda: {"erm": Way()})
    contrasted: Annotated[tuple[str, ...], Field(strict=False)] = ()  # kinds on which contrastive decoding is tried
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
        if unknown := [kind for kind in self.contrasted if kind not in self.kinds]:
            raise ValueError(f"contrasted names {', '.join(unknown)}, which kinds does not have")
        return self
