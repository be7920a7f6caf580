"""Stage contribution: what a model's score depends on, image or text, for every kind of model, attention or not.

A dual encoder encodes each item once; any other model runs each distinct coalition once, its image tower (where it has
one) each image once. Its finished batches are kept beside the output, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
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
from attention_collapse.files import (
    evidence_id,
    read_json,
    sha256_bytes,
    sha256_file,
    write_csv,
    write_json,
    write_text,
)
from attention_collapse.measures.matching import (
    accuracy,
    accuracy_without_image,
    accuracy_without_text,
    additive_projection,
    won,
)
from attention_collapse.measures.shapley import shapley_share, two_player
from attention_collapse.models.image_once import image_once
from attention_collapse.models.interface import Model, TwoTowers
from attention_collapse.models.recombined import recombined
from attention_collapse.params import Stats
from attention_collapse.stages.checkpoints import known_pins, load_recorded
from attention_collapse.stages.layout import Study, run_stage
from attention_collapse.stages.parts import open_parts, same_run
from attention_collapse.stages.token_contribution import token_contributions
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
T_SHAP = ("t_shap", "t_shap_foil", "t_shap_floor")
FEWEST = 3  # images: a partner of the image and one of the text, from two other pairs
MEAN_SIDE = 224  # pixels: pictures of any size are averaged at this one


class _Pictures:
    """The images of a data set by position, read when they are needed, and after them their mean."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self._total, self._unread = np.zeros((MEAN_SIDE, MEAN_SIDE, 3)), set(range(len(paths)))

    def __len__(self) -> int:
        return len(self.paths) + 1

    def __getitem__(self, position: int) -> Image.Image:
        return self._read(position) if position < len(self.paths) else self._mean()

    def _read(self, position: int) -> Image.Image:
        image = load_rgb(self.paths[position])[0]
        if position in self._unread:  # the mean comes last, and so costs no second reading
            self._unread.remove(position)
            small = image.resize((MEAN_SIDE, MEAN_SIDE), Image.Resampling.BICUBIC)
            self._total += np.asarray(small, np.float64)  # whole numbers: any order gives the same sum
        return image

    def _mean(self) -> Image.Image:
        for position in sorted(self._unread):
            self._read(position)
        return Image.fromarray((self._total / len(self.paths)).round().astype(np.uint8))


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
    model: Model, pictures: _Pictures, texts: list[str], wanted: Indices, *, batch_size: int, work: Path | None
) -> dict[tuple[int, int], float]:
    """The score of each wanted (image, text), each distinct one computed once, image by image."""
    distinct = sorted(set(wanted))
    values: dict[tuple[int, int], float] = {}
    read: dict[int, Image.Image] = {}
    files = [work / f"{index:06d}.json" for index in range(-(-len(distinct) // batch_size))] if work else []
    everything = (pictures[position] for position in range(len(pictures)))
    prepared = None if files and all(file.is_file() for file in files) else recombined(model, everything, texts)
    starts = tqdm(range(0, len(distinct), batch_size), desc=f"{model.name} coalitions", unit="batch", disable=None)
    with image_once(model) as announce:
        for index, start in enumerate(starts):
            part = distinct[start : start + batch_size]
            file = files[index] if files else None
            if file and file.is_file():
                values |= dict(zip(part, read_json(file), strict=True))
                continue
            images = [image for image, _ in part]
            announce(images)
            if prepared:
                batch = prepared.batch(images, [text for _, text in part])
            else:
                read = {image: read[image] if image in read else pictures[image] for image in set(images)}
                batch = model.batch("pair", [(read[image], texts[text]) for image, text in part])
            with torch.inference_mode():
                score = model.run(batch).score
            scores = cast("torch.Tensor", score).double().cpu().tolist()
            if file:
                write_text(file, json.dumps(scores))  # every digit: a resumed run equals an undisturbed one
            values |= dict(zip(part, scores, strict=True))
    return values


def draws(n: int, partners: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whose image and whose text stand for absent ones, (pair, partner) each, and whose text is the foil, (pair, 1).

    Never the pair's own, and never image and text of one pair. They repeat where partners outnumber the other pairs.
    """
    rng = np.random.default_rng(seed)
    others = [np.delete(np.arange(n), i) for i in range(n)]
    drawn = np.array([[rng.choice(others[i], 2, replace=False) for _ in range(partners)] for i in range(n)])
    foil = np.array([rng.choice(others[i]) for i in range(n)])[:, None]
    return drawn[..., 0], drawn[..., 1], foil


def score_cells(
    model: Model, pairs: Dataset, cells: Mapping[str, tuple[np.ndarray, np.ndarray]], *, batch_size: int,
    work: Path | None = None, identity: str = "",
) -> dict[str, np.ndarray]:  # fmt: skip
    """The model's score of chosen images with chosen first captions.

    Parameters
    ----------
    pairs
        The table of `data.pairs.table`, n images.
    cells
        name -> positions of images (n is the mean image) and of texts, of shapes that broadcast.
    work, identity
        As of `contributions`; kept batches belong to these cells and this batch size.

    Returns
    -------
    dict
        name -> scores in the shape of its positions; of a dual encoder also "grid": every image, the mean last, with
        every text.

    Raises
    ------
    DataError
        If a score is NaN or infinite.
    """
    places = {name: np.broadcast_arrays(*pair) for name, pair in cells.items()}
    texts = [captions[0] for captions in pairs["captions"]]
    pictures = _Pictures([Path(file["path"]) for file in pairs["image"]])
    if model.family == DUAL_ENCODER:
        grid = _grid(cast("TwoTowers", model), pictures, texts, batch_size)
        v = {name: grid[image, text] for name, (image, text) in places.items()} | {"grid": grid}
    else:
        listed = {
            name: list(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)) for name, (a, b) in places.items()
        }
        wanted: Indices = [cell for some in listed.values() for cell in some]
        if work is not None:
            cells_digest = sha256_bytes(repr(sorted(set(wanted))).encode())
            open_parts(work, f"{identity} cells={cells_digest} batch_size={batch_size}\n")
        found = _one_by_one(model, pictures, texts, wanted, batch_size=batch_size, work=work)
        v = {
            name: np.array([found[cell] for cell in some]).reshape(places[name][0].shape)
            for name, some in listed.items()
        }
    if broken := sum(int((~np.isfinite(values)).sum()) for values in v.values()):
        raise DataError(
            f"{model.name}: {broken} scores are NaN or infinite",
            expected="a finite score for every pair",
            remedy="check the checkpoint and its dtype (half precision overflows)",
        )
    return v


def contributions(
    model: Model, pairs: Dataset, *, partners: int, seed: int, batch_size: int, work: Path | None = None,
    identity: str = "",
) -> pd.DataFrame:  # fmt: skip
    """What the score of each image with its first caption, and the choice of that caption over a foil, depend on.

    The baseline of an absent image is another pair's image, or (columns ending in _mean_image) the data set's mean
    image; that of an absent text is another pair's caption. Partners of image and text come from two different pairs,
    so that nothing ablated matches. The foil is another pair's caption. All are drawn by `seed`; values are averaged
    over `partners` draws, and for dual encoders accuracies without a modality are exact expectations over all pairs.

    Parameters
    ----------
    pairs
        The table of `data.pairs.table`.
    work
        Folder for finished batches of a model that runs pair by pair; those found there are not run again if they were
        written for the same `identity`, `partners`, `seed` and `batch_size`.

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
    ids = {"image_id": pairs["image_id"], "caption_id": [captions[0] for captions in pairs["caption_ids"]]}
    if n < FEWEST:
        return pd.DataFrame(ids | {name: np.full(n, np.nan) for name in COLUMNS})
    image, text, foil = draws(n, partners, seed)
    own, mean = np.arange(n)[:, None], np.full((n, 1), n)
    cells = {
        "both": (own, own), "image": (own, text), "text": (image, own), "neither": (image, text),
        "text_mean_image": (mean, own), "neither_mean_image": (mean, text),
        "foil": (own, foil), "text_foil": (image, foil),
    }  # fmt: skip
    v = score_cells(
        model, pairs, cells, batch_size=batch_size, work=work, identity=f"{identity} partners={partners} seed={seed}"
    )
    result = ids | {"score": v["both"][:, 0]}
    for suffix in BASELINES:
        game = two_player(v["both"], v["image"], v[f"text{suffix}"], v[f"neither{suffix}"])  # (pair, partner)
        phi = game.image.mean(1), game.text.mean(1)
        result |= {f"shapley_image{suffix}": phi[0], f"shapley_text{suffix}": phi[1]}
        result |= {f"interaction{suffix}": game.interaction.mean(1), f"shapley_share{suffix}": shapley_share(*phi)}
    result |= _accuracies(v, v["grid"][:n] if "grid" in v else None, foil[:, 0])
    return pd.DataFrame(result)[[*ids, *COLUMNS]]


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


def _described(values: pd.Series, stats: Stats) -> dict[str, Any]:
    rng = np.random.default_rng(stats.seed)
    return dict(describe(values, confidence=stats.confidence, n_resamples=stats.n_resamples, rng=rng))


def summarise(values: pd.DataFrame, stats: Stats) -> dict[str, Any]:
    """Mean and interval over images of each column of `contributions`."""
    result: dict[str, Any] = {
        name: _described(values[name], stats) for name in values.columns if name not in ("image_id", "caption_id")
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
    table = study.contributions_table(model)
    inputs = {"manifest": sha256_file(study.manifest), "checkpoint": sha256_file(study.checkpoint(model))}
    used = {"contribution": params.model_dump(), "stats": study.params.stats.model_dump(), "model": spec.model_dump()}
    work = table.with_name(f".{model}.parts")
    run = same_run(evidence_id("contribution", used, inputs | known_pins(loaded.provenance)), settings.device)
    values = contributions(
        loaded, pairs, partners=params.partners, seed=params.seed, batch_size=settings.batch_size, work=work,
        identity=run,
    )  # fmt: skip
    tokens = token_contributions(
        loaded, pairs, images=params.t_shap_images, seed=params.seed, batch_size=settings.batch_size
    )
    result = summarise(values, study.params.stats)
    result |= {name: _described(tokens[name], study.params.stats) for name in T_SHAP}  # of the first images
    values = values.merge(tokens[["image_id", *T_SHAP]], on="image_id", how="left", validate="1:1")
    result |= {
        "model": model,
        "study": study.params.study,
        "stage": f"contribution@{model}",
        "family": loaded.family,
        "untrained": loaded.provenance["untrained"],
        "n_images": len(values),
        "partners": params.partners,
        "t_shap_images": len(tokens),
        "t_shap_masking": tokens.attrs["masking"],
        "t_shap_tokens": float(tokens["text_tokens"].mean()),
        "t_shap_patches": float(tokens["patches"].mean()),
        "baseline": BASELINES[""],
        "baseline_mean_image": BASELINES["_mean_image"],
        "confidence": study.params.stats.confidence,
        "evidence_id": evidence_id("contribution", used, inputs),
    }
    write_csv(table, list(values.columns), values.to_numpy(object).tolist())
    write_json(study.contributions(model), result)
    shutil.rmtree(work, ignore_errors=True)
    shown = {
        "shapley_share": "share of the image",
        "accuracy": "accuracy",
        "perceptual_score_image": "lost without the image",
        "perceptual_score_text": "lost without the text",
    }
    print(f"{model}: " + ", ".join(f"{label} {result[key]['mean']:.4f}" for key, label in shown.items()))


if __name__ == "__main__":
    run_stage(main, per_model=True)
