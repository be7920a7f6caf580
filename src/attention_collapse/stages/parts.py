"""Finished batches of an interrupted stage: kept beside its output, and used again only by the same run."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from attention_collapse.files import write_text
from attention_collapse.source_code import code_id


def same_run(evidence: str, device: str, module: str) -> str:
    """The evidence and what else kept batches must agree in: an interrupted run may be followed by an edit.

    `module` is the stage's: an edit of code that it does not use, or of a comment, discards nothing.
    """
    return f"{evidence} code={code_id(module)} torch={torch.__version__} device={device}"


def open_parts(work: Path, identity: str) -> None:
    """Make `work` the folder of one run's batches: those of another `identity` are removed."""
    stamp = work / "identity.txt"
    if not stamp.is_file() or stamp.read_text("utf-8") != identity:
        shutil.rmtree(work, ignore_errors=True)
        write_text(stamp, identity)
