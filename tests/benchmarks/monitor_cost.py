"""What watching costs on a full-size model: an untrained OpenCLIP ViT-B/32, with the monitor's default of one partner.

    python tests/benchmarks/monitor_cost.py [--batch 32] [--pairs 100]

A model is trained on noise by plain cross entropy over whether image and text match, on one CPU thread. Steps, and
checks of as many held-out pairs and as many hard ones, are timed in one run, by processor time: medians of five and of
three.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time

import torch
from torch import Tensor, nn

from attention_collapse.models import load
from attention_collapse.models.catalogue import CATALOGUE
from attention_collapse.monitor import Monitor

BUDGET = 0.05  # the monitor's default


class Matcher(nn.Module):
    """Log-odds of a match: a scaled cosine of both towers' embeddings, with an offset."""

    def __init__(self) -> None:
        super().__init__()
        self.clip = load("openclip-vit-b-32-untrained", CATALOGUE["openclip-vit-b-32-untrained"]).module.requires_grad_(
            True
        )
        self.offset = nn.Parameter(torch.zeros(()))

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        one, other = (
            nn.functional.normalize(found, dim=-1)
            for found in (self.clip.encode_image(image), self.clip.encode_text(text))
        )
        return self.clip.logit_scale.exp() * (one * other).sum(-1) + self.offset


def pairs(n: int, draw: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Noise: images, texts of 12 tokens between start and end, labels."""
    text = torch.zeros(n, 77, dtype=torch.long)
    text[:, :14] = torch.randint(1, 49_000, (n, 14), generator=draw)
    text[:, 0], text[:, 13] = 49_406, 49_407
    return torch.randn(n, 3, 224, 224, generator=draw), text, torch.arange(n) % 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--pairs", type=int, default=100)
    given = parser.parse_args()
    torch.set_num_threads(1)
    draw = torch.Generator().manual_seed(0)
    model, batch = Matcher().train(), pairs(given.batch, draw)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)

    def step() -> None:
        loss = nn.functional.binary_cross_entropy_with_logits(model(*batch[:2]), batch[2].float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def timed(run: object) -> float:
        began = time.process_time()
        run()  # type: ignore[operator]
        return time.process_time() - began

    step()
    alone = statistics.median(timed(step) for _ in range(5))
    held_out, hard = pairs(given.pairs, draw), pairs(given.pairs, draw)
    every = Monitor(model, held_out, hard=hard, every=1)
    every.step(0)
    check = statistics.median(timed(lambda at=at: every.step(at)) for at in range(1, 4))
    print(
        f"a step {alone:.2f} s, a check {check:.2f} s: as long as {check / alone:.1f} steps (batches of {given.batch})"
    )
    print(f"within {BUDGET:.0%} of the time with every={math.ceil(check * (1 - BUDGET) / (BUDGET * alone))}")


if __name__ == "__main__":
    main()
