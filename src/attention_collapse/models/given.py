"""A model that is in memory already: measured as it stands, and left as it was found.

What is measured is a copy of the object's structure that shares its tensors, so that evaluation mode and hooks never
reach the object itself, also after an error.
"""

from __future__ import annotations

import copy
import tempfile
import types
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from PIL import Image
from torch import nn
from transformers.models.auto.auto_mappings import PROCESSOR_MAPPING_NAMES

from attention_collapse.errors import AttentionCollapseError, ModelError
from attention_collapse.models.catalogue import KIND_OF_TYPE
from attention_collapse.models.checkpoint import require_finite
from attention_collapse.models.declared import Declared
from attention_collapse.models.hub import definition_sha256
from attention_collapse.models.interface import DualEncoder, PairScorer, Provenance, named_class
from attention_collapse.models.objects import (
    first_line,
    library_of,
    require_plain,
    sharing_copy,
    state_sha256,
    unwrapped,
)
from attention_collapse.models.spec import ModelSpec
from attention_collapse.models.towers import replaced_towers
from attention_collapse.registry import kinds

if TYPE_CHECKING:
    from attention_collapse.models.interface import Model

CAPTION = "a picture"
PRECISION = {torch.float32: 1e-3, torch.float64: 1e-3}  # of a score on its logit scale; 0.05 in half precision
OWN_TABLE = (
    "describe it in about 20 lines (docs/adding.md, “A model in no table”) and give that: "
    "diagnose(attention_collapse.models.declared.Declared(…), …), or --kind python from the command line"
)


@dataclass(frozen=True)
class Given:
    """A model object and its processor, as a user of the libraries has them.

    Attributes
    ----------
    model
        Of a class that a kind here loads, or of one derived from it; also wrapped by torch.compile, DDP or PEFT. Or a
        `Declared`.
    processor
        Its processor in the transformers library; for open_clip, (evaluation transform, tokenizer).
    """

    model: Any
    processor: Any

    @property
    def name(self) -> str:
        """The object's class."""
        return type(unwrapped(self.model)).__name__

    @property
    def spec(self) -> ModelSpec:
        """A description by the kind alone, for what asks one: no file of parameters can name an object."""
        module, kind = unwrapped(self.model), "python"
        if not isinstance(self.model, Declared):
            require_plain(self.name, module)
            kind = "openclip" if library_of(module) == "open_clip" else _kind_of(self.name, module)[0]
        return ModelSpec.model_construct(kind=kind, weights="checkpoint")

    def load(self, device: str) -> Model:
        """The model where it lies. `device` is the one where it should lie; "cpu", the default, asks for nothing."""
        if isinstance(self.model, Declared):
            from attention_collapse.models.kinds.python import DeclaredModel

            declared: Any = DeclaredModel(
                self.name, self.model, _provenance(self.model.module, None, "a declared module")
            )
            return cast("Model", declared)
        module = unwrapped(self.model)
        require_plain(self.name, module)
        if library_of(module) != "open_clip":
            _kind_of(self.name, module)  # before its values: those of another class are of no interest
        require_finite(self.name, module)
        _require_device(self.name, module, device)
        if library_of(module) == "open_clip":
            return _of_open_clip(self.name, module, self.processor)
        return _of_transformers(self.name, module, self.processor)


def _require_device(name: str, module: nn.Module, device: str) -> None:
    found = {parameter.device for parameter in module.parameters()}
    wanted = torch.device(device if device != "auto" else "cpu")
    if device not in ("cpu", "auto") and not any(
        one.type == wanted.type and wanted.index in (None, one.index) for one in found
    ):
        raise ModelError(
            f"{name}: lies on {', '.join(sorted(str(one) for one in found))}, and device is {device!r}",
            expected="the device where the object lies",
            remedy=f"move it yourself, `model.to({device!r})`, or leave `device` out",
        )


# -- what is said of it ------------------------------------------------------------------------


def _provenance(module: nn.Module, processor: Any, what: str, notes: tuple[str, ...] = ()) -> Provenance:
    config = getattr(module, "config", None)
    source = getattr(config, "_name_or_path", "")
    return Provenance(
        weights=f"{what} in memory",
        sha256=state_sha256(module),
        definition_sha256=_definition(config, processor),
        revision=getattr(config, "_commit_hash", None),
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        untrained=False,
        notes=(
            "a model in memory: sha256 is of its tensors as they stood"
            + (f"; they were first loaded from {source}" if source else ""),
            *notes,
        ),
        image_processor=None if processor is None else named_class(getattr(processor, "image_processor", processor)),
    )


def _definition(config: Any, processor: Any) -> str | None:
    """Hash of configuration and processor as the library writes them; None for what it cannot write."""
    if not hasattr(config, "save_pretrained") or not hasattr(processor, "save_pretrained"):
        return None
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        processor.save_pretrained(folder)
        return definition_sha256(Path(folder))


# -- transformers ------------------------------------------------------------------------------


def _kind_of(name: str, module: nn.Module) -> tuple[str, Any]:
    """The kind and its class of an object of the transformers library."""
    import transformers

    kind = KIND_OF_TYPE.get(getattr(getattr(module, "config", None), "model_type", ""))
    cls = getattr(import_module(kinds()[kind].module).load, "__self__", None) if kind else None
    wanted = getattr(cls, "class_name", "")
    if kind and wanted and isinstance(module, getattr(transformers, wanted)):
        return kind, cls
    inner = [key for key, child in module.named_children() if library_of(child) and _is_known(child)]
    if inner:
        remedy = f"give its attribute: model.{inner[0]}"
    else:
        remedy = f"load the checkpoint by that class; or {OWN_TABLE}" if wanted else OWN_TABLE
    raise ModelError(
        f"{name}: an object of class {type(module).__module__}.{type(module).__qualname__}, of no kind here",
        expected=f"{wanted}, for kind {kind}"
        if wanted
        else "a class of a kind here (docs/models.md), or one derived from it",
        remedy=remedy,
    )


def _is_known(module: nn.Module) -> bool:
    return (
        library_of(module) == "open_clip" or getattr(getattr(module, "config", None), "model_type", "") in KIND_OF_TYPE
    )


def _of_transformers(name: str, module: nn.Module, processor: Any) -> Model:
    kind, cls = _kind_of(name, module)
    lacks = [part for part in ("image_processor", "tokenizer") if getattr(processor, part, None) is None]
    if lacks:
        raise ModelError(
            f"{name}: processor is {type(processor).__name__}, without {' and '.join(lacks)}",
            expected="the model's processor, with its image processor and its tokenizer",
            remedy="diagnose(model, pairs, processor=AutoProcessor.from_pretrained(…)), that of the model's checkpoint",
        )
    _require_its_processor(name, module, processor)
    replaced = replaced_towers(name, module, cls)
    notes = tuple(f"{site} is {now}, not {before}" for site, (now, before) in replaced.items())
    provenance = _provenance(module, processor, f"an object of {_class_path(module)}", notes)
    parts = (sharing_copy(name, module), copy.deepcopy(processor), provenance)
    swapped = {} if not (vision := cls.without_vision(replaced)) else {"vision": None, "class_token": False}
    fields = {"_parts": lambda *_: parts, "__module__": cls.__module__, **swapped}
    found = types.new_class(cls.__name__, (cls,), {"base": True}, lambda body: body.update(fields))
    model: Model = found(name, ModelSpec.model_construct(kind=kind, weights="checkpoint"), "cpu")
    if vision:
        model.missing = dict.fromkeys(("vision", "surrogate"), vision)
    _try(model)
    return model


def _require_its_processor(name: str, module: Any, processor: Any) -> None:
    """ModelError for the processor of another model, whose tokens would mean other words."""
    wanted = PROCESSOR_MAPPING_NAMES.get(module.config.model_type)
    classes = [cls.__name__ for cls in type(processor).__mro__]
    if wanted and wanted not in classes:
        raise ModelError(
            f"{name}: processor is a {classes[0]}",
            expected=f"a {wanted}, or a class derived from it",
            remedy="diagnose(model, pairs, processor=AutoProcessor.from_pretrained(…)), that of the model's checkpoint",
        )


def _class_path(module: nn.Module) -> str:
    library = next(cls for cls in type(module).__mro__ if cls.__module__.split(".")[0] in ("transformers", "open_clip"))
    own = f"{type(module).__module__}.{type(module).__qualname__}, a " if library is not type(module) else ""
    return f"{own}{library.__module__.split('.')[0]}.{library.__name__}"


# -- open_clip ---------------------------------------------------------------------------------


def _of_open_clip(name: str, module: Any, processor: Any) -> Model:
    from attention_collapse.models.kinds.openclip import OpenClip

    transform, tokenizer = _pair(name, processor)
    own, context = getattr(tokenizer, "context_length", None), getattr(module, "context_length", None)
    if own is not None and context is not None and own != context:
        raise ModelError(
            f"{name}: a tokenizer of {own} tokens for a text tower of {context}",
            expected="the model's own tokenizer",
            remedy="open_clip.get_tokenizer(ARCHITECTURE), of the same architecture",
        )
    _require_transform(name, module, transform)
    provenance = _provenance(module, None, f"an object of {_class_path(module)}")
    provenance = Provenance(**vars(provenance) | {"image_processor": named_class(transform)})
    model: Any = OpenClip(name, sharing_copy(name, module), transform, tokenizer, provenance)
    _try(model)
    return cast("Model", model)


def _pair(name: str, processor: Any) -> tuple[Any, Any]:
    """(transform, tokenizer), in whichever order they were given."""
    parts = list(processor) if isinstance(processor, tuple | list) else [processor]
    tokenizers = [part for part in parts if type(part).__module__.startswith("open_clip.tokenizer")]
    others = [part for part in parts if part not in tokenizers and callable(part)]
    if len(parts) != 2 or len(tokenizers) != 1 or len(others) != 1:
        raise ModelError(
            f"{name}: processor is {', '.join(type(part).__name__ for part in parts)}",
            expected="the pair (evaluation transform, tokenizer) of an open_clip model",
            remedy="model, _, preprocess = open_clip.create_model_and_transforms(NAME, …); tokenizer = "
            "open_clip.get_tokenizer(NAME); diagnose(model, pairs, processor=(preprocess, tokenizer))",
        )
    return others[0], tokenizers[0]


def _require_transform(name: str, module: Any, transform: Any) -> None:
    """ModelError for a transform that is not the evaluation's: random, or of another size."""
    noise = torch.rand(3, 300, 400, generator=torch.Generator().manual_seed(0)).mul(255).byte()
    picture = Image.fromarray(noise.permute(1, 2, 0).numpy())  # (height, width, channel)
    size = module.visual.image_size
    wanted = (3, *((size, size) if isinstance(size, int) else size))
    try:
        with torch.random.fork_rng(devices=[]):
            one, other = transform(picture), transform(picture)
            got = f"pixels of {tuple(one.shape)}" if one.equal(other) else "other pixels each time"
            right = one.equal(other) and tuple(one.shape) == wanted
    except Exception as error:  # any function of the user's
        got, right = first_line(error), False
    if not right:
        raise ModelError(
            f"{name}: the transform gives {got}",
            expected=f"the evaluation transform, which always gives the same {wanted} of one picture",
            remedy="take the third of open_clip.create_model_and_transforms(…): the second is the training's",
        )


# -- one pass before all -----------------------------------------------------------------------


def _try(model: Model) -> None:
    """ModelError for an object whose parts do not work together, or whose own forward pass gives another score."""
    picture = Image.new("RGB", (64, 48), (90, 140, 60))
    try:
        with torch.inference_mode():
            if isinstance(model, DualEncoder):
                _require_own_score(model, picture)
            elif isinstance(model, PairScorer):
                model.score(model.pairs([picture], [CAPTION]))
    except Exception as raised:  # a module of the user's may raise anything
        error = raised.__cause__ if isinstance(raised, AttentionCollapseError) else raised
        if not isinstance(error, Exception):  # said here, and not by a library
            raise
        raise ModelError(
            f"{model.name}: one picture and the caption {CAPTION!r} do not pass through it ({first_line(error)})",
            expected="parts that take and give what the class's own parts do, and the processor that belongs to them",
            remedy=f"check the processor and what was replaced; or {OWN_TABLE}",
        ) from None


def _require_own_score(model: DualEncoder, picture: Image.Image) -> None:
    """ModelError where the class's own forward pass does not give the score that the two towers give."""
    image, text = model.images([picture]), model.texts([CAPTION])
    cosine = (model.embed(image).embedding.float() * model.embed(text).embedding.float()).sum()
    if library_of(model.module) == "open_clip":
        return  # its forward pass gives embeddings, no score
    own = model.module(**image.inputs, **text.inputs).logits_per_image
    scale, bias = model.logit_scale, model.logit_bias
    ours, theirs = scale * float(cosine) + bias, float(own.float().reshape(-1)[0])
    if not abs(ours - theirs) <= PRECISION.get(model.module.dtype, 0.05) * max(scale, 1.0):
        raise ModelError(
            f"{model.name}: its forward pass scores a pair {theirs:.4f}, its two towers {ours:.4f}",
            expected="scale · cosine + bias of what its towers give",
            remedy=f"measure the class that it derives from, or {OWN_TABLE}",
        )
