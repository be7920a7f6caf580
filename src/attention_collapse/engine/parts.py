"""Finished batches of an interrupted stage: kept beside its output, and used again only by the same run."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from attention_collapse.files import write_text


def same_run(evidence: str, device: str) -> str:
    """The evidence (the weights, their dtype, the pairs, the code), and what else kept batches must agree in."""
    return f"{evidence} torch={torch.__version__} device={device} on={_processor(device)}"


def _processor(device: str) -> str:
    """What chooses the kernels: another one adds in another order, and in half precision that shows."""
    if torch.cuda.is_available() and device.partition(":")[0] in ("auto", "cuda"):
        return torch.cuda.get_device_name(0 if device in ("auto", "cuda") else device)
    return torch.backends.cpu.get_cpu_capability()


def open_parts(work: Path, identity: str) -> None:
    """Make `work` the folder of one run's batches: those of another `identity` are removed."""
    stamp = work / "identity.txt"
    if not stamp.is_file() or stamp.read_text("utf-8") != identity:
        shutil.rmtree(work, ignore_errors=True)
        write_text(stamp, identity)
