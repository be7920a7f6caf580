import pytest
import torch

from attention_collapse.errors import ParamsError
from attention_collapse.files import read_json, sha256_file
from attention_collapse.models import load
from attention_collapse.models.contrastive import retrieval
from attention_collapse.models.spec import ModelSpec
from attention_collapse.params import Params
from attention_collapse.stages import train_controls
from attention_collapse.stages.layout import Study

CHECKPOINT = ModelSpec(kind="openclip", weights="checkpoint", path="data/controls/openclip-scenes")


def study(root, **section):
    data = {
        "study": "s",
        "params_file": "p",
        "models": {"m": {"kind": "openclip", "weights": "checkpoint", "path": "x"}},
    }
    if section:
        data["train_controls"] = section
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


def test_the_stage_writes_a_checkpoint_that_loads(tmp_path):
    train_controls.main(study(tmp_path, **SMALL))
    folder = tmp_path / "data" / "controls" / "openclip-scenes"
    model = load("m", CHECKPOINT.model_copy(update={"path": str(folder)}))
    result = read_json(tmp_path / "metrics" / "controls" / "openclip-scenes.json")
    assert result["weights_sha256"] == model.provenance["sha256"] == sha256_file(folder / "open_clip_model.safetensors")
    assert result["chance"] == pytest.approx(1 / 6, rel=1e-5) and 0 <= result["image_to_text_r1"] <= 1
    fresh = load("f", ModelSpec(kind="openclip", weights="untrained", architecture=str(folder), seed=0))
    moved = [not torch.equal(a, b) for a, b in zip(model.module.parameters(), fresh.module.parameters(), strict=True)]
    assert sum(moved) > len(moved) / 2  # it was trained, from the seed's own start
    again = tmp_path / "again"
    train_controls.main(study(again, **SMALL))
    assert read_json(again / "metrics" / "controls" / "openclip-scenes.json") == result


def test_without_its_parameters(tmp_path):
    with pytest.raises(ParamsError, match="no section train_controls"):
        train_controls.main(study(tmp_path))


class Matcher(torch.nn.Module):
    """Embeds pixels and tokens as given."""

    encode_image = staticmethod(lambda x: x)
    encode_text = staticmethod(lambda x: x)


def test_retrieval_by_hand():
    images = torch.eye(3)
    second = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.0, 0.8], [0.0, 0.0, 1.0]])  # that of scene 1 describes scene 2
    captions = torch.stack([torch.eye(3), second], dim=1)
    result = retrieval(Matcher(), images, captions)
    assert result["image_to_text_r1"] == 1.0  # each image has a caption of its own that fits perfectly
    assert result["text_to_image_r1"] == pytest.approx(5 / 6)
    assert result["chance"] == pytest.approx(1 / 3)


def test_the_committed_checkpoint_is_the_one_its_metrics_name():
    from conftest import ROOT

    folder = ROOT / "data" / "controls" / "openclip-scenes"
    result = read_json(ROOT / "metrics" / "controls" / "openclip-scenes.json")
    assert sha256_file(folder / "open_clip_model.safetensors") == result["weights_sha256"]
