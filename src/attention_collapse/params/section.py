"""What a section of the parameter file is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

NAME = r"^[A-Za-z0-9_-]+$"  # DVC addresses a stage as name@key, so a key holds no other sign


class Section(BaseModel):
    """One section of the parameter file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
