"""What a result was computed with: the libraries that make numbers, the processor, the device.

It is written into each result and never compared: another machine must give the same numbers.
"""

from __future__ import annotations

import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

KEY = "environment"  # of a metrics file
LIBRARIES = (
    "numpy", "open_clip_torch", "pandas", "pillow", "scipy", "shap", "statsmodels", "tokenizers", "torch",
    "torchvision", "transformers",
)  # fmt: skip
PIN = re.compile(r"^([\w.-]+)==([\w.+!-]+)", re.MULTILINE)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def processor() -> str:
    """The processor's name as the system gives it, else its architecture."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def environment(device: str | None = None) -> dict[str, str | None]:
    """Versions, processor and (where a model ran) device, as they stand in a result under `KEY`."""
    found: dict[str, str | None] = {name: _installed(name) for name in LIBRARIES}
    found |= {"python": platform.python_version(), "processor": processor(), "system": platform.system()}
    if device is not None:
        import torch

        found |= {"device": device, "instruction_set": torch.backends.cpu.get_cpu_capability()}
    return found


def departures(root: Path) -> list[str]:
    """One line for each package whose installed version is not the one that requirements.txt pins.

    Raises nothing: a checkout without requirements.txt pins nothing.
    """
    try:
        pins = PIN.findall((root / "requirements.txt").read_text("utf-8"))
    except OSError:
        return []
    installed = [(name, pin, _installed(name)) for name, pin in pins]
    return [
        f"{name} {own or 'is not installed'}, requirements.txt pins {pin}" for name, pin, own in installed if own != pin
    ]
