"""Cost of the causal measures: against encoding each item once (dual encoder), and against passes (fusion model).

    python tests/benchmarks/contributions.py [--runs 5] [--n 500] [--pairs 100] [--partners 8] [--threads 1]

Dual encoder: the whole of `contributions` (two-player Shapley values, accuracies without a modality, additive
projection) over `n` pairs ÷ encoding the same images and captions once, from the files.

Fusion model (a BLIP of 128 pixels, 65 image tokens, random weights): `contributions` with `partners` draws a pair ÷
`partners` passes of each pair; how many pairs were scored and how many rows its image encoder ran; and once the same
with the encoder run at every pass. Both sides count the time within the model; with inputs prepared it is printed
beside.

What is compared alternates in one process, so that both see the same machine; medians are printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tiny.encoders import write_blip

from attention_collapse.data.images import load_rgb
from attention_collapse.data.pairs import read_folder, table
from attention_collapse.engine.contribution import contributions
from attention_collapse.models import load
from attention_collapse.models.interface import Without
from attention_collapse.models.spec import ModelSpec

BATCH = 32
WORDS = ("a", "two", "three"), ("red", "blue", "old", "small"), ("cat", "bus", "dog", "table"), ("street", "sofa")


def pairs_of(folder: Path, n: int) -> Any:
    """A table of `n` pictures of 640 × 480 pixels as smooth as photographs, with one caption each."""
    rng, images, annotations = np.random.default_rng(0), [], []
    (folder / "val2017").mkdir(parents=True)
    (folder / "annotations").mkdir()
    for i in range(1, n + 1):
        name = f"{i:012d}.jpg"
        coarse = Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
        coarse.resize((640, 480), Image.Resampling.BICUBIC).save(folder / "val2017" / name, quality=90)
        count, colour, thing, place = (str(rng.choice(words)) for words in WORDS)
        images.append({"id": i, "file_name": name, "license": 1})
        annotations.append({"id": i, "image_id": i, "caption": f"{count} {colour} {thing} on a {place}, picture {i}"})
    data = {"images": images, "annotations": annotations, "licenses": [{"id": 1, "url": "http://licence/1"}]}
    (folder / "annotations" / "captions_val2017.json").write_text(json.dumps(data))
    return table(read_folder(folder)[0], "folder")


def seconds_of(ways: dict[str, Callable[[], None]], runs: int) -> dict[str, list[float]]:
    """Seconds of each way, the ways alternating, after one run of each to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for run in range(runs + 1):
        for name, function in ways.items():
            start = time.perf_counter()
            function()
            if run:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(label: str, above: list[float], below: list[float]) -> None:
    """Print the ratio of medians, and the range of the single ones."""
    single = [a / b for a, b in zip(above, below, strict=True)]
    both = statistics.median(above) / statistics.median(below)
    print(f"{label}: {both:.3f} (single {min(single):.3f}–{max(single):.3f})", flush=True)


def dual_encoder(folder: Path, n: int, runs: int) -> None:
    """All causal measures ÷ one encoding of every item."""
    model: Any = load("dual", ModelSpec(kind="openclip", weights="untrained", architecture="ViT-S-32-alt", seed=0))
    pairs = pairs_of(folder, n)
    paths, texts = [Path(file["path"]) for file in pairs["image"]], [captions[0] for captions in pairs["captions"]]

    def encode() -> None:
        for start in range(0, n, BATCH):
            some = slice(start, start + BATCH)
            with torch.inference_mode():
                model.embed(model.images([load_rgb(path)[0] for path in paths[some]]))
                model.embed(model.texts(texts[some]))

    def measure() -> None:
        contributions(model, pairs, partners=8, seed=0, batch_size=BATCH)

    seconds = seconds_of({"encode": encode, "measure": measure}, runs)
    for name, values in seconds.items():
        print(f"{name:<8} {statistics.median(values):7.2f} s")
    ratio(f"dual encoder, {n} pairs: all measures ÷ encoding once", seconds["measure"], seconds["encode"])


def middle_blip(folder: Path) -> Any:
    """A BLIP whose image encoder is most of its cost, as in the published ones: 8 image layers, 4 text layers."""
    write_blip(folder)
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"] |= {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 8}
    config["vision_config"] |= {"image_size": 128, "patch_size": 16}
    config["text_config"] |= {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4}
    config["text_config"] |= {"encoder_hidden_size": 256}
    (folder / "config.json").write_text(json.dumps(config))
    processor = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(processor | {"size": {"height": 128, "width": 128}}))
    return load("fusion", ModelSpec(kind="blip", weights="untrained", architecture=str(folder), seed=0))


def fusion_model(folder: Path, n: int, partners: int, runs: int) -> None:
    """Coalitions ÷ partners × passes, in pairs scored, in rows of the image encoder and in time."""
    model, pairs = middle_blip(folder / "blip"), pairs_of(folder / "pairs", n)
    images = [load_rgb(Path(file["path"]))[0] for file in pairs["image"]]
    texts = [captions[0] for captions in pairs["captions"]]
    slices = [slice(start, start + BATCH) for start in range(0, n, BATCH)]
    batches = [model.pairs(images[some], texts[some]) for some in slices]
    rows, scored, spent = [], [], []
    inner = model.score

    def score(batch: Any) -> Any:
        start = time.perf_counter()
        scores = inner(batch)
        spent.append(time.perf_counter() - start)
        scored.append(len(scores))
        return scores

    model.score = score
    patches = model.module.vision_model.embeddings.patch_embedding
    patches.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))

    def once() -> None:
        contributions(model, pairs, partners=partners, seed=0, batch_size=BATCH)

    def every_time() -> None:
        name, model.image_encoder = model.image_encoder, Without("run at every pass")
        try:
            once()
        finally:
            model.image_encoder = name

    def passes() -> None:
        with torch.inference_mode():
            for batch in batches:
                model.score(batch)

    inside: dict[str, list[float]] = {"passes": [], "once": [], "every time": []}
    for name, function in [("passes", passes), ("once", once)] * (runs + 1) + [("every time", every_time)]:
        for kept in (rows, scored, spent):
            kept.clear()
        start = time.perf_counter()
        function()
        inside[name].append(sum(spent))
        print(
            f"{name:<11} {sum(scored):>6} pairs scored, {sum(rows):>6} rows of the image encoder, "
            f"{sum(spent):7.2f} s in the model, {time.perf_counter() - start:7.2f} s in all",
            flush=True,
        )
    unit = [partners * value for value in inside["passes"][1:]]  # the first of each warms up
    ratio(f"fusion model, {n} pairs: in the model ÷ {partners} passes of each pair", inside["once"][1:], unit)
    ratio("  with the image encoder run at every pass", inside["every time"], [statistics.median(unit)])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--partners", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        dual_encoder(Path(folder) / "dual", arguments.n, arguments.runs)
        fusion_model(Path(folder) / "fusion", arguments.pairs, arguments.partners, arguments.runs)


if __name__ == "__main__":
    main()
