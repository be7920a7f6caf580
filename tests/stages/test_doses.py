"""Models trained dose by dose: what an oracle's scores say, a run that is stopped, and the summary by known answers."""

import numpy as np
import pandas as pd
import pytest
import torch
from test_train_controls import PLANT

from attention_collapse.data import planted
from attention_collapse.data.planted import FILLERS, MARK_SIZE, Regime, draw_pairs, in_order
from attention_collapse.engine.at_inference import contrasted
from attention_collapse.engine.dose_cells import CONDITIONS, SWAPPED_IN, Cell, cells, parameters_of, read_cell, sections
from attention_collapse.engine.dose_scores import numbers, read_all
from attention_collapse.engine.dose_summary import HELD_OUT, dose_key, judge, sides, summary
from attention_collapse.engine.doses import HeldOut, scored
from attention_collapse.errors import DataError, ParamsError
from attention_collapse.files import read_json
from attention_collapse.params import Doses, Params, load_params
from attention_collapse.stages import doses as stage
from attention_collapse.stages import train_doses
from attention_collapse.study.layout import Study

PLAIN = (Regime(),)
DOSES = {
    "kinds": ["vilt"], "modalities": ["text", "image"], "reliabilities": [0.5, 0.95], "seeds": [0, 1], "pairs": 8,
    "partners": 2,
}  # fmt: skip


def study(root, **changes):
    one = {"kind": "openclip", "weights": "checkpoint", "path": "x"}
    given = {"study": "s", "params_file": "p", "models": {"m": one}, "plant": PLANT, "doses": {**DOSES, **changes}}
    return Study(Params.model_validate(given), root)


class Oracle:
    """Knows the held-out pairs, or reads one cue; the last digits of its scores differ, so that no two are equal."""

    def __init__(self, reads, held_out, regimes=PLAIN):
        self.reads, told = reads, [held_out.shown(regime) for regime in regimes]
        captions = dict.fromkeys(pair.caption for one in told for pair in one.pairs)
        self.place = {caption: index for index, caption in enumerate(captions)}
        shown = [(picture, pair.scene) for one in told for pair, picture in zip(one.pairs, one.pixels, strict=True)]
        self.pictures = {picture[MARK_SIZE:].tobytes(): seen for seen, (picture, _) in enumerate(shown)}
        self.true = [{in_order(scene, reverse=turned) for turned in (False, True)} for _, scene in shown]
        for picture, scene in shown:  # no picture is that of another scene
            assert shown[self.pictures[picture[MARK_SIZE:].tobytes()]][1] == scene

    def inputs(self, pixels, captions):
        return pixels, captions

    def score(self, inputs):
        scores = []
        for picture, words in zip(*inputs, strict=True):
            filler, caption = words.split(" ", 1)
            image, text = self.pictures[picture[MARK_SIZE:].tobytes()], self.place[caption]
            says = {
                "content": caption in self.true[image], "text": filler == FILLERS[1],
                "image": picture[: MARK_SIZE // 2, -MARK_SIZE // 2 :].mean() < 30, "nearly text": filler == FILLERS[1],
            }[self.reads]  # fmt: skip
            digits = {"text": text, "image": image}.get(self.reads, image + text)
            leak = 0.01 * (caption in self.true[image]) if self.reads == "nearly text" else 0
            scores.append(2 * float(says) - 1 + 1e-4 * np.sin(7.0 * digits) + leak)
        return torch.tensor(scores)


@pytest.fixture(scope="module")
def held_out():
    return HeldOut(100, 4, 4)


@pytest.mark.parametrize("modality", ["text", "image"])
def test_a_model_that_reads_the_content_is_right_whatever_the_cue_says(modality, held_out):
    found = numbers(scored(Oracle("content", held_out), Cell("k", modality, 0.95, 0), held_out))
    for condition in CONDITIONS:
        assert found[f"accuracy_{condition}"] == 1
    for condition in SWAPPED_IN:
        for swapped in ("image", "text"):
            # With anything of another pair all is "no match": half of the labels, and half of the decisions change.
            assert found[f"accuracy_{swapped}_swapped_{condition}"] == pytest.approx(0.5)
            assert found[f"flip_{swapped}_{condition}"] == pytest.approx(0.5)
            assert found[f"reliance_{swapped}_{condition}"] == pytest.approx(1, abs=1e-3)
        assert found[f"reliance_share_{condition}"] == pytest.approx(0.5, abs=1e-3)
        assert found[f"choice_image_{condition}"] == found[f"choice_text_{condition}"] == 1


def test_beside_a_prior_of_the_words_each_condition_has_pictures_of_its_own(monkeypatch):
    """A model that reads the content is right in all; the prior says as much as it should in each."""
    monkeypatch.setattr(planted, "_POOL", 100)  # so that scenes repeat
    held_out = HeldOut(100, 4, 4)
    cell = Cell("k", "words", 0.9, 0)
    regimes = [cell.regime(condition) for condition in CONDITIONS]
    tensors = scored(Oracle("content", held_out, regimes), cell, held_out)
    assert tensors["label"].tolist() == [1, 0] * 50
    found = numbers(tensors)
    assert [found[f"accuracy_{condition}"] for condition in CONDITIONS] == [1, 1, 1]
    for condition, follows in (("trained", 0.9), ("uninformative", 0.5), ("reversed", 0.1)):
        for label in (True, False):  # of either label, so that what follows the prior alone is right just as often
            of = (tensors["label"] == 1) == label
            assert (tensors[f"cue.{condition}"][of] == label).mean() == pytest.approx(follows, abs=0.021)
    assert tensors["cue.uninformative"].mean() == 0.5
    assert found["accuracy_image_swapped_uninformative"] == pytest.approx(0.5, abs=0.02)
    for regime in regimes:  # nobody is lent the image or the text of another pair of the same scene
        shown = held_out.shown(regime)
        scenes = [pair.scene for pair in shown.pairs]
        for lent in (shown.image, shown.text):
            assert all(scenes[other] != scenes[own] for own, others in enumerate(lent) for other in others)
        assert len(set(scenes)) < 100
    plain, other = (held_out.shown(regime) for regime in (Regime(), Regime(text=0.9)))
    assert other.pixels is plain.pixels and (held_out.shown(regimes[0]).pixels != plain.pixels).any()


@pytest.mark.parametrize("modality", ["text", "image"])
def test_a_model_that_reads_the_cue_alone_is_right_as_often_as_the_cue(modality, held_out):
    cell, other = Cell("k", modality, 0.95, 0), {"text": "image", "image": "text"}[modality]
    tensors = scored(Oracle(modality, held_out), cell, held_out)
    found = numbers(tensors)
    for condition in CONDITIONS:
        cue = tensors[f"cue.{condition}"] == 1
        uneven = abs(cue.mean() - 0.5)  # the cut lies among equal scores where cues are not half and half
        agrees = (cue == (tensors["label"] == 1)).mean()
        assert found[f"accuracy_{condition}"] == pytest.approx(agrees, abs=uneven + 1e-9)
        assert found[f"follows_cue_{condition}"] == pytest.approx(1 - uneven)
    assert found["accuracy_trained"] == pytest.approx(0.95, abs=0.05)
    assert found["accuracy_uninformative"] == pytest.approx(0.5, abs=0.12)
    assert found["accuracy_reversed"] == pytest.approx(0.05, abs=0.05)
    for condition in SWAPPED_IN:  # the cue goes with its modality
        agrees = (tensors[f"cue.{condition}"] == tensors["label"]).mean()
        assert found[f"accuracy_{other}_swapped_{condition}"] == pytest.approx(agrees)
        assert found[f"flip_{other}_{condition}"] == found[f"reliance_{other}_{condition}"] == 0
        assert found[f"perceptual_{other}_{condition}"] == 0
        assert found[f"reliance_{modality}_{condition}"] == pytest.approx(1, abs=0.2)  # other partners in "both"
        assert found[f"reliance_share_{condition}"] == {"text": 0, "image": 1}[modality]
        assert found[f"flip_{modality}_{condition}"] == pytest.approx(0.5, abs=0.1)


def test_a_shift_within_a_cluster_of_scores_turns_no_decision(held_out):
    tensors = scored(Oracle("nearly text", held_out), Cell("k", "text", 0.95, 0), held_out)
    assert all(tensors[f"cue.{condition}"].mean() != 0.5 for condition in SWAPPED_IN)  # the median is a cluster's edge
    found = numbers(tensors)
    for condition in SWAPPED_IN:
        assert found[f"flip_image_{condition}"] == found[f"perceptual_image_{condition}"] == 0
        assert 0 < found[f"reliance_image_{condition}"] < 1e-3


def test_a_score_that_never_moves_has_no_reliance():
    still = {f"{name}.{condition}": np.zeros((6, 2) if name != "intact" else 6)
             for name in ("intact", "image", "text", "both") for condition in CONDITIONS}  # fmt: skip
    still |= {f"cue.{condition}": np.zeros(6) for condition in CONDITIONS} | {"label": np.arange(6) % 2.0}
    found = numbers(still)
    assert np.isnan([found["reliance_image_trained"], found["reliance_share_trained"]]).all()


def test_one_model_without_a_cue_stands_for_both_modalities_and_cues_are_nested():
    listed = cells(Doses.model_validate(DOSES))
    assert [cell.name for cell in listed] == [
        "none-0.5-0", "text-0.95-0", "none-0.5-1", "text-0.95-1", "image-0.95-0", "image-0.95-1"
    ]  # fmt: skip
    assert listed[0].regime("trained") == listed[0].regime("reversed") == Regime()
    cell = listed[-1]
    assert cell.regime("trained") == Regime(image=0.95) and cell.regime("reversed").image == pytest.approx(0.05)
    drawn = [draw_pairs(200, 4, cell.regime(condition), held_out=True) for condition in CONDITIONS]
    agrees = np.array([[pair.image_cue == pair.label for pair in pairs] for pairs in drawn])
    assert (agrees[0] >= agrees[1]).all() and (agrees[1] >= agrees[2]).all()
    assert [[pair.caption for pair in pairs] for pairs in drawn[1:]] == [[pair.caption for pair in drawn[0]]] * 2


def test_a_run_that_is_stopped_goes_on_and_equal_parameters_give_equal_bytes(tmp_path, monkeypatch):
    run, trained, match = study(tmp_path / "a"), [], train_doses.match

    def stopped(*args, **options):
        trained.append((options["regime"].text, options["regime"].image, options["seed"]))
        if len(trained) == 3:
            raise KeyboardInterrupt
        return match(*args, **options)

    monkeypatch.setattr(train_doses, "match", stopped)
    with pytest.raises(KeyboardInterrupt):
        train_doses.main(run, "vilt")
    out = run.doses_of("vilt")
    assert sorted(file.name for file in out.iterdir()) == ["none-0.5-0.safetensors", "text-0.95-0.safetensors"]
    train_doses.main(run, "vilt")
    assert trained == [
        (0.5, 0.5, 0), (0.95, 0.5, 0), (0.5, 0.95, 0), (0.5, 0.95, 0), (0.5, 0.5, 1), (0.95, 0.5, 1), (0.5, 0.95, 1)
    ]  # fmt: skip
    train_doses.main(run, "vilt")
    assert len(trained) == 7  # nothing was left to do
    other = study(tmp_path / "b", seeds=[1])
    train_doses.main(other, "vilt")
    again = {file.name: file.read_bytes() for file in other.doses_of("vilt").iterdir()}
    assert len(again) == 3 and again == {name: (out / name).read_bytes() for name in again}
    tensors, about = read_cell(out / "text-0.95-0.safetensors")
    assert about["parameters"]["reliability"] == 0.95 and about["trained_by"] and about["contents"]
    assert tensors["image.uninformative"].shape == (8, 2) and tensors["attention.mcs_all"].shape == (8,)
    stage.main(run)
    result = read_json(run.doses)
    assert result["n_models"] == 6 and result["n_missing"] == 0 and set(result["kinds"]["vilt"]) == {"text", "image"}
    assert (run.dose_plots / "dose_response.png").is_file() and len(pd.read_csv(run.dose_table)) == 6
    (out / "image-0.95-1.safetensors").unlink()
    stage.main(run)
    result = read_json(run.doses)
    assert result["missing_seeds"] == {"vilt/image-0.95": "1"}
    assert result["kinds"]["vilt"]["image"]["doses"]["reliability_95"]["missing_seeds"] == "1"
    changed = study(tmp_path / "a", partners=3)
    with pytest.raises(DataError, match="other parameters"):
        stage.main(changed)
    train_doses.main(changed, "vilt")
    stage.main(changed)  # trained anew


def test_mistakes_are_named(tmp_path):
    with pytest.raises(ParamsError, match="no 'bert'"):
        train_doses.main(study(tmp_path), "bert")
    with pytest.raises(DataError, match="holds no scores"):
        stage.main(study(tmp_path))
    broken = tmp_path / "x.safetensors"
    broken.write_bytes(b"no tensors")
    with pytest.raises(DataError, match="no scores of a model"):
        read_cell(broken)
    for wrong in ({"reliabilities": [0.8, 0.9]}, {"reliabilities": [0.5, 0.9, 0.8]}, {"kinds": ["bert"]}):
        with pytest.raises(ValueError, match="rise from 0.5|no steps"):
            study(tmp_path, **wrong)


def models(accuracy, measure, n=10, spread=0.01):
    """A row a model: dose -> accuracy where the cue says nothing, and a measure that falls with it or does not."""
    rng = np.random.default_rng(0)
    return pd.DataFrame([
        {
            "kind": "vilt", "modality": "none" if dose == 0.5 else "text", "reliability": dose, "seed": seed,
            HELD_OUT: told + 0.001 * seed, "mcs_all": measure[dose] + rng.normal(0, spread),
            "reliance_text_trained": 0.5, "flip_image_trained": np.nan,
        }
        for dose, told in accuracy.items() for seed in range(n)
    ])  # fmt: skip


ACCURACY = {0.5: 0.98, 0.8: 0.95, 0.9: 0.55, 0.95: 0.5}


def summed(table, n=10):
    doses = Doses.model_validate(DOSES | {"reliabilities": list(ACCURACY), "seeds": list(range(n))})
    return summary(table, [], doses, 0.95)["kinds"]["vilt"]["text"]


def test_collapse_and_balance_are_told_by_a_measure_that_follows_them():
    rises = dict(zip(ACCURACY, (0.5, 0.5, 0.8, 0.9), strict=True))
    found = summed(models(ACCURACY, rises))
    assert (found["n_collapsed"], found["n_balanced"], found["not_learned"]) == (20, 10, "none")
    one = found["measures"]["mcs_all"]  # MCS is said to rise where the image is ignored
    assert one["verdict"] == "separates" and one["auroc"] == one["within"] == 1
    assert one["ci_low"] == pytest.approx(0.025**0.1) and one["n_low"] == one["n_high"] == 10  # seeds, not models
    falls = summed(models(ACCURACY, {dose: -value for dose, value in rises.items()}))
    assert falls["measures"]["mcs_all"]["verdict"] == "reversed"
    still = summed(models(ACCURACY, dict.fromkeys(ACCURACY, 0.5)))
    assert still["measures"]["mcs_all"]["verdict"] == "undetermined"
    assert "reliance_text_trained" not in found["measures"]  # it says nothing of an ignored image
    few = summed(models(ACCURACY, rises, n=3), 3)
    assert few["measures"]["mcs_all"]["verdict"] == "undetermined"
    assert few["measures"]["mcs_all"]["ci_low"] == pytest.approx(0.2924, abs=1e-4)


def test_where_accuracy_falls_and_what_is_missing():
    found = summed(models(ACCURACY, ACCURACY))
    assert found["falls"]["median"] == pytest.approx(0.8 + 0.1 * (0.9545 - 0.75) / 0.4, abs=1e-3)
    assert found["falls"]["ci_low"] < found["falls"]["median"] < found["falls"]["ci_high"]
    dose = found["doses"][dose_key(0.9)]
    assert dose[HELD_OUT]["mean"] == pytest.approx(0.5545) and dose["n_seeds"] == 10
    assert dose[HELD_OUT]["ci_low"] < 0.5545 < dose[HELD_OUT]["ci_high"]
    part = models(ACCURACY, ACCURACY)
    part = part[~((part["reliability"] == 0.95) & (part["seed"] == 4))]
    found = summed(part)
    assert found["doses"][dose_key(0.95)]["missing_seeds"] == "4" and found["falls"]["n_seeds"] == 9
    never = summed(models(dict.fromkeys(ACCURACY, 0.95), ACCURACY))
    assert "stay above" in never["falls"]["reason"] and never["n_collapsed"] == 0
    assert never["measures"]["mcs_all"]["reason"] == "no model of one of the two sides"


def test_a_model_that_did_not_learn_counts_for_neither_side():
    table = models(ACCURACY, ACCURACY)
    table.loc[(table["reliability"] == 0.5) & (table["seed"] == 2), HELD_OUT] = 0.7
    collapsed, balanced = sides(table)
    assert 2 not in set(balanced["seed"]) and len(balanced) == 9 and len(collapsed) == 20
    assert summed(table)["not_learned"] == "2"


def test_an_undefined_value_of_one_model_leaves_the_verdict_undefined():
    table = models(ACCURACY, ACCURACY)
    table.loc[0, "mcs_all"] = np.nan
    found = judge(*sides(table), "mcs_all", 1, 0.95)
    assert found["verdict"] == "undefined" and "undefined for some" in found["reason"]


def test_what_is_committed_follows_from_the_committed_scores():
    from conftest import ROOT

    run = Study(load_params(ROOT / "params.yaml"), ROOT)
    doses, plant = sections(run.params)
    folders = {kind: run.doses_of(kind) for kind in doses.kinds}
    table, missing, digests = read_all(
        cells(doses), folders, lambda cell: parameters_of(cell, doses, plant),
        lambda tensors, about: numbers(tensors) | contrasted(tensors, about["parameters"]["modality"]),
    )  # fmt: skip
    files = [file for kind in doses.kinds for file in run.doses_of(kind).iterdir()]
    assert len(files) == len(digests) == len(table)  # none is left over from other parameters
    assert sum(file.stat().st_size for file in files) <= 15e6
    standing = pd.read_csv(run.dose_table)
    pd.testing.assert_frame_equal(standing, table, check_dtype=False, rtol=1e-5)
    result = read_json(run.doses)
    assert (result["n_models"], result["n_missing"]) == (len(table), len(missing))
    recomputed = summary(standing, missing, doses, run.params.stats.confidence)["kinds"]
    for kind, cues in result["kinds"].items():
        for modality, found in cues.items():
            for key, dose in found["doses"].items():
                again = recomputed[kind][modality]["doses"][key][HELD_OUT]["mean"]
                assert dose[HELD_OUT]["mean"] == pytest.approx(again, rel=1e-5)
