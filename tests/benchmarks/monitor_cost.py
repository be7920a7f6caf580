"""What the monitor takes of the training of a full-size ViT-B/32 with 200 held-out pairs, at its default.

    python tests/benchmarks/monitor_cost.py [STEPS]

The weights are random, which changes no time, and so are images and texts: 32 pairs a step, the contrastive loss,
AdamW. Prints the share of the run that the checks took, by the monitor and by processor time, and how long a check and
a step take.
"""

from __future__ import annotations

import sys
import time

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from attention_collapse.monitor import Monitor

PAIRS, BATCH, THREADS = 200, 32, 2


def main() -> None:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 120
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)

    def drawn(n: int) -> tuple[Tensor, Tensor]:
        return torch.randn(n, 3, 224, 224), torch.randint(1, 49_000, (n, 77))

    def score(image: Tensor, text: Tensor) -> Tensor:
        return (model.encode_image(image, normalize=True) * model.encode_text(text, normalize=True)).sum(1)

    took = {"check": 0.0, "step": 0.0}
    monitor = Monitor(score, (*drawn(PAIRS), torch.arange(PAIRS) % 2), model=model, batch_size=BATCH)
    whole, batches = time.perf_counter(), [drawn(BATCH) for _ in range(4)]
    monitor.step(0)
    for step in range(1, steps + 1):
        before = time.process_time()
        image, text = batches[step % len(batches)]
        sides = model.encode_image(image, normalize=True), model.encode_text(text, normalize=True)
        logits = 100 * sides[0] @ sides[1].T
        own = torch.arange(BATCH)
        loss = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        took["step"] += time.process_time() - before
        before = time.process_time()
        monitor.step(step)
        took["check"] += time.process_time() - before
    checks = len(monitor.history)
    print(
        f"{steps} steps in {time.perf_counter() - whole:.0f} s, {checks} checks at steps "
        f"{', '.join(str(int(one['step'])) for one in monitor.history)}\n"
        f"share of the run that the checks took, the first included: {monitor.cost():.3f}; by processor time, from the "
        f"second on: {took['check'] / (took['check'] + took['step']):.3f}\n"
        f"a step: {took['step'] / steps:.2f} s of processor time; recommended every: {monitor.recommended_every()}"
    )


if __name__ == "__main__":
    main()
