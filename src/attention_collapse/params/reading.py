"""`params.yaml` as frozen objects. An unknown key raises and names the near match; a wrong type says what was got."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from attention_collapse.errors import ParamsError
from attention_collapse.models.spec import ModelSpec
from attention_collapse.params.measuring import (
    ComputeMcs,
    Contribution,
    Decision,
    Engine,
    ExtractAttention,
    FetchCoco,
    Stats,
)
from attention_collapse.params.section import NAME, Section
from attention_collapse.params.training import Answers, Doses, Plant, Prevention, TrainControls


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
