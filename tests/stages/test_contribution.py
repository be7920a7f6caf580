"""Two-player contributions on models whose answer is known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import coco_folder
from PIL import Image

from attention_collapse.data.images import load_rgb
from attention_collapse.data.pairs import read_folder, table
from attention_collapse.errors import DataError
from attention_collapse.files import read_json
from attention_collapse.models import load
from attention_collapse.models.declared import Scorer
from attention_collapse.models.interface import Provenance
from attention_collapse.models.spec import ModelSpec
from attention_collapse.params import Stats
from attention_collapse.stages import contribution, extract_attention, fetch_coco
from attention_collapse.stages.contribution import _Pictures, contributions


@pytest.fixture
def pairs(tmp_path):
    return table(read_folder(coco_folder(tmp_path / "in", n=6, captions=2))[0], "folder")


def scorer(function):
    return Scorer("known", function, Provenance("x", None, None, None, 0, untrained=False))


def run(model, pairs, partners=8, seed=0):
    return contributions(model, pairs, partners=partners, seed=seed, batch_size=4)


def light(image):
    return float(np.asarray(image.convert("L")).mean())


def test_a_model_that_ignores_the_image_has_share_0_and_one_that_ignores_the_text_1(pairs):
    blind = run(scorer(lambda images, texts: [float(sum(t.encode())) for t in texts]), pairs)
    assert (blind["shapley_image"] == 0).all() and (blind["shapley_share"] == 0).all()
    assert (blind["shapley_image_mean_image"] == 0).all() and (blind["perceptual_score_image"] == 0).all()
    deaf = run(scorer(lambda images, texts: [light(i) for i in images]), pairs)
    assert (deaf["shapley_text"] == 0).all() and (deaf["shapley_share"] == 1).all()
    assert (deaf["accuracy"] == 0.5).all() and (deaf["perceptual_score_text"] == 0).all()  # ties: it cannot choose


def test_an_additive_model_has_no_interaction_and_its_values_add_up(pairs):
    frame = run(scorer(lambda images, texts: [light(i) + len(t) for i, t in zip(images, texts, strict=True)]), pairs)
    assert np.allclose(frame["interaction"], 0, atol=1e-9)


def test_a_model_that_needs_both_loses_all_it_knows_without_either(pairs):
    """Its score is 1 for true pairs only: without the image, or the text, it can only tie."""
    own = {(light(load_rgb(Path(f["path"]))[0]), t[0]) for f, t in zip(pairs["image"], pairs["captions"], strict=True)}
    exact = run(
        scorer(lambda images, texts: [float((light(i), t) in own) for i, t in zip(images, texts, strict=True)]), pairs
    )
    assert (exact["accuracy"] == 1).all()
    # Another image matches neither caption nor foil, unless it is the foil's own: then the foil wins.
    assert (exact["perceptual_score_image"] >= 0.5).all() and (exact["perceptual_score_text"] == 0.5).all()
    assert np.allclose(exact["interaction"], 1) and np.allclose(exact["shapley_share"], 0.5)


def test_the_mean_image_is_the_mean(pairs):
    pictures = _Pictures([Path(file["path"]) for file in pairs["image"]])
    sized = [np.asarray(pictures[i].resize((224, 224), Image.Resampling.BICUBIC), float) for i in range(len(pairs))]
    assert len(pictures) == len(pairs) + 1
    assert np.abs(np.asarray(pictures[len(pairs)], float) - np.mean(sized, 0)).max() <= 0.5


def test_a_constant_model_has_no_share(pairs):
    assert run(scorer(lambda images, texts: [1.0] * len(images)), pairs)["shapley_share"].isna().all()


def test_dual_encoders_encode_each_item_once_and_score_as_pair_by_pair(pairs, tiny_openclip, monkeypatch):
    model = load("tiny", ModelSpec(kind="openclip", weights="checkpoint", path=str(tiny_openclip)))
    counts, inner = {"image": 0, "text": 0}, model.run

    def counting(batch):
        counts["text" if "text" in batch.inputs else "image"] += len(batch.truncated)
        return inner(batch)

    monkeypatch.setattr(model, "run", counting)
    frame = run(model, pairs)
    assert counts == {"image": 7, "text": 6}  # the seventh is the mean image

    def one_by_one(images, texts):
        with torch.inference_mode():
            i, t = (inner(model.batch(kind, part)).embedding for kind, part in (("image", images), ("text", texts)))
        return (model.logit_scale * (i * t).sum(-1)).tolist()

    slow = run(scorer(one_by_one), pairs)
    for name in ("score", "shapley_image", "shapley_text", "interaction", "shapley_image_mean_image", "accuracy"):
        assert np.allclose(frame[name], slow[name], atol=1e-4), name
    assert frame["emap_gap"].notna().all() and slow["emap_gap"].isna().all()


def test_a_dual_encoders_accuracies_are_those_of_its_grid_pair_by_pair(pairs, tiny_openclip):
    model = load("tiny", ModelSpec(kind="openclip", weights="checkpoint", path=str(tiny_openclip)))
    pictures = [load_rgb(Path(file["path"]))[0] for file in pairs["image"]]
    with torch.inference_mode():
        i, t = (
            torch.cat([model.run(model.batch(kind, [item])).embedding for item in items])
            for kind, items in (("image", pictures), ("text", [captions[0] for captions in pairs["captions"]]))
        )
    grid, n = (i @ t.T).double().numpy(), len(pairs)
    rng, others = np.random.default_rng(0), [np.delete(np.arange(n), k) for k in range(n)]
    for k in range(n):  # the draws before the foils: 8 partners of each pair
        for _ in range(8):
            rng.choice(others[k], 2, replace=False)
    foil = [int(rng.choice(others[k])) for k in range(n)]
    frame = run(model, pairs)
    additive = grid.mean(1, keepdims=True) + grid.mean(0) - grid.mean()
    for k in range(n):
        right = grid[k, k] > grid[k, foil[k]]
        assert frame["accuracy"][k] == right
        blind = np.mean([grid[other, k] > grid[other, foil[k]] for other in others[k]])
        assert frame["perceptual_score_image"][k] == pytest.approx(right - blind)
        wins = [0.5 if other == foil[k] else grid[k, other] > grid[k, foil[k]] for other in others[k]]
        assert frame["perceptual_score_text"][k] == pytest.approx(right - np.mean(wins))
        assert frame["emap_gap"][k] == float(right) - float(additive[k, k] > additive[k, foil[k]])


def test_distinct_coalitions_are_computed_once(pairs):
    seen = []
    run(
        scorer(lambda images, texts: [seen.append((light(i), t)) or 0.5 for i, t in zip(images, texts, strict=True)]),
        pairs,
    )
    assert len(seen) == len(set(seen))


def test_the_seed_draws_the_partners(pairs):
    model = scorer(lambda images, texts: [light(i) * len(t) for i, t in zip(images, texts, strict=True)])
    one, same, other = (run(model, pairs, partners=2, seed=seed) for seed in (0, 0, 1))
    assert one.equals(same) and not one.equals(other)


def test_nothing_to_draw_from_is_undefined_and_nan_scores_are_errors(tmp_path, pairs):
    two = table(read_folder(coco_folder(tmp_path / "two", n=2, captions=1))[0], "folder")
    frame = run(scorer(lambda images, texts: [0.0] * len(images)), two)
    assert len(frame) == 2 and frame[list(contribution.COLUMNS)].isna().all().all()
    summary = contribution.summarise(frame, Stats())
    assert summary["shapley_share"]["reason"].startswith("2 images: nothing to draw ablation partners from")
    with pytest.raises(DataError, match="scores are NaN"):
        run(scorer(lambda images, texts: [float("nan")] * len(images)), pairs)


def test_the_stage_writes_a_row_an_image_and_a_summary_that_agrees(tmp_path, tiny_openclip):
    from test_compute_and_stats import tiny_study

    coco_folder(tmp_path / "in", n=6, captions=2)
    study = tiny_study(tmp_path, tiny_openclip)
    fetch_coco.main(study)
    extract_attention.main(study, "trained")
    contribution.main(study, "trained")
    rows, summary = pd.read_csv(study.contributions_table("trained")), read_json(study.contributions("trained"))
    assert len(rows) == summary["n_images"] == 6 and summary["partners"] == 8
    for name in ("score", "shapley_image", "shapley_share", "interaction_mean_image", "accuracy", "emap_gap"):
        assert summary[name]["mean"] == pytest.approx(rows[name].mean(), rel=1e-4, abs=1e-6), name
    assert len(summary["evidence_id"]) == 16 and summary["baseline"] != summary["baseline_mean_image"]
