"""What a parameter file may say of a model. Holds no heavy import, so that listing models is instant."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from attention_collapse.registry import kinds

TRAINED_HERE = "data/controls"  # checkpoints of stage train_controls: of a library's class, but our own models
BYTES_OF_DTYPE = {"float32": 4, "bfloat16": 2, "float16": 2}
FORMS = {  # field -> its pattern, and the same in words
    "repo": (r"[\w.-]+/[\w.-]+", "organisation/name"),
    "revision": (r"[0-9a-f]{40}", "a commit, 40 hex digits"),
    "sha256": (r"[0-9a-f]{64}", "64 hex digits"),
    "factory": (r"[\w.]+:\w+", "a package.module:function"),
}
FIELDS_BY_WEIGHTS = {
    "pretrained": ({"architecture", "tag"}, {"revision", "sha256"}),
    "hub": ({"repo"}, {"revision", "sha256", "dtype", "prompt", "adapter"}),
    "checkpoint": ({"path"}, {"architecture", "sha256", "dtype", "prompt", "adapter"}),
    "untrained": ({"architecture", "seed"}, {"control_for", "dtype", "prompt"}),
    "factory": ({"factory"}, set[str]()),
}


class ModelSpec(BaseModel):
    """A model and where its weights come from. There is no default for `weights`: nothing falls back.

    weights: pretrained
        `architecture` and `tag` as open_clip lists them (ViT-B-32, openai); `revision` pins the hub commit.
    weights: hub
        `repo` (organisation/name) in the layout of the kind's library, at `revision` (40 hex digits). Without one the
        newest is taken, and a study records it and insists on it from then on.
    weights: checkpoint
        `path` of a folder in that layout, or (open_clip) of a weights file together with `architecture`, a name of
        open_clip's or a folder with the configuration; `sha256` pins it.
    weights: untrained
        Freshly initialised `architecture` (a folder with the configuration, or an open_clip name) from `seed`.
        A control, labelled as such wherever it is reported.
    weights: factory
        `factory`, a "package.module:function" of your own, makes the model (kinds python and scorer).

    `max_unknown` is the share of the captions' tokens, 0 to 1, that may be unknown to the model's tokenizer (one half
    unless said). `dtype` (float32 unless said), `adapter` (a folder of PEFT's or `organisation/name@revision` on the
    hub, a LoRA that is merged into the weights) and, for decoders, `prompt` (the instruction beside the image) belong
    to kinds of the transformers library.

    Examples
    --------
    >>> spec = ModelSpec(kind="clip", weights="hub", repo="openai/clip-vit-base-patch32")
    >>> spec.origin, spec.standing, spec.is_control
    ('hub openai/clip-vit-base-patch32', 'external', False)
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    kind: str
    weights: Literal["pretrained", "hub", "checkpoint", "untrained", "factory"]
    architecture: str | None = None
    tag: str | None = None
    repo: str | None = None
    revision: str | None = None
    path: str | None = None
    sha256: str | None = None
    seed: int | None = Field(default=None, ge=0)
    factory: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    prompt: str | None = Field(default=None, min_length=1)
    # Where there is none, it is part of no evidence id: those of before there were adapters stay.
    adapter: str | None = Field(default=None, min_length=1, exclude_if=lambda value: value is None)
    control_for: str | None = None  # the model whose untrained prior this one shows
    # A permission, which makes no number: it is part of no evidence id.
    max_unknown: float | None = Field(default=None, ge=0, le=1, strict=False, exclude=True)

    @field_validator(*FORMS)
    @classmethod
    def _of_its_form(cls, value: str | None, info: ValidationInfo) -> str | None:
        pattern, form = FORMS[info.field_name or ""]
        if value is not None and not re.fullmatch(pattern, value):
            raise ValueError(f"{form}, not {value!r}")
        return value

    @model_validator(mode="after")
    def _fields_fit(self) -> ModelSpec:
        if self.kind not in kinds():
            near = difflib.get_close_matches(self.kind, kinds(), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"kind {self.kind!r} is none of {', '.join(kinds())}{hint}")
        library = kinds()[self.kind].library
        needed, optional = FIELDS_BY_WEIGHTS[self.weights]
        missing = sorted(name for name in needed if getattr(self, name) is None)
        if missing:
            raise ValueError(f"weights: {self.weights} needs {', '.join(missing)}")
        given = {name for name in type(self).model_fields if getattr(self, name) is not None} - {"max_unknown"}
        foreign = sorted(given - needed - optional - {"kind", "weights"})
        if library == "open_clip":
            foreign += sorted(given & {"dtype", "prompt", "adapter"})
        elif self.weights == "checkpoint":
            foreign += sorted(given & {"architecture"})
        if library == "in-house":
            foreign += sorted(given & {"adapter"})
        if foreign:
            raise ValueError(f"kind {self.kind}, weights: {self.weights} does not take {', '.join(foreign)}")
        if (library == "user") != (self.weights == "factory"):
            raise ValueError("kinds python and scorer, and they alone, go with weights: factory")
        if self.weights == "pretrained" and library != "open_clip":
            raise ValueError("weights: pretrained names open_clip's tags; use weights: hub with a repo")
        return self

    @property
    def is_control(self) -> bool:
        """True for untrained weights: shown beside the models under test, never counted among them."""
        return self.weights == "untrained"

    @property
    def standing(self) -> Literal["control", "in-house", "external"]:
        """What a model is to the decision: in-house ones alone support no claim about models in the field."""
        if self.is_control:
            return "control"
        ours = kinds()[self.kind].library == "in-house" or Path(TRAINED_HERE) in Path(self.path or "").parents
        return "in-house" if ours else "external"

    @property
    def origin(self) -> str:
        """The weights in words."""
        built = f" as {self.architecture}" if self.weights == "checkpoint" and self.architecture else ""
        merged = f" with the adapter {self.adapter}" if self.adapter else ""
        return {
            "pretrained": f"open_clip {self.architecture} {self.tag}",
            "hub": f"hub {self.repo}{merged}",
            "checkpoint": f"checkpoint {self.path}{built}{merged}",
            "untrained": f"UNTRAINED {self.architecture}, seed {self.seed}",
            "factory": f"factory {self.factory}",
        }[self.weights]
