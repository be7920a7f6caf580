"""Devices: what cannot be used is one sentence, and `auto` works for every kind."""

import pytest
import torch
from conftest import coco_folder
from tiny.encoders import ENCODERS
from tiny.inhouse import write_fusion_v2

from attention_collapse import diagnose
from attention_collapse.cli import main
from attention_collapse.errors import ModelError
from attention_collapse.models import load
from attention_collapse.models.catalogue import named
from attention_collapse.models.device import usable_device
from attention_collapse.models.spec import ModelSpec

NOT_HERE = pytest.mark.skipif(torch.accelerator.is_available(), reason="this machine has an accelerator")


@pytest.mark.parametrize(
    ("device", "why"),
    [
        ("meta", "holds shapes without numbers"),
        ("meta:0", "holds shapes without numbers"),
        ("nonsense", "none of cpu, cuda"),
        ("CPU", "none of cpu, cuda"),
        ("", "none of cpu, cuda"),
        ("0", "none of cpu, cuda"),
        ("opengl", "none of cpu, cuda"),
        ("privateuseone", "none of cpu, cuda"),
        ("cuda:x", "Invalid device string"),
        ("cuda:-1", "Invalid device string"),
        ("cpu:3", "there is one CPU device"),
        (0, "it is of type int, and no name"),
        (None, "it is of type NoneType, and no name"),
        pytest.param("mps", "this build of PyTorch has no mps", marks=NOT_HERE),
        pytest.param("hpu", "torch.hpu", marks=NOT_HERE),
        pytest.param("xpu", "not compiled with XPU", marks=NOT_HERE),
        pytest.param("cuda", "", marks=NOT_HERE),
        pytest.param("cuda:7", "", marks=NOT_HERE),
    ],
)
@pytest.mark.parametrize("library", ["transformers", "open_clip", "user"])
def test_a_device_that_cannot_be_used_is_one_short_sentence(device, why, library):
    with pytest.raises(ModelError, match=r"m: device .* cannot be used: .+") as caught:
        usable_device("m", device, library)
    assert why in caught.value.got and len(caught.value.got) < 250 and "\n" not in caught.value.got
    assert "cpu (found on this machine), or auto" in caught.value.expected


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), "cpu:0"])
def test_a_device_may_be_pytorchs_own(device):
    assert torch.device(usable_device("m", device, "open_clip")).type == "cpu"


@pytest.mark.parametrize("kind", ["openclip", "fusion-v2", "clip", "scorer"])
def test_auto_and_its_absence_give_the_same_for_every_kind(kind, tmp_path, tiny_openclip):
    pairs = coco_folder(tmp_path / "pairs", n=4)
    if kind == "scorer":
        model = {"kind": "scorer", "weights": "factory", "factory": "examples.scorer:score"}
    else:
        folder = tiny_openclip if kind == "openclip" else tmp_path / kind
        if kind == "fusion-v2":
            write_fusion_v2(folder)
        elif kind == "clip":
            ENCODERS["clip"][0](folder)
        model = str(folder)
    own, auto = (diagnose(model, pairs, device=device, partners=2, max_unknown=1) for device in ("cpu", "auto"))
    assert auto["score"].mean == pytest.approx(own["score"].mean, abs=1e-4)
    with pytest.raises(ModelError, match="device 'nonsense' cannot be used"):
        diagnose(model, pairs, device="nonsense")


def test_pytorchs_own_device_stands_in_the_result_as_its_name(tiny_openclip, tmp_path):
    pairs = coco_folder(tmp_path / "pairs", n=4)
    result = diagnose(str(tiny_openclip), pairs, partners=0, device=torch.device("cpu"), out=tmp_path / "out.json")
    assert result.settings["device"] == "cpu" and (tmp_path / "out.json").is_file()


@NOT_HERE
def test_on_the_command_line(tiny_openclip, tmp_path, capsys):
    pairs = coco_folder(tmp_path / "pairs", n=4)
    command = ["diagnose", "--model", str(tiny_openclip), "--pairs", str(pairs), "--partners", "0", "--device"]
    assert main([*command, "auto"]) == 0
    for device in ("mps", "meta", "cuda", "nonsense"):
        assert main([*command, device]) == 1
        printed = capsys.readouterr().err
        assert f"error: {tiny_openclip}: device {device!r} cannot be used" in printed
        assert len(printed.partition("error: ")[2]) < 700 and "Traceback" not in printed


def test_the_model_lies_where_it_was_asked_to(tiny_openclip):
    model = load("m", named(str(tiny_openclip)), "auto")
    assert next(model.module.parameters()).device.type == usable_device("m", "auto", "open_clip").split(":")[0]
    spec = ModelSpec(kind="openclip", weights="untrained", architecture=str(tiny_openclip), seed=0)
    assert load("m", spec, "auto").module.training is False
