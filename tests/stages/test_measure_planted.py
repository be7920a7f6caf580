from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from attention_collapse.data.planted import FILLERS, MARK_SIZE, Regime, vocabulary
from attention_collapse.data.planted_files import write_planted
from attention_collapse.engine.planted_measures import accuracies, games, labelled, measure
from attention_collapse.files import read_json
from attention_collapse.measures.attention import ATTENTION_MEASURES
from attention_collapse.models import load
from attention_collapse.models.interface import Provenance, Without
from attention_collapse.models.kinds.scorer import Scorer
from attention_collapse.models.small import WRITERS, planted_spec
from attention_collapse.params import load_params
from attention_collapse.stages import measure_planted
from attention_collapse.stages.measure_planted import PARTIAL
from attention_collapse.study.layout import Study

ROOT = Path(__file__).resolve().parents[2]
PLANT = SimpleNamespace(emap_images=6, t_shap_images=3)
OPTIONS = {"partners": 4, "seed": 0, "batch_size": 16}


class Oracle(Scorer):
    """Reads the text's cue, the image's, or whether both agree."""

    ids = caption = pixels = picture = image_encoder = image_inputs = mm_shap = Without("an oracle")

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
    for name, n, regime in (
        ("common", 24, Regime()), ("text", 24, Regime(0.5, 1.0, 0.5)), ("image", 24, Regime(0.5, 0.5, 1.0)),
        ("few-common", 8, Regime()), ("few-text", 8, Regime(0.5, 1.0, 0.5)),
    ):  # fmt: skip
        write_planted(root / name, n, 3, regime)
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
    for name in ("lost_image", "lost_text", "lost_both"):  # what the decision's rule is tried on
        assert game[f"{name}_in_roles"].mean() == pytest.approx(game[name].mean())
    assert np.abs(game["interaction"]).mean() > 0.3


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_is_measured_through_the_loading_of_any_checkpoint(kind, folders, tmp_path):
    WRITERS[kind](tmp_path / kind, vocabulary(), 0)
    model = load(kind, planted_spec(kind, tmp_path / kind))
    few = SimpleNamespace(emap_images=3, t_shap_images=1)
    found = measure(model, folders / "few-common", folders / "few-text", few, **OPTIONS)
    assert found["image_id"].tolist() == list(range(1, 9))
    whole = found.drop(columns=list(PARTIAL))
    assert whole.notna().all().all()
    assert found["mcs_all"].between(0, 1).all() and found["accuracy"].isin([0, 1]).all()
    expected = {"mcs", "mcs_calibrated", "cross_modal_entropy", "cross_modal_entropy_normalized"}
    if kind in ("llava", "vilt", "fusion-v2"):
        expected |= {"mass_share", "mass_per_token_ratio"}
    assert {name for name in ATTENTION_MEASURES if f"{name}_all" in found} == expected


def small_study(root, workers):
    """A study with two untrained ViLT models, measured on eight pairs."""
    given = yaml.safe_load((ROOT / "params.yaml").read_text())
    del given["doses"], given["prevention"]
    given["plant"] |= {
        "kinds": ["vilt"], "measured": 8, "emap_images": 3, "t_shap_images": 1, "workers": workers,
        "regimes": {"balanced": {}}, "seeds": [0, 1],
    }  # fmt: skip
    (root / "params.yaml").write_text(yaml.safe_dump(given))
    for seed in (0, 1):
        WRITERS["vilt"](root / f"data/controls/planted-vilt/balanced-{seed}", vocabulary(), seed)
    return Study(load_params(root / "params.yaml"), root)


def test_every_model_of_a_study_is_measured(tmp_path):
    study = small_study(tmp_path, workers=1)
    measure_planted.main(study)
    models = read_json(study.planted("vilt"))["models"]
    assert list(models) == ["balanced-0", "balanced-1"]
    assert len({model["score"] for model in models.values()}) == 2


@pytest.mark.slow  # each process imports all libraries
def test_processes_side_by_side_measure_as_one_does(tmp_path):
    metrics, tables = [], []
    for workers in (1, 2):
        (tmp_path / str(workers)).mkdir()
        study = small_study(tmp_path / str(workers), workers)
        measure_planted.main(study)
        metrics.append(read_json(study.planted("vilt")))
        tables.append(study.planted_table("vilt").read_bytes())
    assert metrics[0] == metrics[1] and tables[0] == tables[1]
