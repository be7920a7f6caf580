"""Finished batches of an interrupted stage: kept beside its output, and used again only by the same run."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from attention_collapse.files import write_text


def same_run(evidence: str, device: str) -> str:
    """The evidence, and what else kept batches must agree in."""
    return f"{evidence} torch={torch.__version__} device={device}"


def open_parts(work: Path, identity: str) -> None:
    """Make `work` the folder of one run's batches: those of another `identity` are removed."""
    stamp = work / "identity.txt"
    if not stamp.is_file() or stamp.read_text("utf-8") != identity:
        shutil.rmtree(work, ignore_errors=True)
        write_text(stamp, identity)
