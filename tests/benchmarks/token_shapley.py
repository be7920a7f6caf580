"""Cost of T-SHAP against scoring one masked pair at a time; and the published protocol on a checkpoint of your own.

    python tests/benchmarks/token_shapley.py [--runs 5] [--images 2]
    python tests/benchmarks/token_shapley.py --checkpoint FOLDER --pairs COCO_FOLDER --n 1500

The first form takes an image with a caption and a foil through the small trained OpenCLIP model and through a ViT-B/32
with random weights (it costs what a trained one costs), two ways that alternate in one process:

one by one  as the paper's code: each masked pair goes through both towers, in a batch of one, with the whole context
games       the package's own: each distinct masked image and caption is encoded once, in batches, without padding

Both score the same coalitions; medians and the largest difference of any score are printed. Run it from the
repository's root. On a CPU a large image tower bounds the gain: the 2 · side² masked images must all pass it.

The second form prints what to hold against the paper's CLIP ViT-B/32 on COCO (1,500 pairs): T-SHAP 50.3 % ± 12 for
captions, 52.9 % for foils. Its foil is another pair's caption, as the paper's is for COCO. `--permutations 10` is the
budget of the code that the authors published, 1 that of their text.
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
from attention_collapse.measures.token_shapley import grid_side
from attention_collapse.models import load
from attention_collapse.models.catalogue import named
from attention_collapse.models.interface import DualEncoder
from attention_collapse.models.masking import Game, games

Scores = list[tuple[np.ndarray, np.ndarray]]  # of each caption: (coalition, player) and (coalition,)


class Kept(Game):
    """A game that remembers what it was asked, and its answers."""

    def __init__(self, game: Game) -> None:
        super().__init__(game.tokens, game.masking, game._scores)
        self.asked: Scores = []

    def __call__(self, coalitions: np.ndarray) -> np.ndarray:
        self.asked.append((coalitions, super().__call__(coalitions)))
        return self.asked[-1][1]


def in_games(model: DualEncoder, image: Image.Image, texts: list[str]) -> Scores:
    played = [Kept(game) for game in games(model, image, texts, 32)]
    _values(played, 1, 0)
    return [game.asked[0] for game in played]


@torch.inference_mode()
def one_by_one(
    model: DualEncoder, image: Image.Image, texts: list[str], coalitions: list[np.ndarray]
) -> list[np.ndarray]:
    """Scores by loops over tokens, cells and pairs."""
    found = []
    for text, rows in zip(texts, coalitions, strict=True):
        batches = model.images([image]), model.texts([text])
        [(pixels_name, pixels)] = batches[0].inputs.items()
        words_name = "text" if "text" in batches[1].inputs else "input_ids"
        words, (height, width) = batches[1].inputs[words_name], pixels.shape[2:]
        context = getattr(model.module, "context_length", words.shape[1])
        words = torch.nn.functional.pad(words, (0, context - words.shape[1]))  # open_clip pads with id 0
        tokens = int(batches[1].reads[0].lengths) - 2  # without start and end
        side, scores = grid_side(tokens), []
        for present in rows:
            shown, said = pixels.clone(), words.clone()
            for k in np.flatnonzero(~present[:tokens]):
                said[0, 1 + k] = 0
            for k in np.flatnonzero(~present[tokens:]):
                (top, bottom), (left, right) = (
                    (-(-at * size // side), -(-(at + 1) * size // side))
                    for at, size in zip(divmod(int(k), side), (height, width), strict=True)
                )
                shown[..., top:bottom, left:right] = 0
            a = model.embed(replace(batches[0], inputs={pixels_name: shown})).embedding
            b = model.embed(replace(batches[1], inputs={**batches[1].inputs, words_name: said})).embedding
            scores.append(model.logit_scale * float(a[0] @ b[0]) + model.logit_bias)
        found.append(np.array(scores))
    return found


def compare(name: str, runs: int, images: int) -> None:
    """Time both ways on rendered scenes, and compare their scores."""
    model = load(name, named(name))
    assert isinstance(model, DualEncoder)
    scenes = sample(images + 1, 0, held_out=True)
    seconds: dict[str, list[float]] = {"one by one": [], "games": []}
    difference, scored = 0.0, 0
    for i in range(images):
        picture, texts = (
            render(scenes[i], np.random.default_rng(i)),
            [captions(scene)[2] for scene in scenes[i : i + 2]],
        )
        expected = in_games(model, picture, texts)
        coalitions = [rows for rows, _ in expected]
        one_by_one(model, picture, texts, [rows[:1] for rows in coalitions])  # both ways are warm
        for run in range(runs):
            for way in list(seconds)[:: 1 if run % 2 else -1]:
                start = time.perf_counter()
                if way == "games":
                    in_games(model, picture, texts)
                else:
                    found = one_by_one(model, picture, texts, coalitions)
                seconds[way].append(time.perf_counter() - start)
        gaps = [np.abs(a - b).max() for a, (_, b) in zip(found, expected, strict=True)]
        difference, scored = max(difference, *gaps), scored + sum(len(rows) for rows in coalitions)
    slow, fast = (statistics.median(seconds[way]) for way in seconds)
    single = [a / b for a, b in zip(*seconds.values(), strict=True)]
    print(
        f"{name}: {scored / images:.0f} masked pairs an image; one by one {slow:.3f} s, games {fast:.3f} s, "
        f"{slow / fast:.1f} times faster (single {min(single):.1f}–{max(single):.1f}); largest difference of a score "
        f"{difference:.1e}, logit scale {model.logit_scale:.1f}",
        flush=True,
    )


def published(arguments: argparse.Namespace) -> None:
    """The protocol on a checkpoint and a COCO-layout folder: mean and standard deviation over images, in %."""
    pairs = table(read_folder(arguments.pairs, n=arguments.n, seed=arguments.seed)[0], "folder")
    values = token_contributions(
        load(arguments.checkpoint, named(arguments.checkpoint)), pairs, images=len(pairs), seed=arguments.seed,
        batch_size=32, permutations=arguments.permutations,
    )  # fmt: skip
    print(f"{len(values)} images; {values.attrs['masking']}; {arguments.permutations} permutation(s) of the players")
    names = {"t_shap": "captions", "t_shap_foil": "foils", "t_shap_floor": "noise floor, captions"}
    for column, label in names.items():
        part = 100 * values[column]
        print(f"T-SHAP, {label:<22} {part.mean():5.1f} % ± {part.std(ddof=0):4.1f} (undefined: {part.isna().sum()})")
    print(f"players, mean: {values['text_tokens'].mean():.1f} tokens, {values['patches'].mean():.1f} patches")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--models", nargs="+", default=["openclip-scenes", "openclip-vit-b-32-untrained"])
    parser.add_argument("--checkpoint", help="a checkpoint folder, or a name of `attention-collapse models`")
    parser.add_argument("--pairs", type=Path, help="a COCO-layout folder")
    parser.add_argument("--n", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--permutations", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if (arguments.checkpoint is None) != (arguments.pairs is None):
        parser.error("--checkpoint and --pairs go together")
    if arguments.checkpoint:
        published(arguments)
        return
    for name in arguments.models:
        compare(name, arguments.runs, arguments.images)


if __name__ == "__main__":
    main()
