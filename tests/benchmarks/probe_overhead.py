"""Cost of the probe on a full-size OpenCLIP ViT-B/32: probe ÷ bare forward, in time and in peak memory.

    python tests/benchmarks/probe_overhead.py [--runs 7] [--batch 32]

Bare and probed passes alternate in one process, so that both see the same machine; medians are printed. Memory is
measured in a fresh process a pass: the peak resident size of the first pass above that of the loaded model (Linux:
VmHWM, reset before the pass). It is measured twice: with every large block returned to the system at once (what is
really alive), and with glibc's own policy, which keeps freed blocks in a heap that fragments by chance.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from attention_collapse.engine.probed_batch import probe_batch
from attention_collapse.models import load
from attention_collapse.models.catalogue import CATALOGUE
from attention_collapse.models.interface import DualEncoder


def resident(field: str) -> float:
    """MiB of VmRSS or VmHWM."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


Pass = Callable[[], None]


def passes(batch_size: int, threads: int) -> dict[str, Pass]:
    """Both ways to run both towers once."""
    torch.set_num_threads(threads)
    model = load("openclip-vit-b-32-untrained", CATALOGUE["openclip-vit-b-32-untrained"])
    assert isinstance(model, DualEncoder)
    noise = np.random.default_rng(0).integers(0, 256, (batch_size, 224, 224, 3), dtype=np.uint8)
    batches = (
        model.images([Image.fromarray(pixels) for pixels in noise]),
        model.texts([f"a photo of {i} cats and a dog on a red sofa" for i in range(batch_size)]),
    )

    def bare() -> None:
        with torch.inference_mode():
            for batch in batches:
                model.embed(batch)

    def probed() -> None:
        for batch in batches:
            probe_batch(model, batch, model.embed)

    return {"bare": bare, "probe": probed}


def peak(function: Pass) -> float:
    """Peak MiB of one pass above the resident size before it."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # give back what loading the model left behind
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    function()
    return resident("VmHWM") - before


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peak", choices=("bare", "probe"), help=argparse.SUPPRESS)  # one pass, in a fresh process
    arguments = parser.parse_args()
    both = passes(arguments.batch, arguments.threads)
    if arguments.peak:
        print(peak(both[arguments.peak]))
        return
    seconds: dict[str, list[float]] = {name: [] for name in both}
    for run in range(arguments.runs + 1):
        for name, function in both.items():
            start = time.perf_counter()
            function()
            if run:  # the first pass of each warms up
                seconds[name].append(time.perf_counter() - start)
    time_of = {name: statistics.median(values) for name, values in seconds.items()}
    for name in both:
        print(f"{name:<6} {time_of[name]:6.2f} s")
    single = [p / b for p, b in zip(seconds["probe"], seconds["bare"], strict=True)]
    print(f"time, probe ÷ bare: {time_of['probe'] / time_of['bare']:.3f} (single {min(single):.3f}–{max(single):.3f})")
    for policy, environment in (("alive", {"MALLOC_MMAP_THRESHOLD_": "131072"}), ("glibc heap", {})):
        memory: dict[str, list[float]] = {name: [] for name in both}
        for name in [*both] * 3:
            command = [sys.executable, __file__, "--peak", name, "--batch", str(arguments.batch)]
            command += ["--threads", str(arguments.threads)]
            done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
            memory[name].append(float(done.stdout))
        bare, probe = (statistics.median(memory[name]) for name in ("bare", "probe"))
        print(
            f"peak memory ({policy}), probe ÷ bare: {probe / bare:.3f} ({probe:.0f} MiB ÷ {bare:.0f} MiB)", flush=True
        )


if __name__ == "__main__":
    main()
