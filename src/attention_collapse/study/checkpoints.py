"""The record of which weights a model was loaded from, and the insistence on them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attention_collapse.errors import ModelError
from attention_collapse.files import read_json
from attention_collapse.models import load
from attention_collapse.models.interface import Model
from attention_collapse.models.spec import ModelSpec
from attention_collapse.study.layout import Study

PIN = ("revision", "sha256", "definition_sha256", "adapter_sha256", "adapter_definition_sha256", "adapter_revision")
REFUSED = "refused"  # image id -> why the model cannot take it; absent where it takes all


def pinned(spec: ModelSpec, record: Path) -> tuple[ModelSpec, dict[str, Any]]:
    """The description with the revision that an earlier run recorded, and what that run insists on.

    Only weights from a hub are insisted on: those in the repository are DVC's to watch. A `revision` in the parameters
    other than the recorded one is a new pin.
    """
    if spec.weights not in ("hub", "pretrained") or not record.is_file():
        return spec, {}
    recorded = read_json(record)
    if recorded.get("weights") != spec.origin:  # of other weights under the same name
        return spec, {}
    known = known_pins(recorded)
    if spec.revision is not None and spec.revision != known.get("revision"):
        return spec, {}
    return spec.model_copy(update={"revision": known.get("revision")}), known


def known_pins(about: Mapping[str, Any]) -> dict[str, str]:
    """What identifies the weights of a loaded model, of what its provenance knows."""
    return {key: about[key] for key in PIN if about.get(key) is not None}


def require_pin(model: str, about: Mapping[str, Any], known: Mapping[str, Any], record: Path) -> None:
    """ModelError if the weights are not those that an earlier run recorded."""
    for key, value in known.items():
        if about.get(key) != value:
            raise ModelError(
                f"{model}: {key} {about.get(key)}",
                expected=f"{value}, recorded in {record} by an earlier run",
                remedy="restore the checkpoint; delete the record only if new weights are meant",
            )


def load_recorded(study: Study, model: str) -> Model:
    """A study's model, insisting on the weights that an earlier run recorded."""
    record = study.checkpoint(model)
    exact, known = pinned(study.spec(model), record)
    loaded = load(model, exact, study.params.extract_attention.device)
    require_pin(model, loaded.provenance, known, record)
    return loaded


def refused_of(study: Study, model: str) -> dict[int, str]:
    """The images that the model could not take when its attention was extracted, and why."""
    record = study.checkpoint(model)
    found = read_json(record).get(REFUSED, {}) if record.is_file() else {}
    return {int(image): str(reason) for image, reason in found.items()}
