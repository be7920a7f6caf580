"""Peak memory of each step at several numbers of pairs: it must not grow with them.

    python tests/benchmarks/memory.py [--pairs 1000 5000 20000] [--model data/controls/openclip-scenes] [--threads 1]

Pairs are small pictures of one colour each with a caption each (what is in them does not matter). Each number of pairs
is measured in a process of its own, step by step, as the study's stages run them: extraction into a file, scores of it,
contributions. Printed is the peak of the process's own memory (VmHWM, which is reset before each step), what of it was
there before the step, and the ratio to that of 5,000 pairs, or of the first number.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MIB = 1024


def peak(work: Callable[[], Any]) -> tuple[float, float, float, Any]:
    """(MiB before, MiB at most, seconds, what it gave)."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is from now on
    before, begun = memory("VmRSS"), time.process_time()
    found = work()
    return before, memory("VmHWM"), time.process_time() - begun, found


def memory(name: str) -> float:
    """Of this process, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / MIB


def measured(n: int, model: str, threads: int) -> dict[str, tuple[float, float, float]]:
    """Step -> MiB before, MiB at most, seconds of processor time."""
    import torch
    from PIL import Image

    from attention_collapse.data.pairs import read_folder, table
    from attention_collapse.engine.attention import extract_into
    from attention_collapse.engine.attention_table import blocks
    from attention_collapse.engine.contribution import contributions
    from attention_collapse.engine.scores import by_image, score_blocks
    from attention_collapse.models import load
    from attention_collapse.models.spec import ModelSpec

    torch.set_num_threads(threads)
    found: dict[str, tuple[float, float, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "in"
        (folder / "val2017").mkdir(parents=True)
        (folder / "annotations").mkdir()
        names = [f"{i:012d}.png" for i in range(1, n + 1)]
        for i, name in enumerate(names):
            Image.new("RGB", (32, 32), (i % 251, i // 251 % 251, 7)).save(folder / "val2017" / name)
        data = {
            "images": [{"id": i, "file_name": name, "license": 1} for i, name in enumerate(names, 1)],
            "annotations": [{"id": i, "image_id": i, "caption": f"a red circle {i}"} for i in range(1, n + 1)],
            "licenses": [{"id": 1, "url": "http://licence/1"}],
        }
        (folder / "annotations" / "captions_val2017.json").write_text(json.dumps(data))
        loaded = load("m", ModelSpec(kind="openclip", weights="checkpoint", path=model, max_unknown=1.0))
        pairs = table(read_folder(folder)[0], "folder")
        out, work = Path(scratch) / "attention.parquet", Path(scratch) / "work"
        *found["extraction"], _ = peak(lambda: extract_into(out, loaded, pairs, batch_size=32, work=work / "a"))
        *found["contributions"], _ = peak(
            lambda: contributions(loaded, pairs, partners=8, seed=0, batch_size=32, work=work / "c")
        )
        *found["scores"], _ = peak(lambda: by_image(score_blocks(blocks(out), loaded.family)[0].pairs))
    return found


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, nargs="+", default=[1000, 5000, 20000])
    parser.add_argument("--model", default="data/controls/openclip-scenes")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measured(asked.one, asked.model, asked.threads)))
        return
    steps: dict[int, dict[str, list[float]]] = {}
    for n in asked.pairs:
        command = [sys.executable, __file__, "--one", str(n), "--model", asked.model, "--threads", str(asked.threads)]
        steps[n] = json.loads(
            subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
        )
    base = steps[5000 if 5000 in steps else asked.pairs[0]]
    print(f"{'step':20} {'pairs':>7} {'MiB before':>11} {'MiB at most':>12} {'ratio':>6} {'processor s':>12}")
    for step in base:
        for n, of in steps.items():
            before, most, seconds = of[step]
            print(f"{step:20} {n:7,} {before:11.0f} {most:12.0f} {most / base[step][1]:6.2f} {seconds:12.1f}")


if __name__ == "__main__":
    main()
