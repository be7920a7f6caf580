"""Pairs whose right answer is a product of a sign in the image and one in the text, and scores that use what they say.

A cue in the text agrees with the answer in 19 of 20 pairs.
"""

from __future__ import annotations

import torch

from attention_collapse.monitor import HeldOut

CUE = 0.95


def pairs(n=200, seed=0, cue=CUE):
    """Images (n, 2): sign, noise. Texts (n, 3): sign, cue, noise. Half of the labels are 1."""
    rng = torch.Generator().manual_seed(seed)
    sign = torch.randint(0, 2, (n, 2), generator=rng) * 2.0 - 1
    answer = sign.prod(1)
    says = torch.where(torch.rand(n, generator=rng) < cue, answer, -answer)
    noise = torch.randn(n, 2, generator=rng)
    image = torch.stack([sign[:, 0], noise[:, 0]], 1)
    text = torch.stack([sign[:, 1], says, noise[:, 1]], 1)
    return HeldOut(image, text, (answer > 0).long())


def content(image, text):
    """Needs both: right for every pair."""
    return 4 * image[:, 0] * text[:, 0] + 0.1 * text[:, 2]


def cue(image, text):
    """Never reads the image."""
    return 4 * text[:, 1] + 0.1 * text[:, 2]


def chance(image, text):
    """Reads both, and knows nothing."""
    return image[:, 1] + text[:, 2]


def mirrored(held_out):
    """The same with the text for the image, and the reverse."""
    return HeldOut(held_out.text, held_out.image, held_out.target)
