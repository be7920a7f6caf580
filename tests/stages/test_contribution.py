"""Two-player contributions on models whose answer is known."""

import shutil
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, coco_folder
from PIL import Image
from tiny.encoders import write_blip, write_vilt

from attention_collapse.data.images import load_rgb
from attention_collapse.data.pairs import read_folder, table
from attention_collapse.data.scenes import write_scenes
from attention_collapse.engine import contribution as engine
from attention_collapse.engine import planted_decision, scoring, statistics
from attention_collapse.engine.contribution import contributions, draws
from attention_collapse.engine.scoring import _Coalitions, mean_picture
from attention_collapse.errors import DataError, ModelError
from attention_collapse.families import DUAL_ENCODER
from attention_collapse.files import read_json, write_json
from attention_collapse.measures.shapley import share_slack
from attention_collapse.models import load
from attention_collapse.models.interface import Batch, Embedded, Provenance, Without
from attention_collapse.models.kinds.scorer import Scorer
from attention_collapse.models.spec import ModelSpec
from attention_collapse.params import Stats
from attention_collapse.stages import compute_mcs, contribution, extract_attention, fetch_coco
from attention_collapse.stats.partners import in_both_roles
from attention_collapse.study.layout import Study
from attention_collapse.study.sources import read_sources


@pytest.fixture
def pairs(tmp_path):
    return table(read_folder(coco_folder(tmp_path / "in", n=6, captions=2))[0], "folder")


@pytest.fixture(scope="module")
def blip_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blip") / "blip"
    write_blip(folder)
    return folder


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


def test_the_mean_image_is_the_mean(pairs, tmp_path, monkeypatch):
    paths = [Path(file["path"]) for file in pairs["image"]]
    sized = [np.asarray(load_rgb(path)[0].resize((224, 224), Image.Resampling.BICUBIC), float) for path in paths]
    mean = mean_picture(paths)
    assert np.abs(np.asarray(mean, float) - np.mean(sized, 0)).max() <= 0.5
    monkeypatch.setattr(scoring, "TOGETHER", 2)  # the same of sums of some at a time, whoever makes them
    cells = np.array([[len(paths), 0]])
    pieces = _Coalitions("m", paths, ["a"], cells, batch_size=1, folder=tmp_path / "work", identity="x")
    for piece in reversed(pieces.rounds[0].pieces):
        pieces.keep(piece, pieces._total(piece))
    assert len(pieces.rounds[0].pieces) == -(-len(paths) // 2)
    assert pieces.picture(len(paths)).tobytes() == mean.tobytes()
    none = _Coalitions("m", paths, ["a"], np.array([[0, 0]]), batch_size=1, folder=None, identity="x")
    assert not none.rounds[0].pieces  # no picture is read for a mean that nothing asks for


class Blank:
    """A dual encoder to which all items are one."""

    name, family, module, tokenizer = "blank", DUAL_ENCODER, None, None
    provenance, sites, missing = {}, {}, {}
    ids = caption = pixels = picture = mm_shap = Without("a blank")
    logit_scale, logit_bias = 10.0, 0.0

    def images(self, pictures):
        return Batch(None, (), {}, (False,) * len(pictures))

    texts = images

    def embed(self, batch):
        return Embedded(torch.tensor([[0.6, 0.8]]).expand(len(batch.truncated), 2))


def embeddings(model, images, texts):
    with torch.inference_mode():
        return [model.embed(batch).embedding for batch in (model.images(images), model.texts(texts))]


@pytest.mark.parametrize("model", [scorer(lambda images, texts: [0.1] * len(images)), Blank()])
def test_a_constant_model_has_no_share_and_is_at_chance(pairs, model):
    frame = run(model, pairs)
    for name in ("shapley_image", "shapley_text", "interaction", "perceptual_score_image", "perceptual_score_text"):
        assert (frame[name] == 0).all(), name
    assert frame["shapley_share"].isna().all() and (frame["accuracy"] == 0.5).all()
    assert frame["emap_gap"].isna().all() if model.family != DUAL_ENCODER else (frame["emap_gap"] == 0).all()
    share = engine.summarise(frame, Stats())["shapley_share"]
    assert np.isnan(share["mean"]) and (share["n"], share["n_undefined"]) == (0, 6)
    assert share["reason"] == f"{engine.INCOMPETENT}: accuracy 0.500"


def test_dual_encoders_encode_each_item_once_and_score_as_pair_by_pair(pairs, tiny_openclip, monkeypatch):
    model = load("tiny", ModelSpec(kind="openclip", weights="checkpoint", path=str(tiny_openclip)))
    counts, inner = {"image": 0, "text": 0}, model.embed

    def counting(batch):
        counts["text" if "text" in batch.inputs else "image"] += len(batch.truncated)
        return inner(batch)

    monkeypatch.setattr(model, "embed", counting)
    frame = run(model, pairs)
    assert counts == {"image": 7, "text": 6}  # the seventh is the mean image

    def one_by_one(images, texts):
        i, t = embeddings(model, images, texts)
        return (model.logit_scale * (i * t).sum(-1)).tolist()

    slow = run(scorer(one_by_one), pairs)
    for name in ("score", "shapley_image", "shapley_text", "interaction", "shapley_image_mean_image", "accuracy"):
        assert np.allclose(frame[name], slow[name], atol=1e-4), name
    assert frame["emap_gap"].notna().all() and slow["emap_gap"].isna().all()


def test_a_dual_encoders_accuracies_are_those_of_its_grid_pair_by_pair(pairs, tiny_openclip):
    model = load("tiny", ModelSpec(kind="openclip", weights="checkpoint", path=str(tiny_openclip)))
    pictures = [load_rgb(Path(file["path"]))[0] for file in pairs["image"]]
    each = [embeddings(model, [i], [t[0]]) for i, t in zip(pictures, pairs["captions"], strict=True)]
    i, t = (torch.cat(parts) for parts in zip(*each, strict=True))
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


@pytest.mark.parametrize("batch_size", [4, 64])
def test_a_fusion_models_image_encoder_sees_each_image_once(pairs, blip_folder, monkeypatch, batch_size):
    model = load("tiny", ModelSpec(kind="blip", weights="checkpoint", path=str(blip_folder)))
    rows, (model, passes) = [], interrupted(model, at=None)
    embed = model.module.vision_model.embeddings.patch_embedding
    embed.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    once = contributions(model, pairs, partners=2, seed=0, batch_size=batch_size)
    assert sum(rows) == 7 and sum(passes) > 3 * 7  # the seventh is the mean image; every pair is still scored
    rows.clear()
    monkeypatch.setattr(model, "image_encoder", Without("left out"))
    bare = contributions(model, pairs, partners=2, seed=0, batch_size=batch_size)
    assert sum(rows) == sum(passes) / 2
    for name in ("score", "shapley_image", "shapley_text", "interaction", "shapley_image_mean_image", "accuracy"):
        assert np.allclose(once[name], bare[name], atol=1e-5, rtol=0), name


def interrupted(model, at):
    """The model, stopped before its pass number `at`; and the number of scores of each finished pass."""
    passes, inner = [], model.score

    def score(batch):
        if len(passes) + 1 == at:
            raise KeyboardInterrupt
        scores = inner(batch)
        passes.append(len(scores))
        return scores

    model.score = score
    return model, passes


def worth(text):
    return float(zlib.crc32(text.encode()) % 1000)  # as far apart as the light of two pictures


def additive(images, texts):
    return [light(i) + worth(t) for i, t in zip(images, texts, strict=True)]


def test_what_reliance_is_made_of_counts_each_pair_in_both_of_its_roles(pairs):
    found, (image, text, _) = run(scorer(additive), pairs), draws(6, 8, 0, np.arange(6))
    v = np.array([light(load_rgb(Path(file["path"]))[0]) for file in pairs["image"]])
    w = np.array([worth(captions[0]) for captions in pairs["captions"]])
    changed = {  # of an additive score, the difference of what was swapped and nothing else
        "lost_image": (v[:, None] - v[image], [image]), "lost_text": (w[:, None] - w[text], [text]),
        "lost_both": (v[:, None] - v[image] + w[:, None] - w[text], [image, text]),
    }  # fmt: skip
    for name, (difference, roles) in changed.items():
        expected, _ = in_both_roles(difference**2, roles)
        np.testing.assert_allclose(found[f"{name}_in_roles"], expected, rtol=1e-9, err_msg=name)
        assert found[f"{name}_in_roles"].mean() == pytest.approx(found[name].mean())
        assert not np.allclose(found[f"{name}_in_roles"], found[name])


def test_intervals_and_tests_are_made_of_the_columns_in_both_roles():
    """Their means are the same, and their spread is what an interval is as long as."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({name: rng.uniform(1, 2, 60) for name in engine.OF_PAIRS} | {"image_id": np.arange(60)})
    table["accuracy"] = 1.0
    wide = table.copy()
    for name in engine.STANDS_IN:
        wide[f"{name}_in_roles"] = table[name].mean() + 3 * (table[name] - table[name].mean())
    one, other = (engine.summarise(values, Stats(n_resamples=500)) for values in (table, wide))
    for name in (*engine.STANDS_IN, "reliance_image", "reliance_text", "reliance_share"):
        length, longer = (found[name]["ci_high"] - found[name]["ci_low"] for found in (one, other))
        assert other[name]["mean"] == pytest.approx(one[name]["mean"]) and longer > 2 * length, name
    tested = statistics.columns_of(pd.DataFrame({"image_id": np.arange(60)}), wide, "all", {})
    judged = planted_decision._values(wide)
    for name in ("lost_image", "lost_text"):
        assert tested[name].tolist() == judged[name].tolist() == wide[f"{name}_in_roles"].tolist()


def test_pairs_with_one_caption_are_one_pair_to_the_sobol_shares(tmp_path, tiny_openclip):
    root = coco_folder(tmp_path / "twins", n=6, captions=1)
    file = root / "annotations" / "captions_val2017.json"
    data = read_json(file)
    data["annotations"][3]["caption"] = data["annotations"][1]["caption"]
    write_json(file, data)
    twins = table(read_folder(root)[0], "folder")
    found = run(load("m", ModelSpec(kind="openclip", weights="checkpoint", path=str(tiny_openclip))), twins)
    assert found["grid_all"].isna().tolist() == [False, False, False, True, False, False]


def test_finished_batches_are_not_run_again(pairs, tmp_path):
    def model():  # scores with all their digits
        return scorer(lambda images, texts: [light(i) / (3 + len(t)) for i, t in zip(images, texts, strict=True)])

    settings = {"partners": 3, "seed": 0, "batch_size": 4}
    undisturbed, all_passes = interrupted(model(), at=None)
    whole = contributions(undisturbed, pairs, **settings)
    folder = {"work": tmp_path / "work", "identity": "x"}
    with pytest.raises(KeyboardInterrupt):
        contributions(interrupted(model(), at=6)[0], pairs, **settings, **folder)
    resumed, passes = interrupted(model(), at=None)
    assert contributions(resumed, pairs, **settings, **folder).equals(whole)
    assert passes == all_passes[5:]
    for change in ({"seed": 1}, {"partners": 4}, {"batch_size": 5}):  # the parts there are those of another run
        kept = {"work": shutil.copytree(folder["work"], tmp_path / next(iter(change))), "identity": "x"}
        expected = contributions(model(), pairs, **settings | change)
        assert contributions(model(), pairs, **settings | change, **kept).equals(expected), change
    other, passes = interrupted(model(), at=None)
    contributions(other, pairs, **settings, **folder | {"identity": "y"})
    assert passes == all_passes


def test_a_part_that_is_no_part_is_named(pairs, tmp_path):
    model = scorer(lambda images, texts: [light(i) for i in images])
    folder = {"work": tmp_path / "work", "identity": "x"}
    contributions(model, pairs, partners=2, seed=0, batch_size=4, **folder)
    (tmp_path / "work" / "000000001.safetensors").write_text("")
    with pytest.raises(DataError, match=r"000000001\.safetensors: cannot be read"):
        contributions(model, pairs, partners=2, seed=0, batch_size=4, **folder)


def test_the_seed_draws_the_partners(pairs):
    model = scorer(lambda images, texts: [light(i) * len(t) for i, t in zip(images, texts, strict=True)])
    one, same, other = (run(model, pairs, partners=2, seed=seed) for seed in (0, 0, 1))
    assert one.equals(same) and not one.equals(other)


@pytest.mark.parametrize(("n", "partners"), [(3, 1), (3, 40), (4, 8), (30, 8)])
def test_no_partner_or_foil_is_the_pairs_own_even_where_partners_outnumber_pairs(n, partners):
    image, text, foil = draws(n, partners, seed=0)
    own = np.arange(n)[:, None]
    assert image.shape == text.shape == (n, partners) and foil.shape == (n, 1)
    assert (image != own).all() and (text != own).all() and (foil != own).all() and (image != text).all()
    assert set(np.concatenate([image, text, foil], 1).ravel()) <= set(range(n))
    if partners == 40:  # every other pair is drawn, as either
        assert all(set(row) == set(range(n)) - {i} for part in (image, text) for i, row in enumerate(part))


@pytest.mark.parametrize("n", [1, 2])
def test_nothing_to_draw_from_is_undefined_and_nan_scores_are_errors(tmp_path, pairs, n):
    few = table(read_folder(coco_folder(tmp_path / "few", n=n, captions=1))[0], "folder")
    frame = run(scorer(lambda images, texts: [0.0] * len(images)), few)
    assert len(frame) == n and frame[list(engine.OF_PAIRS)].isna().all().all()
    summary = engine.summarise(frame, Stats())
    assert summary["shapley_share"]["reason"].startswith(f"{n} images: nothing to draw ablation partners from")
    with pytest.raises(
        DataError, match="scores are NaN(.|\n)*a finite score for every pair(.|\n)*check the checkpoint"
    ):
        broken = scorer(None)
        broken.score = lambda batch: torch.full((len(batch.truncated),), torch.nan)
        run(broken, pairs)
    with pytest.raises(ModelError, match="gave nan .number 1.(.|\n)*leave out what cannot be scored"):
        run(scorer(lambda images, texts: [float("nan")] * len(images)), pairs)


def test_the_stage_writes_a_row_an_image_and_a_summary_that_agrees(tmp_path, tiny_openclip):
    from test_compute_and_stats import tiny_study

    coco_folder(tmp_path / "in", n=6, captions=2)
    study = tiny_study(tmp_path, tiny_openclip)
    fetch_coco.main(study)
    extract_attention.main(study, "trained")
    compute_mcs.main(study, "trained")
    contribution.main(study, "trained")
    rows, summary = pd.read_csv(study.contributions_table("trained")), read_json(study.contributions("trained"))
    assert len(rows) == summary["n_images"] == 6 and summary["partners"] == 8
    for name in ("score", "shapley_image", "interaction_mean_image", "accuracy", "emap_gap", "choice_image"):
        assert summary[name]["mean"] == pytest.approx(rows[name].mean(), rel=1e-4, abs=1e-6), name
    for name in ("shapley_share", "reliance_share", "t_shap"):  # of a model with random weights
        assert summary[name]["mean"] is None and engine.INCOMPETENT in summary[name]["reason"]
    assert rows["shapley_share"].notna().all()  # the table keeps what was measured
    assert len(summary["evidence_id"]) == 16 and summary["baseline"] != summary["baseline_mean_image"]


def test_the_stage_records_the_protocol_of_t_shap_and_why_a_model_has_none_by_it(tmp_path, tiny_openclip, monkeypatch):
    from test_compute_and_stats import tiny_study

    write_scenes(tmp_path / "in", 6, 0)
    scenes = {"kind": "openclip", "weights": "checkpoint", "path": str(ROOT / "data/controls/openclip-scenes")}
    write_vilt(tmp_path / "vilt")
    vilt = {"kind": "vilt", "weights": "checkpoint", "path": str(tmp_path / "vilt")}
    study = tiny_study(tmp_path, tiny_openclip, scenes=scenes, vilt=vilt)
    monkeypatch.setattr(contribution, "incompetence", lambda *_: "")  # as if its random weights knew
    by_mm_shap = study.params.contribution.model_copy(update={"t_shap_protocol": "mm-shap"})
    study = Study(study.params.model_copy(update={"contribution": by_mm_shap}), tmp_path)
    fetch_coco.main(study)
    for name in ("scenes", "vilt"):
        extract_attention.main(study, name)
        compute_mcs.main(study, name)
        contribution.main(study, name)
    followed, refused = (read_json(study.contributions(name)) for name in ("scenes", "vilt"))
    assert followed["t_shap_protocol"] == refused["t_shap_protocol"] == "mm-shap"
    assert "attended" in followed["t_shap_masking"] and 0 <= followed["t_shap"]["mean"] <= 1
    assert followed["t_shap_images"] == 2 and refused["t_shap_images"] == 0
    assert refused["t_shap"]["mean"] is None and "ranks pairs by one logit" in refused["t_shap"]["reason"]
    assert read_sources(study).definitions["protocol of T-SHAP"] == "mm-shap"


def test_an_interrupted_stage_goes_on_where_it_stopped(tmp_path, tiny_openclip, blip_folder, monkeypatch):
    from test_compute_and_stats import tiny_study

    coco_folder(tmp_path / "in", n=10, captions=1)
    fused = {"kind": "blip", "weights": "checkpoint", "path": str(blip_folder), "max_unknown": 1.0}
    study = tiny_study(tmp_path, tiny_openclip, fused=fused)
    fetch_coco.main(study)
    extract_attention.main(study, "fused")
    compute_mcs.main(study, "fused")
    contribution.main(study, "fused")
    work, files = study.data / "contribution" / ".fused.parts", [study.contributions_table, study.contributions]
    whole = [file("fused").read_bytes() for file in files]
    assert not work.exists()

    def loading(at):
        model, passes = interrupted(load("fused", ModelSpec(**fused)), at)
        monkeypatch.setattr(contribution, "load_recorded", lambda *_: model)
        return passes

    loading(at=3)
    with pytest.raises(KeyboardInterrupt):
        contribution.main(study, "fused")
    assert sorted(path.name for path in (work / "cells").iterdir()) == [
        "000000000.safetensors",
        "000000001.safetensors",
        "000000002.safetensors",
        "identity.txt",
    ]  # the sum of the pictures, and two batches
    passes = loading(at=None)
    contribution.main(study, "fused")
    assert len(passes) > 0 and [file("fused").read_bytes() for file in files] == whole and not work.exists()
    everything = loading(at=None)
    contribution.main(study, "fused")
    assert passes == everything[2:]


def test_what_rounding_of_the_scores_may_change_is_said_and_nothing_else(pairs):
    """A caption that leads its foil by less than the scores' error may lose; one that leads by more may not."""
    own = [captions[0] for captions in pairs["captions"]]
    names = [light(load_rgb(Path(file["path"]))[0]) for file in pairs["image"]]

    def scores(images, texts, lead):
        places = [min(range(6), key=lambda k: abs(names[k] - light(image))) for image in images]
        return [10.0 * (i + 1) + lead * (own[i] == text) for i, text in zip(places, texts, strict=True)]

    error = 2e-5 * 60  # of the largest score
    for lead, unsure in ((1.5 * error, 1.0), (2.5 * error, 0.0)):
        found = run(scorer(lambda images, texts, lead=lead: scores(images, texts, lead)), pairs)
        assert (found["accuracy"] == 1).all() and (found["accuracy_slack"] == unsure).all()
        assert (found["perceptual_score_text_slack"] >= unsure).all()
    blind = run(scorer(lambda images, texts: [1e-6 * float(sum(t.encode())) for t in texts]), pairs)
    assert (blind["shapley_share_slack"] <= 1).all() and (blind["shapley_share"] == 0).all()


def test_a_share_of_two_small_values_may_move_far_and_one_of_large_ones_not():
    slack = share_slack(np.array([1e-6, 5.0]), np.array([-1e-6, 5.0]), 1e-5)
    assert slack[0] == 1 and slack[1] == pytest.approx(1e-6)
    # Independently: the largest change of |a| / (|a| + |b|) under errors of that size, by trying the corners.
    a, b = 5.0, 5.0
    corners = [abs(a + i) / (abs(a + i) + abs(b + j)) for i in (-1e-5, 1e-5) for j in (-1e-5, 1e-5)]
    assert max(abs(value - 0.5) for value in corners) <= slack[1] * (1 + 1e-5)


@pytest.mark.parametrize(
    ("accuracy", "competent"),
    [
        ([1.0] * 6, True),  # without variance there is no interval, but no doubt either
        ([1.0] * 40 + [0.0] * 10, True),
        ([1.0] * 27 + [0.0] * 23, False),  # 0.54: its interval holds one half
        ([0.5] * 6, False),
        ([0.0] * 6, False),
    ],
)
def test_competence_first(accuracy, competent):
    summary = engine.described(pd.Series(accuracy), Stats(n_resamples=500))
    found = {"accuracy": summary}
    assert (engine.incompetence(found) == "") is competent
    hard = engine.described(pd.Series([1.0] * 40 + [0.0] * 10), Stats(n_resamples=500))
    assert not engine.incompetence(found | {"accuracy_hard": hard})  # told by a language prior, say
    if not competent:
        assert engine.incompetence(found).startswith(f"{engine.INCOMPETENT}: accuracy {np.mean(accuracy):.3f}")
