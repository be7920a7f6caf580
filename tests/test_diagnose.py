"""The person's door: the Python function and the command line."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT, coco_folder
from tiny.encoders import write_vilt

from attention_collapse import AttentionCollapseError, Diagnosis, Estimate, diagnose
from attention_collapse.cli import main
from attention_collapse.data.scenes import write_scenes
from attention_collapse.files import read_json
from attention_collapse.measures.catalogue import MEASURES
from attention_collapse.report.diagnosis import READ_FIRST


@pytest.fixture
def folder(tmp_path):
    return coco_folder(tmp_path / "pairs", n=12, captions=2)


def test_the_function_and_the_command_give_the_same(folder, tiny_openclip, tmp_path, capsys):
    out = tmp_path / "out" / "result.json"
    result = diagnose(str(tiny_openclip), folder, out=out)
    assert (result.n_images, result.n_pairs, result.weights["untrained"]) == (12, 24, False)
    first = out.read_bytes()
    assert main(["diagnose", "--model", str(tiny_openclip), "--pairs", str(folder), "--out", str(out)]) == 0
    assert out.read_bytes() == first
    printed = capsys.readouterr().out
    mcs = read_json(out)["estimates"]["mcs"]
    assert f"{mcs['mean']:.4f}   95% CI [{mcs['ci_low']:.4f}, {mcs['ci_high']:.4f}]" in printed
    for words in (
        "null",
        "calibrated",
        "by the original thresholds",
        "against the null",
        "12 images, 24 pairs, 0 skipped",
    ):
        assert words in printed


def test_the_result_is_typed_and_an_undefined_number_is_none_everywhere(folder, tiny_openclip, tmp_path):
    result = diagnose(str(tiny_openclip), folder, out=tmp_path / "result.json")
    assert isinstance(result["mcs"], Estimate) and result["mcs"].interval == (
        result["mcs"].ci_low,
        result["mcs"].ci_high,
    )
    absent = result["mass_share"]
    assert absent.mean is None and str(absent) == "not defined: no query of a dual encoder sees both groups"
    table = result.table()
    assert set(table.index) == set(result.estimates) and table.loc["mcs", "mean"] == result["mcs"].mean
    assert table.loc["mcs", "label"] == "MCS" and table.loc["shapley_share", "about"] == "contribution"
    data = result.to_dict()
    assert json.loads(json.dumps(data, allow_nan=False)) == data and data["schema"] == 2
    assert data["estimates"]["mass_share"]["mean"] is None and data["estimates"].keys() == result.estimates.keys()
    one = diagnose(str(tiny_openclip), coco_folder(tmp_path / "one", n=1, captions=1))
    assert one["mcs"].interval is None and "10 or more needed" in str(one["mcs"])
    assert one["shapley_share"].mean is None and "nothing to draw ablation partners from" in one["shapley_share"].reason
    assert [path.suffix for path in result.save_figure(tmp_path / "layers")] == [".png", ".pdf"]


@pytest.fixture
def scenes(tmp_path):
    return write_scenes(tmp_path / "scenes", 6, 0).parents[1]


def test_t_shap_by_a_protocol_is_asked_for_and_said(scenes, tmp_path, capsys):
    out, model = tmp_path / "result.json", str(ROOT / "data/controls/openclip-scenes")
    arguments = ["diagnose", "--model", model, "--pairs", str(scenes), "--out", str(out), "--t-shap-images", "2"]
    found = {}
    for protocol in ("native", "mm-shap"):
        assert main([*arguments, "--t-shap-protocol", protocol]) == 0
        data, printed = read_json(out), capsys.readouterr().out
        found[protocol] = data["estimates"]["t_shap"]["mean"]
        assert data["estimates"]["t_shap"]["n"] == 2 and 0 <= found[protocol] <= 1
        assert data["settings"]["t_shap_protocol"] == data["details"]["t_shap"]["t_shap_protocol"] == protocol
        assert f"T-SHAP by the protocol {protocol}: absent tokens are id 0" in printed
        assert f"{found[protocol]:.4f}" in printed
    assert main(arguments) == 0
    assert "t_shap" not in read_json(out)["estimates"] and "T-SHAP" not in capsys.readouterr().out


def test_t_shap_that_a_kind_does_not_have_is_null_with_its_reason(scenes, tmp_path):
    write_vilt(tmp_path / "vilt")
    spec = {"kind": "vilt", "weights": "checkpoint", "path": str(tmp_path / "vilt")}
    result = diagnose(spec, scenes, partners=0, t_shap_protocol="mm-shap")
    assert result["t_shap"].mean is None and "ranks pairs by one logit" in result["t_shap"].reason
    assert "T-SHAP by the protocol mm-shap\n" in result.text() + "\n"


def test_a_subset(folder, tiny_openclip):
    assert diagnose(str(tiny_openclip), folder, n=3).n_images == 3


def test_rows(folder, tiny_openclip):
    both = [diagnose(str(tiny_openclip), folder, rows=rows) for rows in ("all", "readout")]
    of_all = both[1].details["metrics"]["by_rows"]["all"]["mcs"]
    assert both[0]["mcs"].mean == pytest.approx(of_all) and of_all != both[1]["mcs"].mean
    assert both[1]["mcs"].mean == pytest.approx(both[1].details["metrics"]["mcs"])


def test_untrained_weights_are_shouted_about(folder, tiny_openclip, capsys):
    spec = {"kind": "openclip", "weights": "untrained", "architecture": str(tiny_openclip), "seed": 0}
    result = diagnose(spec, folder)
    assert result.weights["untrained"] and result.text().startswith("NOTE: untrained weights")


def test_skipped_items_are_printed_and_strict_fails(folder, tiny_openclip, capsys):
    (folder / "val2017" / "000000000002.jpg").write_bytes(b"")
    arguments = ["diagnose", "--model", str(tiny_openclip), "--pairs", str(folder)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "11 images, 22 pairs, 1 skipped" in printed and "skipped image 2: file is empty" in printed
    assert main([*arguments, "--strict"]) == 1
    assert "image 2: file is empty" in capsys.readouterr().err


@pytest.mark.parametrize("n", [1, 2, 9])
def test_from_few_images_there_is_no_interval_no_test_and_no_verdict_and_the_reason_stands_once(
    n, tmp_path, tiny_openclip, capsys
):
    folder = coco_folder(tmp_path / "few", n=n, captions=1)
    assert main(["diagnose", "--model", str(tiny_openclip), "--pairs", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "CI [" not in printed and "collapse;" not in printed and "no verdict" in printed
    assert printed.count("10 or more needed") == 2  # in the note, and in the conclusion
    data = diagnose(str(tiny_openclip), folder).to_dict()
    assert all(found["ci_low"] is None for found in data["estimates"].values())
    assert all(found.get("p") is None for found in data["details"]["tests"].values())
    assert all(found.get("p") is None for found in data["details"]["severity"].values())
    assert all(band["mcs_ci_low"] is None for band in data["layers"].values())
    assert all(data["readings"][key].startswith("no verdict") for key in ("original", "null"))


def test_ten_images_are_enough(tmp_path, tiny_openclip):
    result = diagnose(str(tiny_openclip), coco_folder(tmp_path / "ten", n=10, captions=1), partners=0)
    assert result["mcs"].interval is not None and result.readings["original"] in ("no collapse", "vision collapse")


def test_long_captions_are_cut_and_counted(tmp_path, tiny_openclip, capsys):
    folder = coco_folder(tmp_path / "long", n=2, captions=1)
    file = folder / "annotations" / "captions_val2017.json"
    data = json.loads(file.read_text())
    data["annotations"][0]["caption"] = "red circle " * 250
    data["annotations"][1]["caption"] = "赤い丸 два красных круга"
    file.write_text(json.dumps(data))
    assert main(["diagnose", "--model", str(tiny_openclip), "--pairs", str(folder)]) == 0
    # The restricted vocabulary spells foreign letters byte by byte, so both are longer than 32 tokens.
    assert "2 captions were longer than the context" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "openclip-scene", "--pairs", "{folder}"], "did you mean 'openclip-scenes'"),
        (["--model", "{model}", "--pairs", "nowhere"], "nowhere: no such folder"),
        (["--model", "{model}", "--pairs", "{folder}", "--n", "99"], "n = 99 with seed 0, and 12 images"),
        (["--model", "{folder}", "--pairs", "{folder}"], "open_clip_config.json is absent"),
    ],
)
def test_a_users_mistake_is_a_message_not_a_traceback(arguments, message, folder, tiny_openclip, capsys):
    filled = [part.format(folder=folder, model=tiny_openclip) for part in arguments]
    assert main(["diagnose", *filled]) == 1
    error = capsys.readouterr().err
    assert message in error and "expected:" in error and "what to do:" in error and "Traceback" not in error


def test_arguments_of_the_function_are_checked(folder, tiny_openclip, tmp_path):
    for wrong in (
        {"out": tmp_path},
        {"rows": "cls"},
        {"batch_size": 0},
        {"threads": 0},
        {"t_shap_protocol": "x"},
        {"t_shap_images": 0},
    ):
        with pytest.raises(AttentionCollapseError, match=next(iter(wrong))):
            diagnose(str(tiny_openclip), folder, **wrong)
    with pytest.raises(AttentionCollapseError, match="unknown key wieghts"):
        diagnose({"kind": "openclip", "wieghts": "untrained"}, folder)


def test_models_lists_every_name(capsys):
    from attention_collapse.models.catalogue import CATALOGUE

    assert main(["models"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in CATALOGUE) and "control: random weights" in printed


@pytest.mark.slow
def test_an_untrained_vit_b_32_stands_within_a_hundredth_of_its_null_on_photographs(coco_sample):
    result = diagnose("openclip-vit-b-32-untrained", coco_sample)
    assert (result.n_images, result.n_pairs, list(result.skipped)) == (80, 400, [])
    assert abs(result["mcs"].mean - result["mcs_null"].mean) < 0.01
    assert result.details["metrics"]["uniform_vision"] == pytest.approx(np.log(50))


@pytest.mark.parametrize(
    ("asked", "near"), [("MCS", "mcs"), ("reliance_shares", "reliance_share"), ("mcs_nul", "mcs_null")]
)
def test_a_measure_that_there_is_not_is_named_with_one_that_is_near(asked, near):
    names = ("mcs", "mcs_null", "reliance_share")
    known = {name: Estimate(name, 0.5, 0.1, 0.4, 0.6, 10, 0, 0.95) for name in names}
    with pytest.raises(KeyError, match=f"no measure '{asked}'; did you mean '{near}'"):
        Diagnosis.__getitem__(SimpleNamespace(estimates=known), asked)
    with pytest.raises(KeyError, match="no measure 'xyzzy': `attention-collapse measures`"):
        Diagnosis.__getitem__(SimpleNamespace(estimates=known), "xyzzy")


def test_what_is_read_first_stands_first_and_values_in_the_scores_own_unit_are_in_the_result_alone(tmp_path):
    result = diagnose(
        str(ROOT / "data" / "controls" / "openclip-scenes"), write_scenes(tmp_path, 12, seed=0), partners=2
    )
    text = result.text()
    said = [text.index(f"\n  {MEASURES[name].label}  ") for name in READ_FIRST]
    assert said == sorted(said) and said[-1] < text.index("\n  Shapley share of the image  ")
    own = [name for name, one in result.estimates.items() if MEASURES[name].unit in ("score", "score²") and one.mean]
    assert len(own) > 5 and f"not listed: {len(own)} values in the score's own unit" in text
    assert not any(f"\n  {MEASURES[name].label}  " in text for name in own)


def test_a_measure_can_be_looked_up_by_a_part_of_its_name(capsys):
    assert main(["measures", "RELIANCE"]) == 0
    heads = [line.split(":")[0] for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert heads == [name for name in MEASURES if "reliance" in name]
    assert main(["measures", "relience_image"]) == 1
    assert "did you mean 'reliance_image'?" in capsys.readouterr().err
