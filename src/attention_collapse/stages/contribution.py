"""Stage contribution: what a model's score depends on, image or text, for every kind of model, attention or not.

While the model is loaded, it also writes where it looks in the images of its lowest, median and highest MCS. Finished
batches are kept beside the output, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import shutil
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd
import torch

from attention_collapse.data.pairs import read_study
from attention_collapse.engine.alike import n_alike, same_pairs
from attention_collapse.engine.contribution import (
    BASELINES,
    COMPETENCE,
    OF_PAIRS,
    OF_TOKENS,
    contributions,
    described,
    incompetence,
    summarise,
)
from attention_collapse.engine.maps import Map, attention_maps
from attention_collapse.engine.parts import same_run
from attention_collapse.engine.running import running
from attention_collapse.engine.takeable import without_images
from attention_collapse.engine.token_contribution import summarise_tokens, token_contributions
from attention_collapse.files import sha256_file
from attention_collapse.identity.settle import settle_frame, settle_json
from attention_collapse.measures.reliance import OF_DECISION
from attention_collapse.models.interface import DualEncoder, Model, is_likelihood
from attention_collapse.models.masking import not_playable
from attention_collapse.stages.run import run_stage
from attention_collapse.study.checkpoints import known_pins, load_recorded, refused_of
from attention_collapse.study.layout import Study, evidence_of
from attention_collapse.study.maps import Seen, grey, pictures_of, write_maps

if TYPE_CHECKING:
    from datasets import Dataset

SHOWN = ("accuracy", "perceptual_score_image", "perceptual_score_text")


def main(study: Study, model: str) -> None:
    """Write one model's contributions, one row per image, and their summary."""
    params, settings = study.params.contribution, study.params.extract_attention
    torch.set_num_threads(settings.threads)
    refused = refused_of(study, model)
    pairs, _ = without_images(read_study(study.pairs, study.manifest), refused)
    spec, loaded = study.spec(model), load_recorded(study, model)
    table = study.contributions_table(model)
    inputs = {"manifest": sha256_file(study.manifest), **known_pins(loaded.provenance)}
    used = {"contribution": params.model_dump(), "model": spec.model_dump()}
    used["stats"] = study.params.stats.model_dump(include={"confidence", "n_resamples", "seed"})
    work = table.with_name(f".{model}.parts")
    evidence = evidence_of("contribution", used, inputs, spec.kind)
    run = same_run(evidence, settings.device)
    with running(study.params.engine, partial(load_recorded, study, model), settings.threads) as runner:
        values = contributions(
            loaded, pairs, partners=params.partners, seed=params.seed, batch_size=settings.batch_size,
            work=work / "cells", identity=run, run=runner,
        )  # fmt: skip
        # There is nothing to explain of a score that means nothing.
        told = {name: described(values[name], study.params.stats) for name in COMPETENCE}
        without = incompetence(told) or not_playable(loaded, params.t_shap_protocol)
        tokens = token_contributions(
            loaded, pairs, images=0 if without else params.t_shap_images, permutations=params.t_shap_permutations,
            seed=params.seed, batch_size=settings.batch_size, protocol=params.t_shap_protocol, work=work / "t-shap",
            identity=run, run=runner,
        )  # fmt: skip
    values = values.merge(tokens[["image_id", *OF_TOKENS]], on="image_id", how="left", validate="1:1")
    values = settle_frame(table, values)
    result = summarise(values, study.params.stats, likelihood=is_likelihood(loaded))
    settled = values.loc[values["image_id"].isin(tokens["image_id"]), list(OF_TOKENS)]  # of the first images
    tokens[list(OF_TOKENS)] = settled.to_numpy()
    if alike := n_alike(same_pairs(pairs)):
        result["n_alike"] = alike  # images that share a caption or a file with another: no partners of each other
    result |= summarise_tokens(tokens, study.params.stats, permutations=params.t_shap_permutations, reason=without)
    result |= {
        "model": model,
        "study": study.params.study,
        "stage": f"contribution@{model}",
        "family": loaded.family,
        "untrained": loaded.provenance["untrained"],
        "n_images": len(values),
        "partners": params.partners,
        "baseline": BASELINES[""],
        "baseline_mean_image": BASELINES["_mean_image"],
        **({"reliance_of": OF_DECISION} if is_likelihood(loaded) else {}),
        **({"n_refused": len(refused)} if refused else {}),
        "confidence": study.params.stats.confidence,
        "evidence_id": evidence,
    }
    settle_json(study.contributions(model), result, settings.device)
    shutil.rmtree(work, ignore_errors=True)
    _write_maps(study, model, loaded, pairs)
    shown = (f"{OF_PAIRS[name].label} {result[name]['mean']:.4f}" for name in SHOWN)
    reliance = result["reliance_share"]
    shares = f"reliance share of the image {reliance['mean']:.4f}" if reliance["n"] else str(reliance["reason"])
    print(f"{model}: {', '.join(shown)}; {shares}")


def _write_maps(study: Study, model: str, loaded: Model, pairs: Dataset) -> None:
    chosen = pictures_of(pairs, pd.read_csv(study.extremes(model))["image_id"].astype(int).tolist())
    maps: list[Map] | str = "no image has an MCS"
    if chosen:
        pictures, captions = [picture for _, _, picture, _ in chosen], [caption for *_, caption in chosen]
        batch = loaded.images(pictures) if isinstance(loaded, DualEncoder) else loaded.pairs(pictures, captions)
        maps = attention_maps(loaded, batch)
    found: list[Seen] | str = maps if isinstance(maps, str) else [
        Seen(image, caption, grey(item.seen), item.grid, item.mass)
        for (image, caption, *_), item in zip(chosen, maps, strict=True)
    ]  # fmt: skip
    write_maps(study, model, "image" if isinstance(loaded, DualEncoder) else "text", found)


if __name__ == "__main__":
    run_stage(main)
