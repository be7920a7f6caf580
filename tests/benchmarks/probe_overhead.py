"""Cost of the probe on a full-size OpenCLIP ViT-B/32: probe ÷ bare forward, in time and in peak memory.

    python tests/benchmarks/probe_overhead.py [--runs 7] [--batch 32]

Bare and probed passes alternate in one process, so that both see the same machine; medians are printed. Memory is the
peak resident size of the pass above that of the loaded model (Linux: VmHWM, reset before each pass).
"""

from __future__ import annotations

import argparse
import gc
import re
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from attention_collapse.models import load
from attention_collapse.models.catalogue import CATALOGUE
from attention_collapse.stages.extract_attention import probe_batch


def resident(field: str) -> float:
    """MiB of VmRSS or VmHWM."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


def measured(function) -> tuple[float, float]:
    """Seconds, and peak MiB above the resident size before the call."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before, start = resident("VmRSS"), time.perf_counter()
    function()
    return time.perf_counter() - start, resident("VmHWM") - before


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = load("openclip-vit-b-32-untrained", CATALOGUE["openclip-vit-b-32-untrained"])
    noise = np.random.default_rng(0).integers(0, 256, (arguments.batch, 224, 224, 3), dtype=np.uint8)
    batches = {
        "vision": model.image_batch([Image.fromarray(pixels) for pixels in noise]),
        "text": model.text_batch([f"a photo of {i} cats and a dog on a red sofa" for i in range(arguments.batch)]),
    }

    def bare() -> None:
        with torch.inference_mode():
            for tower, batch in batches.items():
                model.encode(tower, batch)

    def probed() -> None:
        for tower in model.towers:
            probe_batch(model, tower, batches[tower.name])

    results: dict[str, list[tuple[float, float]]] = {"bare": [], "probe": []}
    for run in range(arguments.runs + 1):
        for name, function in (("bare", bare), ("probe", probed)):
            value = measured(function)
            if run:  # the first pass of each warms up
                results[name].append(value)
    medians = {
        name: [statistics.median(column) for column in zip(*values, strict=True)] for name, values in results.items()
    }
    for name, (seconds, mebibytes) in medians.items():
        print(f"{name:<6} {seconds:7.2f} s   peak {mebibytes:7.1f} MiB above the loaded model")
    pairs = [p / b for (p, _), (b, _) in zip(results["probe"], results["bare"], strict=True)]
    print(
        f"probe ÷ bare: time {medians['probe'][0] / medians['bare'][0]:.3f} "
        f"(single runs {min(pairs):.3f}–{max(pairs):.3f}), memory {medians['probe'][1] / medians['bare'][1]:.3f}"
    )


if __name__ == "__main__":
    main()
