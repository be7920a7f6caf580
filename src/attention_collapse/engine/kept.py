"""Finished batches of a diagnosis, in a folder of the user's: used again only where all that made them is the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attention_collapse.data.fingerprint import fingerprint
from attention_collapse.engine.parts import same_run
from attention_collapse.engine.pieces import Runner, here
from attention_collapse.errors import ParamsError
from attention_collapse.files import evidence_id, json_text, sha256_bytes
from attention_collapse.identity.source_code import LOADER, PACKAGE, code_id

if TYPE_CHECKING:
    from datasets import Dataset

    from attention_collapse.models.interface import Model
    from attention_collapse.models.spec import ModelSpec

STEPS = {"attention": "attention", "contribution": "contribution", "t-shap": "token_contribution"}  # -> its module
FOLDER = "diagnose-{identity}"
IDENTITY = (  # of the weights, as a model's provenance says it
    "sha256", "definition_sha256", "revision", "image_processor", "adapter_sha256", "adapter_definition_sha256",
)  # fmt: skip


@dataclass(frozen=True)
class Kept:
    """Where the batches of one run lie, and who makes those that are missing."""

    folder: Path
    identity: str
    run: Runner = here

    def of(self, step: str) -> dict[str, Any]:
        """The arguments `work`, `identity` and `run` of one of `STEPS`."""
        return {"work": self.folder / step, "identity": self.identity, "run": self.run}


def kept(work: Path | None, model: Model, spec: ModelSpec | None, pairs: Dataset, device: str) -> Kept | None:
    """The place for the batches of this model, these pairs and this code: a folder of its own below `work`, if any.

    Parameters
    ----------
    spec
        What the model was loaded from; None of one that nothing describes.

    Raises
    ------
    ParamsError
        The model's weights have no hash, so that nothing can tell whether they are the same.
    """
    if work is None:
        return None
    about = model.provenance
    if spec is None or (about.get("sha256") is None and not about.get("untrained")):
        raise ParamsError(
            f"{model.name}: its weights have no hash, so kept batches could be those of others",
            expected="a model whose weights are files (pretrained, hub, checkpoint) to keep batches of",
            remedy="leave out `work` (--work)",
        )
    ids = json_text({"images": list(pairs["image_id"]), "captions": list(pairs["caption_ids"])})
    inputs = {"pairs": fingerprint(pairs), "ids": sha256_bytes(ids.encode()), "loader": code_id(LOADER, spec.kind)}
    inputs |= {name: code_id(f"{PACKAGE}.engine.{module}") for name, module in STEPS.items()}
    weights = {key: about.get(key) for key in IDENTITY}
    evidence = evidence_id("diagnose", {"model": spec.model_dump(exclude={"control_for"}), "weights": weights}, inputs)
    run = same_run(evidence, device)
    return Kept(work / FOLDER.format(identity=sha256_bytes(run.encode())[:16]), run)
