import math

import pytest
import torch

from attention_collapse.engine import training
from attention_collapse.engine.contrastive import Towers, retrieval, train
from attention_collapse.errors import ParamsError
from attention_collapse.files import read_json, sha256_file
from attention_collapse.models import load
from attention_collapse.models.spec import ModelSpec
from attention_collapse.params import Params
from attention_collapse.stages import train_controls
from attention_collapse.study.layout import Study

CHECKPOINT = ModelSpec(kind="openclip", weights="checkpoint", path="data/controls/openclip-scenes")


PLANT = {
    "kinds": ["vilt"],
    "scenes": 24,
    "held_out": 8,
    "data_seed": 1,
    "threads": 1,
    "workers": 1,
    "measured": 8,
    "emap_images": 4,
    "t_shap_images": 2,
    "seeds": [0, 1],
    "regimes": {
        "balanced": {},
        "text-shortcut": {"content": 0.5, "text": 1.0},
        "text-graded": {"text": 0.8, "seeds": [1]},
    },
    "recipe": {
        "attribute_steps": 2,
        "word_steps": 2,
        "matching_steps": {"vilt": 2},
        "batch_size": 8,
        "learning_rate": 1e-3,
        "matching_learning_rate": {"vilt": 1e-3},
        "weight_decay": 0.05,
    },
}


def study(root, **section):
    data = {
        "study": "s",
        "params_file": "p",
        "models": {"m": {"kind": "openclip", "weights": "checkpoint", "path": "x"}},
    }
    if section:
        data |= {"train_controls": section, "plant": PLANT}
    return Study(Params.model_validate(data), root)


SMALL = {
    "seed": 0,
    "scenes": 24,
    "steps": 3,
    "batch_size": 8,
    "learning_rate": 1e-3,
    "weight_decay": 0.1,
    "held_out_scenes": 6,
}


def test_the_stage_writes_an_align_that_loads(tmp_path):
    train_controls.main(study(tmp_path, **SMALL), "align-scenes")
    folder = tmp_path / "data" / "controls" / "align-scenes"
    model = load("m", ModelSpec(kind="align", weights="checkpoint", path=str(folder)))
    result = read_json(tmp_path / "metrics" / "controls" / "align-scenes.json")
    assert result["weights_sha256"] == sha256_file(folder / "model.safetensors")
    assert result["chance"] == pytest.approx(1 / 6, rel=1e-5) and 0 <= result["image_to_text_r1"] <= 1
    fresh = load("f", ModelSpec(kind="align", weights="untrained", architecture=str(folder), seed=0))
    moved = [not torch.equal(a, b) for a, b in zip(model.module.parameters(), fresh.module.parameters(), strict=True)]
    assert sum(moved) > len(moved) / 2


def test_the_stage_writes_a_checkpoint_that_loads(tmp_path):
    train_controls.main(study(tmp_path, **SMALL), "openclip-scenes")
    folder = tmp_path / "data" / "controls" / "openclip-scenes"
    model = load("m", CHECKPOINT.model_copy(update={"path": str(folder)}))
    result = read_json(tmp_path / "metrics" / "controls" / "openclip-scenes.json")
    assert result["weights_sha256"] == model.provenance["sha256"] == sha256_file(folder / "open_clip_model.safetensors")
    assert result["chance"] == pytest.approx(1 / 6, rel=1e-5) and 0 <= result["image_to_text_r1"] <= 1
    fresh = load("f", ModelSpec(kind="openclip", weights="untrained", architecture=str(folder), seed=0))
    moved = [not torch.equal(a, b) for a, b in zip(model.module.parameters(), fresh.module.parameters(), strict=True)]
    assert sum(moved) > len(moved) / 2  # it was trained, from the seed's own start
    again = tmp_path / "again"
    train_controls.main(study(again, **SMALL), "openclip-scenes")
    assert read_json(again / "metrics" / "controls" / "openclip-scenes.json") == result


def test_without_its_parameters(tmp_path):
    with pytest.raises(ParamsError, match="no section train_controls"):
        train_controls.main(study(tmp_path), "openclip-scenes")


def as_given(x):
    return x


MATCHER = Towers(torch.nn.Identity(), as_given, as_given, lambda: torch.tensor(1.0), lambda: None)


@pytest.mark.parametrize("ignored", ["image", "text"])
def test_no_shortcut_within_a_modality_lowers_the_contrastive_loss(ignored):
    """An encoder that gives one embedding for all leaves each direction at ln(batch) at best (Jensen)."""
    generator = torch.Generator().manual_seed(0)
    free = torch.nn.Parameter(torch.randn(8, 4, generator=generator))  # the other side may embed each item as it likes
    constant = torch.ones(4)

    def embed(name):
        return lambda items: constant.expand(len(items), 4) if name == ignored else free[items.long().flatten()]

    module = torch.nn.ParameterList([free])
    towers = Towers(module, embed("image"), embed("text"), lambda: torch.tensor(10.0), lambda: None)
    items = torch.arange(8)
    losses = train(towers, items[:, None], items[:, None, None], steps=200, batch_size=8, learning_rate=0.1,
                   weight_decay=0.0, seed=0)  # fmt: skip
    assert min(losses) >= math.log(8) - 1e-5
    assert losses[-1] == pytest.approx(math.log(8), abs=1e-3)  # where training ends up


def test_retrieval_by_hand():
    images = torch.eye(3)
    second = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.0, 0.8], [0.0, 0.0, 1.0]])  # that of scene 1 describes scene 2
    captions = torch.stack([torch.eye(3), second], dim=1)
    result = retrieval(MATCHER, images, captions)
    assert result["image_to_text_r1"] == 1.0  # each image has a caption of its own that fits perfectly
    assert result["text_to_image_r1"] == pytest.approx(5 / 6)
    assert result["chance"] == pytest.approx(1 / 3)


def test_the_committed_checkpoint_is_the_one_its_metrics_name():
    from conftest import ROOT

    folder = ROOT / "data" / "controls" / "openclip-scenes"
    result = read_json(ROOT / "metrics" / "controls" / "openclip-scenes.json")
    assert sha256_file(folder / "open_clip_model.safetensors") == result["weights_sha256"]


def test_planted_models_are_written_for_each_regime_and_seed_and_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    run, trained = study(tmp_path, **SMALL), []
    match = training.match

    def interrupted(*args, **kwargs):
        trained.append(kwargs["seed"])
        if len(trained) == 4:
            raise KeyboardInterrupt
        return match(*args, **kwargs)

    monkeypatch.setattr(training, "match", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_controls.main(run, "planted-vilt")
    out = tmp_path / "data" / "controls" / "planted-vilt"
    assert not out.exists()
    train_controls.main(run, "planted-vilt")
    assert trained == [0, 0, 1, 1, 1, 1]  # three were finished, the fourth was begun anew
    names = {"balanced-0", "text-shortcut-0", "balanced-1", "text-shortcut-1", "text-graded-1"}
    assert {folder.name for folder in out.iterdir()} == names
    result = read_json(tmp_path / "metrics" / "controls" / "planted-vilt.json")
    assert names < set(result) and all(0 <= result[name]["accuracy"] <= 1 for name in names)
    assert [path.name for path in out.parent.iterdir()] == ["planted-vilt"]  # nothing half-trained is left
    other = tmp_path / "other"
    train_controls.main(study(other, **SMALL), "planted-vilt")
    assert read_json(other / "metrics" / "controls" / "planted-vilt.json") == result


def test_an_unknown_control_is_named(tmp_path):
    with pytest.raises(ParamsError, match="planted-bert"):
        train_controls.main(study(tmp_path, **SMALL), "planted-bert")


def test_the_committed_planted_models_are_those_of_the_parameters():
    from conftest import ROOT

    from attention_collapse.params import load_params

    plant = load_params(ROOT / "params.yaml").plant
    expected = {
        f"{regime}-{seed}"
        for regime, cues in plant.regimes.items()
        for seed in (plant.seeds if cues.seeds is None else cues.seeds)
    }
    for kind in plant.kinds:
        folder = ROOT / "data" / "controls" / f"planted-{kind}"
        assert {path.name for path in folder.iterdir()} == expected
        result = read_json(ROOT / "metrics" / "controls" / f"planted-{kind}.json")
        assert expected < set(result)
