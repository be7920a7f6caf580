"""Attention modules by name."""

from __future__ import annotations

import difflib
import re

from torch import nn

from attention_collapse.errors import ModelError


def natural(names: list[str]) -> tuple[str, ...]:
    """Names in the order of their numbers: layer 2 before layer 10.

    Examples
    --------
    >>> natural(["layer.10", "layer.2"])
    ('layer.2', 'layer.10')
    """
    return tuple(
        sorted(names, key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)])
    )


def matching_sites(name: str, module: nn.Module, pattern: str) -> tuple[str, ...]:
    """Modules whose whole name matches a regular expression, shallow to deep; ModelError if there is none.

    Examples
    --------
    >>> layers = nn.Sequential(nn.MultiheadAttention(2, 1), nn.ReLU(), nn.MultiheadAttention(2, 1))
    >>> matching_sites("mine", layers, "[02]")
    ('0', '2')
    """
    names = [site for site, _ in module.named_modules()]
    found = natural([site for site in names if re.fullmatch(pattern, site)])
    if not found:
        plain = re.sub(r"\\d\+|\d+", "0", pattern).replace("\\", "")
        near = difflib.get_close_matches(plain, [re.sub(r"\d+", "0", site) for site in names], n=1)
        raise ModelError(
            f"{name}: no module matches {pattern!r}",
            expected="the names of attention modules, as in model.named_modules()",
            remedy=f"did you mean {near[0]!r}?" if near else "check that the checkpoint is of this kind",
        )
    return found
