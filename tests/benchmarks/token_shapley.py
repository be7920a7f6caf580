"""Cost of T-SHAP against scoring one masked pair at a time; and a protocol on a checkpoint of your own.

    python tests/benchmarks/token_shapley.py [--images 1] [--runs 1] [--permutations 10] [--protocol native]
    python tests/benchmarks/token_shapley.py --checkpoint FOLDER --pairs COCO_FOLDER --n 1500 --protocol mm-shap

The first form takes an image with a caption and a foil through the small trained OpenCLIP model and through a ViT-B/32
with random weights (it costs what a trained one costs), by two ways in one process:

one by one  as the paper's code: all 2 · (n + side²) + 1 masked pairs of each permutation (n ids of the caption) go
            through both towers, in batches of one
games       the package's own: each distinct masked image and caption is encoded once, in batches, without padding

Processor time is what is compared, all threads of the process together, so that other work on the machine does not
count. The first way is timed twice: with captions at their own length, as the paper's script for CLIP runs them, and
padded to the whole context, as open_clip's tokenizer gives them. The largest difference of any score is printed. Run it
from the repository's root.

A large image tower bounds the gain on a CPU, since every distinct masked image must pass it: 284 for the 1,140 masked
pairs of one image here. Measured once with a ViT-B/32, by native on one thread: 6.6 times less than one by one, and 8.8
times less than with the whole context. With the small model it was 12.0 and 12.5 times less.

The second form prints what to hold against the paper's CLIP ViT-B/32 on COCO (1,500 pairs): T-SHAP 50.3 % ± 12 for
captions, 52.9 % for foils. Its foil is another pair's caption, as the paper's is for COCO. `--protocol mm-shap` with 10
permutations is what the code that the authors published does.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from attention_collapse.data.pairs import read_folder, table
from attention_collapse.data.scenes import captions, render, sample
from attention_collapse.engine.token_contribution import _values, token_contributions
from attention_collapse.measures.token_shapley import PERMUTATIONS
from attention_collapse.models import load
from attention_collapse.models.catalogue import named
from attention_collapse.models.interface import DualEncoder
from attention_collapse.models.masking import Game, games
from attention_collapse.models.protocols import MM_SHAP, PROTOCOLS

Scores = list[tuple[np.ndarray, np.ndarray]]  # of each caption: (coalition, player) and (coalition,)


class Kept(Game):
    """A game that remembers what it was asked, and its answers."""

    def __init__(self, game: Game) -> None:
        super().__init__(game.tokens, game.slots, game.side, game.masking, game._scores)
        self.asked: Scores = []

    def __call__(self, coalitions: np.ndarray) -> np.ndarray:
        self.asked.append((coalitions, super().__call__(coalitions)))
        return self.asked[-1][1]


def in_games(
    model: DualEncoder, image: Image.Image, texts: list[str], *, permutations: int, protocol: str
) -> tuple[Scores, list[Game]]:
    played = [Kept(game) for game in games(model, image, texts, 32, protocol)]
    _values(played, permutations, 0)
    return [game.asked[0] for game in played], played


def absent_pixels(k: int, side: int, size: int, protocol: str) -> slice:
    """Row (or column) k of a grid over `size` pixels."""
    if protocol == MM_SHAP:
        return slice(k * (size // side), (k + 1) * (size // side))
    return slice(-(-k * size // side), -(-(k + 1) * size // side))


@torch.inference_mode()
def one_by_one(
    model: DualEncoder, image: Image.Image, text: str, coalitions: np.ndarray, *, side: int, protocol: str, padded: bool
) -> np.ndarray:
    """(coalition,) scores by loops over tokens, cells and pairs."""
    batches = model.images([image]), model.texts([text])
    [(pixels_name, pixels)] = batches[0].inputs.items()
    words_name = "text" if "text" in batches[1].inputs else "input_ids"
    words, (height, width) = batches[1].inputs[words_name], pixels.shape[2:]
    if padded:
        context = getattr(model.module, "context_length", words.shape[1])
        words = torch.nn.functional.pad(words, (0, context - words.shape[1]))  # open_clip pads with id 0
    tokens = int(batches[1].reads[0].lengths) - 2  # without start and end
    scores = []
    for present in coalitions:
        shown, said = pixels.clone(), words.clone()
        for k in np.flatnonzero(~present[:tokens]):
            said[0, 1 + k] = 0
        for k in np.flatnonzero(~present[tokens:]):
            rows, columns = (
                absent_pixels(at, side, size, protocol)
                for at, size in zip(divmod(int(k), side), (height, width), strict=True)
            )
            shown[..., rows, columns] = 0
        a = model.embed(replace(batches[0], inputs={pixels_name: shown})).embedding
        b = model.embed(replace(batches[1], inputs={**batches[1].inputs, words_name: said})).embedding
        scores.append(model.logit_scale * float(a[0] @ b[0]) + model.logit_bias)
    return np.array(scores)


def compare(name: str, runs: int, images: int, permutations: int, protocol: str) -> None:
    """Time both ways on rendered scenes, and compare their scores."""
    model = load(name, named(name))
    assert isinstance(model, DualEncoder)
    scenes = sample(images + 1, 0, held_out=True)
    ways = {"one by one": False, "one by one, whole context": True}
    seconds: dict[str, list[float]] = {way: [] for way in ("games", *ways)}
    difference, passes, distinct = 0.0, 0, 0
    in_games(model, render(scenes[0], np.random.default_rng(0)), ["a"], permutations=1, protocol=protocol)  # warm
    for i in range(images):
        picture = render(scenes[i], np.random.default_rng(i))
        texts = [captions(scene)[2] for scene in scenes[i : i + 2]]
        for _ in range(runs):
            start = time.process_time()
            asked, played = in_games(model, picture, texts, permutations=permutations, protocol=protocol)
            seconds["games"].append(time.process_time() - start)
            for way, padded in ways.items():
                taken = 0.0
                for text, game, (rows, known) in zip(texts, played, asked, strict=True):
                    # The paper's code scores each coalition of each permutation, also one that it has seen.
                    tokens = game.slots if protocol == MM_SHAP else game.tokens + 2
                    count = permutations * (2 * (tokens + game.side**2) + 1)
                    every = rows[np.arange(count) % len(rows)]
                    start = time.process_time()
                    found = one_by_one(model, picture, text, every, side=game.side, protocol=protocol, padded=padded)
                    taken += time.process_time() - start
                    difference = max(difference, float(np.abs(found[: len(rows)] - known).max()))
                    if padded:
                        passes, distinct = passes + count, distinct + len(rows)
                seconds[way].append(taken)
    many = images * runs
    fast = statistics.median(seconds["games"])
    print(
        f"{name}, {protocol}, {permutations} permutations: {passes / many:.0f} masked pairs an image with caption and "
        f"foil, {distinct / many:.0f} of them distinct; games {fast:.2f} s of processor time"
    )
    for way in ways:
        single = [a / b for a, b in zip(seconds[way], seconds["games"], strict=True)]
        slow = statistics.median(seconds[way])
        print(f"  {way}: {slow:.2f} s, {slow / fast:.1f} times as much ({min(single):.1f} to {max(single):.1f})")
    print(f"  largest difference of a score {difference:.1e}, logit scale {model.logit_scale:.1f}", flush=True)


def published(arguments: argparse.Namespace) -> None:
    """The protocol on a checkpoint and a COCO-layout folder: mean and standard deviation over images, in %."""
    pairs = table(read_folder(arguments.pairs, n=arguments.n, seed=arguments.seed)[0], "folder")
    values = token_contributions(
        load(arguments.checkpoint, named(arguments.checkpoint)), pairs, images=len(pairs), seed=arguments.seed,
        batch_size=32, permutations=arguments.permutations, protocol=arguments.protocol,
    )  # fmt: skip
    print(
        f"{len(values)} images; {values.attrs['masking']}; {arguments.protocol}, {arguments.permutations} permutations"
    )
    names = {"t_shap": "captions", "t_shap_foil": "foils", "t_shap_floor": "noise floor, captions"}
    for column, label in names.items():
        part = 100 * values[column]
        print(f"T-SHAP, {label:<22} {part.mean():5.1f} % ± {part.std(ddof=0):4.1f} (undefined: {part.isna().sum()})")
    print(f"players, mean: {values['text_tokens'].mean():.1f} tokens, {values['patches'].mean():.1f} patches")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--models", nargs="+", default=["openclip-scenes", "openclip-vit-b-32-untrained"])
    parser.add_argument("--checkpoint", help="a checkpoint folder, or a name of `attention-collapse models`")
    parser.add_argument("--pairs", type=Path, help="a COCO-layout folder")
    parser.add_argument("--n", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--permutations", type=int, default=PERMUTATIONS)
    parser.add_argument("--protocol", choices=PROTOCOLS, default=PROTOCOLS[0])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if (arguments.checkpoint is None) != (arguments.pairs is None):
        parser.error("--checkpoint and --pairs go together")
    if arguments.checkpoint:
        published(arguments)
        return
    for name in arguments.models:
        compare(name, arguments.runs, arguments.images, arguments.permutations, arguments.protocol)


if __name__ == "__main__":
    main()
