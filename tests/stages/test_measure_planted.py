from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from attention_collapse.data.coco import find_annotations
from attention_collapse.data.images import load_rgb
from attention_collapse.data.planted import FILLERS, MARK_SIZE, Regime, vocabulary, write_planted
from attention_collapse.engine.planted_measures import accuracies, games, labelled, measure
from attention_collapse.files import read_json
from attention_collapse.measures.attention import ATTENTION_MEASURES
from attention_collapse.models import load
from attention_collapse.models.interface import Provenance, Without
from attention_collapse.models.kinds.scorer import Scorer
from attention_collapse.models.small import DECODERS, WRITERS, planted_spec
from attention_collapse.params import load_params
from attention_collapse.stages import measure_planted
from attention_collapse.stages.measure_planted import OF_TRUE, PARTIAL
from attention_collapse.study.layout import Study

ROOT = Path(__file__).resolve().parents[2]
PLANT = SimpleNamespace(emap_images=6, t_shap_images=3)
OPTIONS = {"partners": 4, "seed": 0, "batch_size": 16}


class Oracle(Scorer):
    """Reads the text's cue, the image's, or whether both agree."""

    ids = caption = pixels = picture = image_encoder = image_inputs = Without("an oracle")

    def __init__(self, reads):
        super().__init__("oracle", self.read, Provenance("oracle", None, None, None, 0, untrained=False))
        self.reads = reads

    def read(self, images, captions):
        scores = []
        for image, caption in zip(images, captions, strict=True):
            text = 1.0 if FILLERS[1] in caption.split() else -1.0
            corner = np.asarray(image)[: MARK_SIZE // 2, -MARK_SIZE // 2 :].mean()
            mark = 1.0 if corner < 30 else -1.0
            scores.append({"text": text, "image": mark, "agreement": text * mark}[self.reads])
        return scores


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("planted")
    for name, regime in (
        ("common", Regime()), ("text", Regime(0.5, 1.0, 0.5)), ("image", Regime(0.5, 0.5, 1.0)),
    ):  # fmt: skip
        write_planted(root / name, 24, 3, regime)
    return root


@pytest.mark.parametrize("reads", ["text", "image"])
def test_an_oracle_of_one_cue_is_found_out_by_every_causal_measure(reads, folders):
    oracle, other = Oracle(reads), {"text": "image", "image": "text"}[reads]
    told = accuracies(oracle, labelled(folders / reads), PLANT, **OPTIONS)
    assert told["accuracy"].mean() == 1
    assert (told[f"perceptual_score_{other}"] == 0).all()
    assert told[f"perceptual_score_{reads}"].mean() == pytest.approx(0.5, abs=0.2)  # 96 draws of a coin
    assert (told["emap_gap"].dropna() == 0).all() and told["emap_gap"].notna().sum() == PLANT.emap_images
    pairs, _ = labelled(folders / "common")
    game = games(oracle, pairs, PLANT, **OPTIONS)
    share = 1.0 if reads == "image" else 0.0
    # Where all partners hold the same cue as the pair, both values are 0 and the share is undefined.
    for column in ("shapley_share", "shapley_share_mean_image"):
        defined = game[column].dropna()
        assert len(defined) >= 8 and (defined == share).all()
    assert (game["interaction"] == 0).all()
    tokens = game["image_t_shap"].dropna()
    assert game["image_t_shap"].notna().sum() <= PLANT.t_shap_images and (tokens == share).all()


def test_agreement_of_the_cues_is_all_interaction(folders):
    pairs, _ = labelled(folders / "common")
    game = games(Oracle("agreement"), pairs, PLANT, **OPTIONS)
    assert np.abs(game["interaction"]).mean() > 0.3


def annotated(folder, key):
    return [item[key] for item in read_json(find_annotations(folder))["annotations"]]


def test_a_decoders_reliance_is_of_a_caption_against_itself_with_one_attribute_altered(folders):
    """A likelihood that knows each picture's own text, and whose cue, which the foil keeps, has a probability of 40."""
    pairs, labels = labelled(folders / "common")
    seen = {np.asarray(load_rgb(Path(file["path"]))[0]).tobytes(): text[0] for file, text in zip(
        pairs["image"], pairs["captions"], strict=True)}  # fmt: skip

    def score(images, texts):
        own = [seen.get(np.asarray(image).tobytes()) == text for image, text in zip(images, texts, strict=True)]
        prior = [40.0 * (FILLERS[1] in text.split()) for text in texts]  # a cue that the foil keeps
        return [3.0 * hit + probability for hit, probability in zip(own, prior, strict=True)]

    score.is_likelihood = True
    game = games(Scorer("known", score, Provenance("x", None, None, None, 0, untrained=False)), pairs, PLANT, **OPTIONS)
    true = game[labels]
    assert game.loc[~labels, "lost_both"].isna().all()
    for name in ("lost_image", "lost_text", "lost_both"):
        assert true[name].tolist() == [9.0] * labels.sum(), name
    assert (true["accuracy_hard"] == 1).all() and (true["blind_accuracy"] == 0.5).all()


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_is_measured_through_the_loading_of_any_checkpoint(kind, folders, tmp_path):
    WRITERS[kind](tmp_path / kind, vocabulary(), 0)
    model = load(kind, planted_spec(kind, tmp_path / kind))
    found = measure(model, folders / "common", folders / "text", PLANT, **OPTIONS)
    assert len(found) == 24 and found["image_id"].tolist() == list(range(1, 25))
    whole = found.drop(columns=list(PARTIAL))
    true = np.array([altered == "" for altered in annotated(folders / "common", "altered")])
    foiled = [name for name in OF_TRUE if name in whole] if kind in DECODERS else []
    assert whole.drop(columns=foiled).notna().all().all()
    assert ("accuracy_hard" in found) == (kind in DECODERS) and 0 < true.sum() < len(true)
    for name in foiled:
        assert (found[name].notna() == true).all(), name
    if foiled:
        assert measure_planted._means(found.assign(regime="text", seed=0))["text-0"]["undefined"] == 0
    assert found["mcs_all"].between(0, 1).all() and found["accuracy"].isin([0, 1]).all()
    expected = {"mcs", "mcs_calibrated", "cross_modal_entropy", "cross_modal_entropy_normalized"}
    if kind in ("llava", "vilt", "fusion-v2"):
        expected |= {"mass_share", "mass_per_token_ratio"}
    assert {name for name in ATTENTION_MEASURES if f"{name}_all" in found} == expected


def small_study(root, workers):
    """A study with two untrained ViLT models, measured on eight pairs."""
    given = yaml.safe_load((ROOT / "params.yaml").read_text())
    del given["doses"]
    given["plant"] |= {
        "kinds": ["vilt"], "measured": 8, "emap_images": 3, "t_shap_images": 1, "workers": workers,
        "regimes": {"balanced": {}}, "seeds": [0, 1],
    }  # fmt: skip
    (root / "params.yaml").write_text(yaml.safe_dump(given))
    for seed in (0, 1):
        WRITERS["vilt"](root / f"data/controls/planted-vilt/balanced-{seed}", vocabulary(), seed)
    return Study(load_params(root / "params.yaml"), root)


def test_processes_side_by_side_measure_as_one_does(tmp_path):
    metrics, tables = [], []
    for workers in (1, 2):
        (tmp_path / str(workers)).mkdir()
        study = small_study(tmp_path / str(workers), workers)
        measure_planted.main(study)
        metrics.append(read_json(study.planted("vilt")))
        tables.append(study.planted_table("vilt").read_bytes())
    assert metrics[0] == metrics[1] and tables[0] == tables[1]
    assert list(metrics[0]["models"]) == ["balanced-0", "balanced-1"]
    assert len({model["score"] for model in metrics[0]["models"].values()}) == 2
