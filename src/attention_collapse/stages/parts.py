"""Finished batches of an interrupted stage: kept beside its output, and used again only by the same run."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from attention_collapse.files import sha256_bytes, sha256_file, write_text


def same_run(evidence: str, device: str) -> str:
    """The evidence and what else kept batches must agree in: an interrupted run may be followed by an edit."""
    package = Path(__file__).resolve().parents[1]
    code = sha256_bytes("".join(sha256_file(path) for path in sorted(package.rglob("*.py"))).encode())
    return f"{evidence} code={code} torch={torch.__version__} device={device}"


def open_parts(work: Path, identity: str) -> None:
    """Make `work` the folder of one run's batches: those of another `identity` are removed."""
    stamp = work / "identity.txt"
    if not stamp.is_file() or stamp.read_text("utf-8") != identity:
        shutil.rmtree(work, ignore_errors=True)
        write_text(stamp, identity)
