"""Hard foils, groups, and captions that several images share, on models whose answer is known."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import coco_folder, write_annotations

from attention_collapse.data.images import load_rgb
from attention_collapse.data.pairs import read_folder, table
from attention_collapse.engine import contribution as engine
from attention_collapse.engine.alike import n_alike, same_pairs
from attention_collapse.engine.contribution import contributions, draws
from attention_collapse.engine.token_contribution import token_contributions
from attention_collapse.families import DUAL_ENCODER
from attention_collapse.models import load
from attention_collapse.models.interface import Batch, Embedded, Provenance, Without
from attention_collapse.models.kinds.scorer import Scorer
from attention_collapse.models.spec import ModelSpec
from attention_collapse.params import Stats

HARD = ("accuracy_hard", "blind_accuracy", "perceptual_image_hard")
N = 6


def folder(root, change=lambda data: None, n=N):
    """A COCO-layout folder whose captions are "picture k of two red circles", changed as said."""
    path = coco_folder(root, n=n, captions=1) / "annotations" / "captions_val2017.json"
    data = json.loads(path.read_text())
    change(data)
    write_annotations(root, data)
    return table(read_folder(root)[0], "folder")


def with_foils(*colours):
    def change(data):
        for item in data["annotations"]:
            item["foils"] = [{"caption": item["caption"].replace("red", c), "changed": "colour"} for c in colours]

    return change


def scorer(function):
    return Scorer("known", function, Provenance("x", None, None, None, 0, untrained=False))


def run(model, pairs, partners=3, seed=0):
    return contributions(model, pairs, partners=partners, seed=seed, batch_size=4)


def light(image):
    return float(np.asarray(image.convert("L")).mean())


def each(function):
    return scorer(lambda images, texts: [float(function(i, t)) for i, t in zip(images, texts, strict=True)])


def reader(pairs):
    """A perfect model: 1 for the caption of the very image, 0 for any other text."""
    files = [light(load_rgb(Path(file["path"]))[0]) for file in pairs["image"]]
    own = {(file, text) for file, texts in zip(files, pairs["captions"], strict=True) for text in texts}
    return each(lambda image, text: (light(image), text) in own)


@pytest.fixture
def pairs(tmp_path):
    return folder(tmp_path / "in", with_foils("blue", "green"))


def test_a_model_that_reads_the_picture_is_right_and_blind_without_it(pairs):
    found = run(reader(pairs), pairs)
    assert (found["accuracy_hard"] == 1).all()
    assert (found["blind_accuracy"] == 0.5).all()  # no prior: ties
    assert (found["perceptual_image_hard"] == 0.5).all()


def test_what_a_language_prior_answers_it_answers_without_the_image(pairs):
    """One that prefers "red" to "blue", and "green" to "red": half of each pair's foils."""
    rank = {"blue": 0, "red": 1, "green": 2}
    prior = run(each(lambda image, text: rank[text.split()[-2]]), pairs)
    assert (prior["accuracy_hard"] == 0.5).all() and (prior["blind_accuracy"] == 0.5).all()
    likes = run(each(lambda image, text: -rank[text.split()[-2]] % 3), pairs)  # blue < green < red
    assert (likes["accuracy_hard"] == 1).all() and (likes["blind_accuracy"] == 1).all()
    popular = run(each(lambda image, text: 9 * light(image) + rank[text.split()[-2]]), pairs)  # and images differ
    assert (popular["blind_accuracy"] == 0.5).all()
    for frame in (prior, likes, popular):
        assert (frame["perceptual_image_hard"] == 0).all()


def test_a_model_that_knows_the_topic_and_no_colour_is_at_chance(pairs):
    """It finds its caption among those of others every time, and hard foils are all the same to it."""
    files = [light(load_rgb(Path(file["path"]))[0]) for file in pairs["image"]]
    topic = run(each(lambda image, text: files.index(light(image)) + 1 == int(text.split()[1]) if light(image) in files
                     else 0), pairs)  # fmt: skip
    assert (topic["accuracy"] == 1).all() and (topic["accuracy_hard"] == 0.5).all()


def test_without_foils_they_are_undefined_with_the_reason_and_all_else_is_as_before(tmp_path, pairs):
    model = each(lambda image, text: light(image) / (3 + len(text)))
    bare, hard = run(model, folder(tmp_path / "bare")), run(model, pairs)
    summary = engine.summarise(bare, Stats())
    for name in HARD:
        assert bare[name].isna().all() and summary[name]["reason"] == "the pairs have no hard foils"
        assert (summary[name]["n"], summary[name]["n_undefined"]) == (0, N)
        assert hard[name].notna().all()
    assert summary["group_score"]["reason"] == "no pair names another image as its partner"
    others = [name for name in bare if name not in HARD and not name.endswith("_slack")]
    assert set(engine.OF_PAIRS) - set(HARD) - set(others) <= {"grid_image", "grid_text", "grid_all"}  # of dual encoders
    assert bare[others].equals(hard[others])


def test_pairs_without_a_foil_are_counted(tmp_path):
    def change(data):
        with_foils("blue")(data)
        del data["annotations"][2]["foils"]

    some = folder(tmp_path / "some", change)
    found = engine.summarise(run(reader(some), some), Stats())["accuracy_hard"]
    assert (found["mean"], found["n"], found["n_undefined"]) == (1.0, N - 1, 1)


def test_only_a_lead_within_the_scores_error_is_too_close_to_call(pairs):
    error = 2e-5 * 60

    def scores(lead):
        return each(lambda image, text: 60.0 + lead * ("red" in text))

    close, clear = (run(scores(lead), pairs) for lead in (1.5 * error, 2.5 * error))
    assert (close["accuracy_hard"] == 1).all() and (close["accuracy_hard_slack"] == 1).all()
    assert (clear["accuracy_hard_slack"] == 0).all() and (clear["blind_accuracy_slack"] == 0).all()


def test_a_dual_encoder_encodes_each_foil_once_and_answers_as_pair_by_pair(pairs, tiny_openclip, monkeypatch):
    model = load("tiny", ModelSpec(kind="openclip", weights="checkpoint", path=str(tiny_openclip)))
    counts, inner = {"image": 0, "text": 0}, model.embed

    def counting(batch):
        counts["text" if "text" in batch.inputs else "image"] += len(batch.truncated)
        return inner(batch)

    monkeypatch.setattr(model, "embed", counting)
    found = run(model, pairs)
    assert counts == {"image": N + 1, "text": N + 2 * N}
    pictures = [load_rgb(Path(file["path"]))[0] for file in pairs["image"]]

    def score(image, text):
        with torch.inference_mode():
            return float((inner(model.images([image])).embedding @ inner(model.texts([text])).embedding.T)[0, 0])

    for k in range(N):
        own, foils = pairs[k]["captions"][0], [foil["caption"] for foil in pairs[k]["foils"][0]]
        right = [[score(image, own) > score(image, foil) for foil in foils] for image in pictures]
        assert found["accuracy_hard"][k] == np.mean(right[k])
        blind = np.mean([right[other] for other in range(N) if other != k])  # exact: over all other images
        assert found["blind_accuracy"][k] == pytest.approx(blind)
        assert found["perceptual_image_hard"][k] == pytest.approx(np.mean(right[k]) - blind)
    without = run(model, pairs.remove_columns("foils"))
    others = [name for name in engine.OF_PAIRS if name not in HARD]
    assert np.allclose(without[others], found[others], atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("mutual", [False, True])
def test_a_group_counts_once_in_the_row_of_its_first_pair(tmp_path, mutual):
    def change(data):
        for first in (0, 2):
            data["images"][first]["partner"] = first + 2
            if mutual:
                data["images"][first + 1]["partner"] = first + 1

    grouped = folder(tmp_path / "in", change)
    found = run(reader(grouped), grouped)
    assert found["group_score"].notna().tolist() == [True, False, True, False, False, False]
    assert found["group_score"].mean() == 1
    for ignoring in (lambda image, text: len(text), lambda image, text: light(image)):
        assert (run(each(ignoring), grouped)["group_score"].dropna() == 0).all()


def test_a_group_takes_its_own_four_scores(tmp_path):
    def change(data):
        data["images"][1]["partner"] = 5

    grouped = folder(tmp_path / "in", change)
    files = [light(load_rgb(Path(file["path"]))[0]) for file in grouped["image"]]
    table_of = {(1, 1): 4.0, (4, 4): 3.0, (1, 4): 2.0, (4, 1): 2.5}

    def score(image, text):
        here = files.index(light(image)) if light(image) in files else -1
        return table_of.get((here, int(text.split()[1]) - 1), 0.0)

    assert run(each(score), grouped)["group_score"][1] == 1
    table_of[4, 1] = 3.5  # the fifth image now prefers the second caption
    assert run(each(score), grouped)["group_score"][1] == 0


def before(n, partners, seed):
    """The draws of data without repetitions, as they have been since the first study."""
    rng = np.random.default_rng(seed)
    others = [np.delete(np.arange(n), i) for i in range(n)]
    drawn = np.array([[rng.choice(others[i], 2, replace=False) for _ in range(partners)] for i in range(n)])
    return drawn[..., 0], drawn[..., 1], np.array([rng.choice(others[i]) for i in range(n)])[:, None]


@pytest.mark.parametrize(("n", "partners", "seed"), [(100, 8, 0), (3, 40, 1), (7, 2, 5)])
def test_data_without_repetitions_keep_their_draws(n, partners, seed):
    for same in (None, np.arange(n)):
        assert all(map(np.array_equal, draws(n, partners, seed, same), before(n, partners, seed)))


def test_the_embedded_studys_captions_do_not_repeat(tmp_path):
    from attention_collapse.data.planted import Regime
    from attention_collapse.data.planted_files import write_planted
    from attention_collapse.data.scenes import write_scenes

    write_scenes(tmp_path / "scenes", 100, 0)
    write_planted(tmp_path / "planted", 100, 3, Regime())
    for name in ("scenes", "planted"):
        assert n_alike(same_pairs(table(read_folder(tmp_path / name)[0], name))) == 0


def shared(*groups):
    """The pairs of a group have one caption, written in several ways."""

    def change(data):
        for group in groups:
            for number, k in enumerate(group):
                text = data["annotations"][group[0]]["caption"]
                data["annotations"][k]["caption"] = [text, f" {text.upper()} ", text.replace(" ", "  ")][number % 3]

    return change


def test_no_pair_stands_for_one_with_the_same_caption_or_file(tmp_path):
    def change(data):
        shared((0, 1, 2), (4, 5))(data)
        data["images"][6]["file_name"] = data["images"][7]["file_name"]  # one file under two ids, two captions

    pairs = folder(tmp_path / "in", change, n=9)
    same = same_pairs(pairs)
    assert [len(set(same[list(k)])) for k in ((0, 1, 2), (4, 5), (6, 7))] == [1, 1, 1]
    assert len(set(same)) == 5 and n_alike(same) == 7
    for seed in range(20):
        image, text, foil = draws(9, 4, seed, same)
        for drawn in (image, text, foil):
            assert (same[drawn] != same[:, None]).all()
        assert (same[image] != same[text]).all()  # what is ablated matches nothing
    perfect = each(lambda image, text: files.get(light(image)) == " ".join(text.split()).casefold())
    files = {}
    for file, texts in zip(pairs["image"], pairs["captions"], strict=True):
        files.setdefault(light(load_rgb(Path(file["path"]))[0]), " ".join(texts[0].split()).casefold())
    for seed in range(5):
        found = run(perfect, pairs.select(range(6)), seed=seed)
        assert (found["accuracy"] == 1).all() and (found["perceptual_score_text"] == 0.5).all()


class Hashed:
    """A dual encoder that gives each image and each text an embedding of its own, by chance."""

    name, family, module, tokenizer = "hashed", DUAL_ENCODER, None, None
    provenance, sites, missing = {}, {}, {}
    ids = caption = pixels = picture = mm_shap = Without("by chance")
    logit_scale, logit_bias = 10.0, 0.0

    def images(self, pictures):
        return self.texts([picture.tobytes().hex() for picture in pictures])

    def texts(self, captions):
        return Batch([zlib.crc32(text.encode()) for text in captions], (), {}, (False,) * len(captions))

    def embed(self, batch):
        drawn = [np.random.default_rng(seed).normal(size=8) for seed in batch.inputs]
        return Embedded(torch.nn.functional.normalize(torch.tensor(np.array(drawn)), dim=-1))


def test_a_grids_expectations_leave_out_pairs_that_are_the_same(tmp_path):
    pairs = folder(tmp_path / "in", lambda data: (with_foils("blue")(data), shared((0, 1), (2, 3, 4))(data)))
    model = Hashed()
    pictures = [load_rgb(Path(file["path"]))[0] for file in pairs["image"]]
    a = model.embed(model.images(pictures)).embedding
    b = model.embed(model.texts([texts[0] for texts in pairs["captions"]])).embedding
    c = model.embed(model.texts([foils[0][0]["caption"] for foils in pairs["foils"]])).embedding
    hard = (a @ c.T).numpy()
    grid, found, same = (a @ b.T).numpy(), run(model, pairs), same_pairs(pairs)
    _, _, foil = draws(N, 3, 0, same)
    with_all = []  # what it would be if every pair but the own were another
    for i, f in enumerate(foil[:, 0]):
        right = float(grid[i, i] > grid[i, f])
        wins = [float(grid[k, i] > grid[k, f]) for k in range(N)]
        others = [wins[k] for k in range(N) if same[k] != same[i]]
        assert found["perceptual_score_image"][i] == pytest.approx(right - np.mean(others))
        with_all.append(right - np.mean(np.delete(wins, i)))
        blind = np.mean([grid[k, i] > hard[k, i] for k in range(N) if same[k] != same[i]])
        assert found["blind_accuracy"][i] == pytest.approx(blind)
        assert found["accuracy_hard"][i] == float(grid[i, i] > hard[i, i])
    assert not np.allclose(found["perceptual_score_image"], with_all)


@pytest.mark.parametrize("groups", [[range(N)], [(0, 1, 2), (3, 4, 5)]])
def test_fewer_than_three_different_pairs_have_no_partners(tmp_path, groups):
    found = run(each(lambda image, text: light(image)), folder(tmp_path / "in", shared(*groups)))
    summary = engine.summarise(found, Stats())
    assert found[list(engine.OF_PAIRS)].isna().all().all()
    assert summary["accuracy"]["reason"].startswith("6 images, fewer than 3 of them different")


def test_the_foil_of_t_shap_is_another_caption_too(tmp_path):
    pairs = folder(tmp_path / "in", shared((0, 1, 2, 3, 4)))
    said = []
    model = each(lambda image, text: said.append(text) or len(text))
    token_contributions(model, pairs.select([0, 5]), images=1, seed=0, batch_size=4)
    told = {text for text in said if "_" not in text}
    for seed in range(10):
        said.clear()
        token_contributions(model, pairs, images=1, seed=seed, batch_size=4)
        assert {text for text in said if "_" not in text} == told
    alone = token_contributions(model, pairs.select(range(5)), images=1, seed=0, batch_size=4)
    assert alone["t_shap_foil"].isna().all()


def test_the_stage_counts_images_that_repeat_and_has_its_foils_from_the_study(tmp_path, tiny_openclip):
    from test_compute_and_stats import tiny_study

    from attention_collapse.files import read_json
    from attention_collapse.stages import compute_mcs, contribution, extract_attention, fetch_coco

    folder(tmp_path / "in", lambda data: (with_foils("blue")(data), shared((0, 1))(data)))
    study = tiny_study(tmp_path, tiny_openclip)
    for stage in (fetch_coco.main, *(lambda s, m=m: m.main(s, "trained") for m in (extract_attention, compute_mcs))):
        stage(study)
    contribution.main(study, "trained")
    result = read_json(study.contributions("trained"))
    assert result["n_alike"] == 2 and result["accuracy_hard"]["n"] == N
    assert result["group_score"]["reason"] and read_json(study.manifest)["n_foils"] == N
