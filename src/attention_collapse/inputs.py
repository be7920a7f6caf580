"""What a person gives who measures a model: which model, which pairs, and how; checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attention_collapse import arguments
from attention_collapse.errors import ParamsError
from attention_collapse.measures.attention import ROWS
from attention_collapse.models.naming import Named, resolve
from attention_collapse.models.protocols import PROTOCOLS
from attention_collapse.params import Engine, parse_engine, parse_spec

if TYPE_CHECKING:
    from attention_collapse.models.given import Given


@dataclass(frozen=True)
class Source:
    """Where the pairs come from, and how it is read: arguments of `data.source.read_pairs`."""

    pairs: Any
    how: dict[str, Any]

    def __str__(self) -> str:
        return str(self.pairs) if isinstance(self.pairs, PathLike) else f"a {type(self.pairs).__name__}"


@dataclass(frozen=True)
class Asked:
    """How a diagnosis is made, every value of the right type and range; see `diagnose`."""

    n: int | None
    seed: int
    rows: str
    device: str
    batch_size: int
    partners: int
    t_shap_protocol: str | None
    t_shap_images: int
    threads: int | None
    strict: bool
    max_unknown: float | None
    engine: Engine

    @classmethod
    def of(cls, **given: Any) -> Asked:
        """Checked before anything is loaded; ParamsError for what is not right."""
        protocol = given["t_shap_protocol"]
        return cls(
            n=arguments.optional_whole("n", given["n"], least=1),
            seed=arguments.seed(given["seed"]),
            rows=arguments.one_of("rows", given["rows"], ROWS),
            device=arguments.device(given["device"]),
            batch_size=arguments.whole("batch_size", given["batch_size"], least=1),
            partners=arguments.whole("partners", given["partners"], least=0),
            t_shap_protocol=None if protocol is None else arguments.one_of("t_shap_protocol", protocol, PROTOCOLS),
            t_shap_images=arguments.whole("t_shap_images", given["t_shap_images"], least=1),
            threads=arguments.optional_whole("threads", given["threads"], least=1),
            strict=arguments.flag("strict", given["strict"]),
            max_unknown=arguments.optional_number("max_unknown", given["max_unknown"], least=0, most=1),
            engine=parse_engine(given["engine"]),
        )

    @property
    def settings(self) -> dict[str, Any]:
        """What of it every result records."""
        return {name: getattr(self, name) for name in ("rows", "seed", "n", "batch_size", "device")}


def source_of(model: Any, processor: Any = None) -> Named | Given:
    """What a model is loaded from: a word for it, a mapping as in params.yaml, or an object that is in memory."""
    named = isinstance(model, str | PathLike | Mapping | Named)
    if named and processor is not None:
        raise ParamsError(
            "a processor was given with a model that is not in memory",
            expected="a processor with a model object alone, since a checkpoint brings its own",
            remedy="leave processor out, or load the model and give the object",
        )
    if isinstance(model, Named):
        return model
    if isinstance(model, Mapping):
        return Named("model", parse_spec(dict(model), "model"))
    if isinstance(model, str | PathLike):
        return resolve(str(arguments.path("model", model)) if isinstance(model, PathLike) else model)
    if model is None or isinstance(model, bool | int | float | bytes | list | tuple | set):
        raise ParamsError(
            f"model is {arguments.shown(model)}",
            expected="a name of `attention-collapse models`, a folder, a hub id, a mapping as in params.yaml "
            "or a model object",
            remedy="correct the argument",
        )
    from attention_collapse.models.given import Given

    return Given(model, processor)


def named_of(model: Any) -> Named:
    """The same of what can be loaded again: an object in memory is refused."""
    found = source_of(model)
    if not isinstance(found, Named):
        raise ParamsError(
            f"model is an object, {type(model).__name__}",
            expected="a name, a checkpoint folder, a hub id, or a mapping as in params.yaml",
            remedy="save it (`model.save_pretrained(FOLDER)`, with its processor) and give the folder",
        )
    return found


def model_folders(model: Any) -> list[Path]:
    """The folders here that a model is read from, in which no result is to be written."""
    if isinstance(model, Named):
        model = model.spec.model_dump()
    words = map(model.get, ("path", "architecture", "adapter")) if isinstance(model, Mapping) else [model]
    return [Path(word) for word in words if isinstance(word, str | PathLike) and word and Path(word).is_dir()]
