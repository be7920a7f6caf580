"""Ray against one process: the wall time of extraction and contributions of many small pairs.

    python tests/benchmarks/ray_actors.py [--images 5000] [--captions 5] [--actors 2] [--runs 3]

One process has as many threads as there are actors; an actor has one. What Ray takes to start, and an actor to load its
model, is part of its time. Both alternate in one run; medians are printed, and the ratio. Both write the same bytes,
which is checked: 1 thread and several give the small model the same digits.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from attention_collapse.data.pairs import read_folder, table
from attention_collapse.engine.attention import extract_into
from attention_collapse.engine.contribution import contributions
from attention_collapse.engine.pieces import Runner, here
from attention_collapse.engine.ray_actors import on_ray
from attention_collapse.models import load
from attention_collapse.models.spec import ModelSpec
from attention_collapse.params import Engine

MODEL = Path(__file__).resolve().parents[2] / "data" / "controls" / "openclip-scenes"


def pairs_of(folder: Path, images: int, captions: int) -> Any:
    """A table of small pictures of one colour each."""
    (folder / "val2017").mkdir(parents=True)
    (folder / "annotations").mkdir()
    names = [f"{i:012d}.png" for i in range(1, images + 1)]
    for i, name in enumerate(names):
        Image.new("RGB", (64, 64), (i % 251, i // 251 % 251, 7)).save(folder / "val2017" / name)
    said = [(i, k) for i in range(1, images + 1) for k in range(captions)]
    data = {
        "images": [{"id": i, "file_name": name, "license": 1} for i, name in enumerate(names, 1)],
        "annotations": [
            {"id": i * captions + k, "image_id": i, "caption": f"a red circle {i} {k}"} for i, k in said
        ],
        "licenses": [{"id": 1, "url": "http://licence/1"}],
    }  # fmt: skip
    (folder / "annotations" / "captions_val2017.json").write_text(json.dumps(data))
    return table(read_folder(folder)[0], "folder")


def main() -> None:
    """Print the seconds of each, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--captions", type=int, default=5)
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    spec = ModelSpec(kind="openclip", weights="checkpoint", path=str(MODEL), max_unknown=1.0)
    loaded, seconds = load("m", spec), {"one process": [], "Ray": []}
    with tempfile.TemporaryDirectory() as scratch:
        pairs = pairs_of(Path(scratch) / "in", asked.images, asked.captions)

        def both(out: Path, run: Runner) -> bytes:
            extract_into(out / "a.parquet", loaded, pairs, batch_size=32, work=out / "a", run=run)
            contributions(loaded, pairs, partners=8, seed=0, batch_size=32, work=out / "c", run=run)
            return (out / "a.parquet").read_bytes()

        for turn in range(asked.runs):
            torch.set_num_threads(asked.actors)
            begun = time.perf_counter()
            one = both(Path(scratch) / f"one-{turn}", here)
            seconds["one process"].append(time.perf_counter() - begun)
            begun = time.perf_counter()
            settings = Engine(kind="ray", actors=asked.actors, address="local")
            with on_ray(settings, partial(load, "m", spec), 1) as run:
                many = both(Path(scratch) / f"ray-{turn}", run)
            seconds["Ray"].append(time.perf_counter() - begun)
            print(f"run {turn + 1}: the attention table has {'the same' if one == many else 'OTHER'} bytes", flush=True)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, values in seconds.items():
        print(f"{name:12} {medians[name]:8.1f} s  ({', '.join(f'{value:.1f}' for value in values)})")
    print(f"Ray ÷ one process: {medians['Ray'] / medians['one process']:.2f}")


if __name__ == "__main__":
    main()
