"""Which activation an open_clip model has, and whether its weights were trained with another.

OpenAI's CLIP and some of its kin were trained with x · σ(1.702 x), "quick GELU", for which open_clip has architectures
of their own (ViT-B-32-quickgelu). Loaded into the plain one, every tensor fits and every number is a little wrong.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from open_clip.pretrained import _PRETRAINED as PRETRAINED
from torch import nn

ACTIVATION = re.compile(r"GELU|SiLU|ReLU|Swish|Tanh$|Activation$", re.IGNORECASE)
OPENAI = re.compile(r"(^|[^a-z])openai([^a-z]|$)", re.IGNORECASE)
ANYBODYS = re.compile(r"(ViT|RN)[\w-]*\.pt")  # a file name that says the architecture alone


def activations(module: nn.Module) -> str:
    """The classes of the activations in a module, as PyTorch and the model libraries name them, in one string."""
    named = {type(part).__name__ for part in module.modules()}
    return ", ".join(sorted(name for name in named if ACTIVATION.search(name)))


def origin_of(file: Path, digest: str | None) -> tuple[str, bool] | None:
    """Which of open_clip's pretrained tags a weights file is, and whether that was trained with quick GELU.

    Known by the sha256 in the tag's address, its file's name, or its hub repository among the file's folders; None
    where it is none of them.
    """
    folders = {part.removeprefix("models--").replace("--", "/") for part in file.parts}
    folders |= {"/".join(pair) for pair in zip(file.parts, file.parts[1:], strict=False)}
    for architecture, tags in PRETRAINED.items():
        for tag, settings in tags.items():
            url, repo = settings.get("url") or "", (settings.get("hf_hub") or "").rstrip("/")
            pinned = re.findall(r"/([0-9a-f]{64})/|-([0-9a-f]{8})\.pth?$", url)
            by_hash = any(digest and digest.startswith(long or short) for long, short in pinned)
            by_name = bool(url) and Path(url).name == file.name and not ANYBODYS.fullmatch(file.name)
            if by_hash or by_name or (repo and repo in folders):
                return f"{architecture} {tag}", bool(settings.get("quick_gelu"))
    if any(OPENAI.search(part) for part in file.parts[-2:]):
        return "OpenAI's, by its path", True
    return None


def activation_notes(module: nn.Module, file: Path | None, digest: str | None) -> tuple[str, ...]:
    """What to say where a module's activation is not the one that its weights were trained with."""
    known = None if file is None else origin_of(file, digest)
    found: Any = activations(module)
    if known is None or ("QuickGELU" in found) == known[1]:
        return ()
    trained, remedy = ("quick GELU", "one ending in -quickgelu") if known[1] else ("GELU", "one without -quickgelu")
    return (
        f"the weights ({known[0]}) were trained with {trained}, and this architecture has {found}: unless it is meant, "
        f"no number is right; name the architecture {remedy}, or set quick_gelu in open_clip_config.json",
    )
