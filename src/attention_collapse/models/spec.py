"""What a parameter file may say of a model. Holds no heavy import, so that listing models is instant."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

FIELDS_BY_WEIGHTS = {
    "pretrained": {"architecture", "tag"},
    "hub": {"repo", "revision"},
    "checkpoint": {"path"},
    "untrained": {"architecture", "seed"},
}


class ModelSpec(BaseModel):
    """A model and where its weights come from. There is no default for `weights`: nothing falls back.

    weights: pretrained
        `architecture` and `tag` as open_clip lists them (ViT-B-32, openai); `revision` pins the hub commit.
    weights: hub
        `repo` (organisation/name) holding open_clip_config.json and weights, at `revision` (40 hex digits).
    weights: checkpoint
        `path` of a folder in that layout, or of a weights file together with `architecture`; `sha256` pins it.
    weights: untrained
        Freshly initialised `architecture` (a name, or a folder with open_clip_config.json) from `seed`.
        A control, labelled as such wherever it is reported.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    kind: Literal["openclip"]
    weights: Literal["pretrained", "hub", "checkpoint", "untrained"]
    architecture: str | None = None
    tag: str | None = None
    repo: str | None = Field(default=None, pattern=r"^[\w.-]+/[\w.-]+$")
    revision: str | None = Field(default=None, pattern=r"^[0-9a-f]{40}$")
    path: str | None = None
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    seed: int | None = Field(default=None, ge=0)
    control_for: str | None = None  # the model whose untrained prior this one shows

    @model_validator(mode="after")
    def _fields_fit_weights(self) -> ModelSpec:
        needed = FIELDS_BY_WEIGHTS[self.weights]
        missing = sorted(name for name in needed if getattr(self, name) is None)
        if missing:
            raise ValueError(f"weights: {self.weights} needs {', '.join(missing)}")
        extras = {"architecture", "sha256"} if self.weights == "checkpoint" else set()
        if self.weights == "pretrained":
            extras = {"revision", "sha256"}
        if self.weights == "hub":
            extras = {"sha256"}
        given = {name for name in type(self).model_fields if getattr(self, name) is not None}
        foreign = sorted(given - needed - extras - {"kind", "weights", "control_for"})
        if foreign:
            raise ValueError(f"weights: {self.weights} does not take {', '.join(foreign)}")
        if self.control_for is not None and self.weights != "untrained":
            raise ValueError("control_for belongs to weights: untrained")
        return self

    @property
    def is_control(self) -> bool:
        """True for untrained weights: shown beside the models under test, never counted among them."""
        return self.weights == "untrained"
