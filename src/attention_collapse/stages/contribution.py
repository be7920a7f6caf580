"""Stage contribution: what a model's score depends on, image or text, for every kind of model, attention or not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import torch
from PIL import Image
from tqdm import tqdm

from attention_collapse.data.images import load_rgb
from attention_collapse.data.pairs import read_study
from attention_collapse.errors import DataError
from attention_collapse.families import DUAL_ENCODER
from attention_collapse.files import evidence_id, sha256_file, write_csv, write_json
from attention_collapse.measures.matching import (
    accuracy,
    accuracy_without_image,
    accuracy_without_text,
    additive_projection,
    won,
)
from attention_collapse.measures.shapley import shapley_share, two_player
from attention_collapse.models.interface import Model, TwoTowers
from attention_collapse.params import Stats
from attention_collapse.stages.checkpoints import load_recorded
from attention_collapse.stages.layout import Study, run_stage
from attention_collapse.stats.one_sample import describe

if TYPE_CHECKING:
    from datasets import Dataset

Indices = list[tuple[int, int]]  # (image, text) by position; image n is the mean image
BASELINES = {
    "": "another pair's image, another pair's caption",
    "_mean_image": "the data set's mean image, another pair's caption",
}
SHAPLEY = ("shapley_image", "shapley_text", "interaction", "shapley_share")
COLUMNS = (
    "score", *[f"{name}{suffix}" for suffix in BASELINES for name in SHAPLEY],
    "accuracy", "perceptual_score_image", "perceptual_score_text", "emap_gap",
)  # fmt: skip
FEWEST = 3  # images: a partner of the image and one of the text, from two other pairs
MEAN_SIDE = 224  # pixels: pictures of any size are averaged at this one


class _Pictures:
    """The images of a data set by position, read when they are needed, and after them their mean."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        total = np.zeros((MEAN_SIDE, MEAN_SIDE, 3))
        for path in paths:
            total += np.asarray(load_rgb(path)[0].resize((MEAN_SIDE, MEAN_SIDE), Image.Resampling.BICUBIC), np.float64)
        self.mean = Image.fromarray((total / len(paths)).round().astype(np.uint8))

    def __len__(self) -> int:
        return len(self.paths) + 1

    def __getitem__(self, position: int) -> Image.Image:
        return self.mean if position == len(self.paths) else load_rgb(self.paths[position])[0]


def _grid(model: TwoTowers, pictures: _Pictures, texts: list[str], batch_size: int) -> np.ndarray:
    """A dual encoder's score of every image with every text, (image, text), from one encoding an item."""
    parts = {}
    for kind, size in (("image", len(pictures)), ("text", len(texts))):
        embeddings = []
        for start in tqdm(range(0, size, batch_size), desc=f"{model.name} {kind}s", unit="batch", disable=None):
            some = range(start, min(start + batch_size, size))
            contents = [pictures[i] if kind == "image" else texts[i] for i in some]
            with torch.inference_mode():
                embedding = model.run(model.batch(kind, contents)).embedding
            embeddings.append(cast("torch.Tensor", embedding).double().cpu())
        parts[kind] = torch.cat(embeddings)
    grid: np.ndarray = (model.logit_scale * parts["image"] @ parts["text"].T + model.logit_bias).numpy()
    return grid


def _one_by_one(
    model: Model, pictures: _Pictures, texts: list[str], wanted: Indices, batch_size: int
) -> dict[tuple[int, int], float]:
    """The score of each wanted (image, text), each distinct one computed once, image by image."""
    distinct = sorted(set(wanted))
    values: dict[tuple[int, int], float] = {}
    for start in tqdm(range(0, len(distinct), batch_size), desc=f"{model.name} coalitions", unit="batch", disable=None):
        part = distinct[start : start + batch_size]
        read = {image: pictures[image] for image in {image for image, _ in part}}
        with torch.inference_mode():
            score = model.run(model.batch("pair", [(read[image], texts[text]) for image, text in part])).score
        values |= dict(zip(part, cast("torch.Tensor", score).double().cpu().tolist(), strict=True))
    return values


def contributions(model: Model, pairs: Dataset, *, partners: int, seed: int, batch_size: int) -> pd.DataFrame:
    """What the score of each image with its first caption, and the choice of that caption over a foil, depend on.

    The baseline of an absent image is another pair's image, or (columns ending in _mean_image) the data set's mean
    image; that of an absent text is another pair's caption. Partners of image and text come from two different pairs,
    so that nothing ablated matches. The foil is another pair's caption. All are drawn by `seed`; values are averaged
    over `partners` draws, and for dual encoders accuracies without a modality are exact expectations over all pairs.

    Returns
    -------
    DataFrame
        One row an image: image_id, caption_id, score; shapley_image, shapley_text, interaction (in units of the
        score), shapley_share (0 to 1), and the same with _mean_image; accuracy (1 if the caption scores above the
        foil, ½ for a tie, else 0), perceptual_score_image and perceptual_score_text (the accuracy lost when that
        modality is another pair's, −1 to 1; Gat et al. 2021), emap_gap (the accuracy lost by the additive projection
        of the grid of scores; Hessel & Lee 2020; NaN for models other than dual encoders, whose grid is N × N passes).
        With fewer than 3 images there is nothing to draw from: all NaN.

    Raises
    ------
    DataError
        If a score is NaN or infinite.
    """
    n = len(pairs)
    identity = {"image_id": pairs["image_id"], "caption_id": [ids[0] for ids in pairs["caption_ids"]]}
    if n < FEWEST:
        return pd.DataFrame(identity | {name: np.full(n, np.nan) for name in COLUMNS})
    rng = np.random.default_rng(seed)
    others = [np.delete(np.arange(n), i) for i in range(n)]
    draws = np.array([[rng.choice(others[i], 2, replace=False) for _ in range(partners)] for i in range(n)])
    image, text = draws[..., 0], draws[..., 1]  # (pair, partner)
    foil = np.array([rng.choice(others[i]) for i in range(n)])[:, None]
    own, mean = np.arange(n)[:, None], np.full((n, 1), n)
    wanted = {
        "both": (own, own), "image": (own, text), "text": (image, own), "neither": (image, text),
        "text_mean_image": (mean, own), "neither_mean_image": (mean, text),
        "foil": (own, foil), "text_foil": (image, foil),
    }  # fmt: skip
    cells = {name: np.broadcast_arrays(*pair) for name, pair in wanted.items()}
    texts = [captions[0] for captions in pairs["captions"]]
    pictures = _Pictures([Path(file["path"]) for file in pairs["image"]])
    grid = None
    if model.family == DUAL_ENCODER:
        grid = _grid(cast("TwoTowers", model), pictures, texts, batch_size)
        v = {name: grid[pair[0], pair[1]] for name, pair in cells.items()}
    else:
        listed: Indices = [
            (int(i), int(t)) for a, b in cells.values() for i, t in zip(a.ravel(), b.ravel(), strict=True)
        ]
        found = _one_by_one(model, pictures, texts, listed, batch_size)
        v = {
            name: np.array([found[int(i), int(t)] for i, t in zip(a.ravel(), b.ravel(), strict=True)]).reshape(a.shape)
            for name, (a, b) in cells.items()
        }
    if broken := sum(int((~np.isfinite(values)).sum()) for values in v.values()):
        raise DataError(
            f"{model.name}: {broken} scores are NaN or infinite",
            expected="a finite score for every pair",
            remedy="check the checkpoint and its dtype (half precision overflows)",
        )
    result = identity | {"score": v["both"][:, 0]}
    for suffix in BASELINES:
        game = two_player(v["both"], v["image"], v[f"text{suffix}"], v[f"neither{suffix}"])  # (pair, partner)
        phi = game.image.mean(1), game.text.mean(1)
        result |= {f"shapley_image{suffix}": phi[0], f"shapley_text{suffix}": phi[1]}
        result |= {f"interaction{suffix}": game.interaction.mean(1), f"shapley_share{suffix}": shapley_share(*phi)}
    result |= _accuracies(v, None if grid is None else grid[:n], foil[:, 0])
    return pd.DataFrame(result)[[*identity, *COLUMNS]]


def _accuracies(v: dict[str, np.ndarray], grid: np.ndarray | None, foil: np.ndarray) -> dict[str, np.ndarray]:
    """Accuracy against the foil, and what it loses: exactly from a grid, else over the partners drawn."""
    if grid is not None:
        right = accuracy(grid, foil)
        without = {"image": accuracy_without_image(grid, foil), "text": accuracy_without_text(grid, foil)}
        gap = right - accuracy(additive_projection(grid), foil)
    else:
        right = won(v["both"], v["foil"])[:, 0]
        without = {"image": won(v["text"], v["text_foil"]).mean(1), "text": won(v["image"], v["foil"]).mean(1)}
        gap = np.full(len(right), np.nan)
    lost = {f"perceptual_score_{name}": right - value for name, value in without.items()}
    return {"accuracy": right, **lost, "emap_gap": gap}


def summarise(values: pd.DataFrame, stats: Stats) -> dict[str, Any]:
    """Mean and interval over images of each column of `contributions`."""
    result: dict[str, Any] = {
        name: describe(
            values[name],
            confidence=stats.confidence,
            n_resamples=stats.n_resamples,
            rng=np.random.default_rng(stats.seed),
        )
        for name in values.columns
        if name not in ("image_id", "caption_id")
    }
    if len(values) < FEWEST:
        reason = f"{len(values)} images: nothing to draw ablation partners from, {FEWEST} or more needed"
        return {name: summary | {"reason": reason} for name, summary in result.items()}
    if values["emap_gap"].isna().all():
        result["emap_gap"]["reason"] = "needs the score of every image with every text, N × N passes of this model"
    return result


def main(study: Study, model: str) -> None:
    """Write one model's contributions, a row an image, and their summary."""
    params, settings = study.params.contribution, study.params.extract_attention
    torch.set_num_threads(settings.threads)
    pairs = read_study(study.pairs, study.manifest)
    spec, loaded = study.spec(model), load_recorded(study, model)
    values = contributions(loaded, pairs, partners=params.partners, seed=params.seed, batch_size=settings.batch_size)
    inputs = {"manifest": sha256_file(study.manifest), "checkpoint": sha256_file(study.checkpoint(model))}
    used = {"contribution": params.model_dump(), "stats": study.params.stats.model_dump(), "model": spec.model_dump()}
    result = summarise(values, study.params.stats) | {
        "model": model,
        "study": study.params.study,
        "stage": f"contribution@{model}",
        "family": loaded.family,
        "untrained": loaded.provenance["untrained"],
        "n_images": len(values),
        "partners": params.partners,
        "baseline": BASELINES[""],
        "baseline_mean_image": BASELINES["_mean_image"],
        "confidence": study.params.stats.confidence,
        "evidence_id": evidence_id("contribution", used, inputs),
    }
    write_csv(study.contributions_table(model), list(values.columns), values.to_numpy(object).tolist())
    write_json(study.contributions(model), result)
    shown = {
        "shapley_share": "share of the image",
        "accuracy": "accuracy",
        "perceptual_score_image": "lost without the image",
        "perceptual_score_text": "lost without the text",
    }
    print(f"{model}: " + ", ".join(f"{label} {result[key]['mean']:.4f}" for key, label in shown.items()))


if __name__ == "__main__":
    run_stage(main, per_model=True)
