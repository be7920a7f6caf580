"""The ways to train: verdicts by known answers, curves of a planted watch, and a real run, stopped and resumed."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from scipy import stats as scipy_stats
from test_train_controls import PLANT
from torch import nn

from attention_collapse.data.planted import FILLERS
from attention_collapse.engine import arms
from attention_collapse.engine.arm_alarms import alarms
from attention_collapse.engine.arm_cells import REFUSED, ArmCell, cells, parameters_of, sections
from attention_collapse.engine.arm_curves import collapsed_at, curves
from attention_collapse.engine.arm_summary import in_kinds, monitored, remedied, summary, without_room
from attention_collapse.engine.at_inference import COLUMNS
from attention_collapse.engine.dose_cells import read_cell
from attention_collapse.engine.doses import HeldOut
from attention_collapse.engine.paired_seeds import could_be_shown, judge
from attention_collapse.errors import DataError, ParamsError
from attention_collapse.files import read_json, write_json
from attention_collapse.params import Arm, Params, Prevention
from attention_collapse.report.evidence import Evidence
from attention_collapse.report.prevention import (
    arms_figure,
    arms_table,
    cue_label,
    kinds_figure,
    kinds_table,
    repeated,
)
from attention_collapse.stages import prevention as stage
from attention_collapse.stages import train_prevention
from attention_collapse.study.layout import Study

RULE = {"gain": 0.05, "loss": 0.02, "kinds": 2}
SECTION = {
    "kinds": {"vilt": {}}, "doses": [{"modality": "text", "reliability": 0.95}], "seeds": [0, 1], "pairs": 8,
    "partners": 1, "watched": 8, "every": 2, "rule": RULE,
    "arms": {
        "erm": {}, "swapped-negatives": {"method": "swapped-negatives"}, "early-stopping": {"stops_early": True},
        "just-train-twice": {"method": "just-train-twice"}, "longer": {"steps": 2.0},
        "modality-dropout": {"method": "modality-dropout"}, "learned-mixin": {
            "method": "product-of-experts", "options": {"gated": 1, "entropy": 0.03}},
        "group-reweighting": {"method": "group-reweighting"}, "balanced": {"balanced": True},
    },
}  # fmt: skip


def study(root, **changes):
    one = {"kind": "openclip", "weights": "checkpoint", "path": "x"}
    given = {
        "study": "s",
        "params_file": "p",
        "models": {"m": one},
        "plant": PLANT,
        "prevention": {**SECTION, **changes},
    }
    return Study(Params.model_validate(given), root)


def section(seeds, arms=("erm", "a"), kinds=("vilt",)):
    return Prevention.model_validate(
        SECTION | {"kinds": {kind: {} for kind in kinds}, "seeds": list(seeds), "arms": {arm: {} for arm in arms}}
    )


def models(arms, kind="vilt"):
    """A row per model: arm -> (neutral, trained) of each seed."""
    rows = []
    for arm, values in arms.items():
        for seed, (neutral, trained) in enumerate(values):
            rows.append({
                "kind": kind, "modality": "text", "reliability": 0.95, "seed": seed, "arm": arm,
                "accuracy_uninformative": neutral, "accuracy_trained": trained, "accuracy_reversed": 0.1,
                "reliance_image_uninformative": 0.3, "reliance_image_trained": 0.4,
                "accuracy_image_swapped_trained": 0.5, "passes": 1.0 if arm == "erm" else 1.5,
                "seconds": 10.0 if arm == "erm" else 14.0, "stopped_at": 400, "collapsed_at": 60.0,
                "hard_rang_at": np.nan, "image_rang_at": np.nan, "text_rang_at": np.nan,
            })  # fmt: skip
    return pd.DataFrame(rows)


def verdicts(arms, seeds=10, confidence=0.95):
    found = summary(models(arms), [], section(range(seeds), tuple(arms)), confidence)
    return {arm: one.get("verdict") for arm, one in found["kinds"]["vilt"]["text_reliability_95"].items()}, found


def spread(mean, n=10, by=0.01):
    return (mean + by * np.linspace(-1, 1, n)).tolist()


def test_the_verdict_takes_a_shown_gain_and_no_shown_loss():
    trained = spread(0.95, by=0.001)
    plain = list(zip(spread(0.5), trained, strict=True))
    arms = {
        "erm": plain,
        "cure": list(zip(spread(0.9), trained, strict=True)),
        "small": list(zip(spread(0.54), trained, strict=True)),  # a sure gain below the rule's
        "dear": list(zip(spread(0.9), spread(0.91, by=0.001), strict=True)),
        "noisy": list(zip(spread(0.57, by=0.3)[::-1], trained, strict=True)),
    }
    found, whole = verdicts(arms)
    assert found == {
        "erm": None, "cure": "prevents", "small": "not shown", "dear": "costs accuracy", "noisy": "not shown"
    }  # fmt: skip
    one = whole["kinds"]["vilt"]["text_reliability_95"]["cure"]
    assert one["gain"]["mean"] == pytest.approx(0.4) and one["cost"] == pytest.approx(1.4) and one["n_pairs"] == 10


def test_the_test_is_the_paired_one_against_the_rule_s_gain_with_holm():
    rng = np.random.default_rng(0)
    neutral = {arm: rng.normal(0.5 + shift, 0.05, 6) for arm, shift in (("erm", 0), ("a", 0.12), ("b", 0.08))}
    arms = {arm: [(value, 0.95) for value in values] for arm, values in neutral.items()}
    _, whole = verdicts(arms, seeds=6)
    found = whole["kinds"]["vilt"]["text_reliability_95"]
    p = {arm: scipy_stats.ttest_rel(neutral[arm] - 0.05, neutral["erm"], alternative="greater").pvalue for arm in "ab"}
    for arm in "ab":
        assert found[arm]["p_gain"] == pytest.approx(p[arm])
    low, high = sorted(p, key=p.get)
    assert found[low]["p_gain_holm"] == pytest.approx(2 * p[low])
    assert found[high]["p_gain_holm"] == pytest.approx(max(2 * p[low], p[high]))


def test_ways_and_cues_that_are_named_and_not_trained_count_as_showing_nothing():
    """Holm's family is what the study names, so that nothing is gained by leaving some out."""
    rng = np.random.default_rng(0)
    neutral = {arm: rng.normal(0.5 + shift, 0.05, 6) for arm, shift in (("erm", 0), ("a", 0.12))}
    table = models({arm: [(value, 0.95) for value in values] for arm, values in neutral.items()})
    ways = SECTION | {"kinds": {"vilt": {}}, "seeds": list(range(6)), "arms": {arm: {} for arm in ("erm", "a", "b")}}
    named = [
        {"modality": "text", "reliability": 0.95}, {"modality": "image", "reliability": 0.95},
        {"modality": "words", "reliability": 0.8, "arms": ["erm", "b"]},
        {"modality": "text", "reliability": 0.99, "kinds": ["blip"]},
    ]  # fmt: skip
    study = Prevention.model_validate(ways | {"doses": named, "kinds": {"vilt": {}, "blip": {}}})
    found = summary(table, [], study, 0.95)["kinds"]["vilt"]["text_reliability_95"]["a"]
    p = scipy_stats.ttest_rel(neutral["a"] - 0.05, neutral["erm"], alternative="greater").pvalue
    assert found["p_gain_holm"] == pytest.approx(5 * p)  # a and b beside two cues, b beside the third
    judged = [{"p_gain": 0.02, "p_no_loss": 0.01}, {"p_gain": np.nan, "p_no_loss": np.nan}]
    judge(judged, 0.05, 2)
    assert [one["verdict"] for one in judged] == ["prevents", "undetermined"]
    judge(judged, 0.05, 3)  # 3 · 0.02
    assert judged[0]["p_gain_holm"] == pytest.approx(0.06) and judged[0]["verdict"] == "not shown"


def test_seeds_are_paired_and_those_without_a_partner_do_not_count():
    arms = {"erm": [(0.5, 0.95)] * 3, "a": [(0.8, 0.95)] * 2}
    found, whole = verdicts(arms, seeds=3)
    one = whole["kinds"]["vilt"]["text_reliability_95"]["a"]
    assert one["n_pairs"] == 2 and one["n_seeds"] == 2
    found, _ = verdicts({"erm": [(0.5, 0.95)], "a": [(0.8, 0.95)]}, seeds=2)
    assert found["a"] == "undetermined"  # one seed shows nothing


def test_a_method_is_recommended_by_as_many_kinds_as_the_rule_says_and_not_before_they_were_tried():
    cue = "text_reliability_95"
    prevents, not_shown, few = (
        {"verdict": verdict, "n_pairs": pairs}
        for verdict, pairs in (("prevents", 2), ("not shown", 2), ("undetermined", 1))
    )

    def found(study, **kinds):
        one = in_kinds({kind: {cue: {"a": arm}} for kind, arm in kinds.items()}, study)["a"]
        return one["recommended"], one["n_prevents"], one["n_kinds"]

    two, three = (section([0, 1], kinds=kinds) for kinds in (("vilt", "blip"), ("vilt", "blip", "llava")))
    assert found(two, vilt=prevents, blip=prevents) == (True, 2, 2)
    assert found(two, vilt=prevents, blip=not_shown) == (False, 1, 2)
    assert found(two, vilt=prevents) == (None, 1, 1)
    assert found(two, vilt=prevents, blip=few) == (None, 1, 1)
    assert found(two, vilt=not_shown) == (False, 0, 1)  # one is left, two are needed
    assert found(three, vilt=prevents, blip=not_shown) == (None, 1, 2)  # the third could be the second
    assert found(three, vilt=prevents, blip=not_shown, llava=not_shown) == (False, 1, 3)
    more = section([0, 1, 2], kinds=("vilt", "blip"))  # of which two seeds are there
    assert found(more, vilt=prevents, blip=not_shown) == (None, 1, 2)
    alone = section([0, 1], kinds=("vilt",))
    assert found(alone, vilt=not_shown) == (None, 0, 1)  # the rule asks for two kinds
    elsewhere = {"vilt": {cue: {"a": prevents}}, "blip": {cue: {"b": not_shown}}}
    assert in_kinds(elsewhere, two)["a"] == {"kinds": "vilt", "n_prevents": 1, "n_kinds": 1, "recommended": None}


def plainly(kind, *right):
    """The rows of plainly trained models, right in these shares of the pairs whose cue says nothing."""
    return pd.DataFrame({
        "kind": kind, "modality": "text", "reliability": 0.95, "arm": "erm", "seed": range(len(right)),
        "accuracy_uninformative": right,
    })  # fmt: skip


@pytest.mark.parametrize(
    ("right", "closed"),
    [
        ((0.95, 0.95, 0.95), True), ((0.94, 0.94, 0.94), False), ((0.99, 0.99, 0.99), True), ((0.99, 0.99), False),
        ((0.94, 0.94, 0.96), True),  # more than 0.05 is wrong on average, and no three gains could be shown
        ((0.9, 0.9, 0.949), False),  # three gains of 0.051 are above 0.05 for sure
    ],
)  # fmt: skip
def test_where_plain_training_is_right_nearly_always_no_way_to_train_can_decide(right, closed):
    """As long as a seed that is named is missing, nothing is known."""
    cue, study = "text_reliability_95", section([0, 1, 2], kinds=("vilt", "blip"))
    kinds = {"vilt": {cue: {"a": {"verdict": "prevents", "n_pairs": 3}}}}
    found = without_room(plainly("blip", *right), study, 0.95)
    assert found == (["blip"] if closed else [])
    assert in_kinds(kinds, study, found)["a"]["recommended"] is (False if closed else None)  # two are needed
    kinds["blip"] = {cue: {"a": {"verdict": "prevents", "n_pairs": 2}}}  # of the seeds that are there
    assert in_kinds(kinds, study, found)["a"]["recommended"] is True


@pytest.mark.filterwarnings("ignore:Precision loss")  # three gains that are nearly the same
def test_whether_gains_could_be_shown_agrees_with_a_search_of_all_gains():
    """On a grid of gains for three seeds, none above what is possible, by scipy's t-test."""
    possible = []
    for most in ((0.07, 0.058, 0.062), (0.09, 0.052, 0.055), (0.2, 0.049, 0.06), (0.06, 0.048, 0.07)):
        grid = np.stack(np.meshgrid(*[np.linspace(0.03, top, 36) for top in most]), -1).reshape(-1, 3)
        p = scipy_stats.ttest_1samp(grid, 0.05, axis=1, alternative="greater").pvalue
        possible.append(could_be_shown(np.array(most), 0.05, 0.05))
        assert possible[-1] == (np.nanmin(p) < 0.05)
    assert set(possible) == {True, False}


def test_curves_of_a_model_that_ignores_the_image_from_the_second_check_on():
    label = np.array([1.0, 0, 1, 0])
    cue = np.array([1.0, -1, 1, -1])
    reads_both = np.array([2.0, -2, 2, -2])
    torn = np.array([-2.0, 2, -2, 2])
    tensors = {
        "watched.step": np.array([0.0, 20.0]), "watched.label": label,
        "watched.intact": np.stack([reads_both, cue]), "watched.image": np.stack([torn, cue]),
        "watched.text": np.stack([torn, -cue]), "watched.both": np.stack([torn, -cue]),
        "watched.neutral": np.stack([reads_both, np.array([1.0, 1, -1, -1])]),
    }  # fmt: skip
    found = curves(tensors)
    assert found["step"].tolist() == [0, 20]
    assert found["trained"].tolist() == [1, 1] and found["neutral"].tolist() == [1, 0.5]
    assert found["image_swapped"].tolist() == [0, 1] and found["text_swapped"].tolist() == [0, 0]
    assert found["reliance_image"].tolist() == [1, 0] and found["reliance_text"].tolist() == [1, 1]
    assert collapsed_at(found) == 20  # both right at the first check; then right as trained alone


def test_a_model_has_collapsed_once_it_is_right_as_trained_and_fails_where_the_cue_says_nothing():
    def at(trained, neutral):
        return collapsed_at(pd.DataFrame({"step": [0, 20, 40], "trained": trained, "neutral": neutral}))

    assert at([0.5, 0.9, 0.95], [0.5, 0.6, 0.5]) == 20  # the limits belong to it
    assert at([0.5, 0.89, 0.95], [0.5, 0.5, 0.5]) == 40  # it knew nothing before
    assert np.isnan(at([0.5, 0.95, 0.95], [0.5, 0.61, 0.9]))


def watched(neutral, checks=6, n=100, learns_at=2):
    """A run that is right by the text alone from check 2 on, and so far on pairs whose cue says nothing."""
    rng = np.random.default_rng(0)
    label = np.arange(n) % 2
    text = 2.0 * label - 1 + 0.01 * rng.normal(size=n)
    noise = rng.normal(size=(checks, n))
    own = np.where(np.arange(checks)[:, None] < learns_at, noise, text)
    other = rng.permutation(n)
    hard = np.where(rng.random(n) < neutral, text, -text)
    return {
        "watched.label": label.astype(float), "watched.step": 20.0 * np.arange(checks), "watched.intact": own,
        "watched.image": own, "watched.text": own[:, other], "watched.both": own[:, other],
        "watched.neutral": np.where(np.arange(checks)[:, None] < learns_at, noise, hard),
    }  # fmt: skip


def test_the_monitor_rings_three_checks_after_the_image_is_shown_to_be_unused():
    found = alarms(watched(neutral=0.3))
    assert found["image_rang_at"] == found["hard_rang_at"] == 20 * (2 + 2) and np.isnan(found["text_rang_at"])
    found = alarms(watched(neutral=1.0))  # the image is unused, and the pairs whose cue says nothing are right
    assert found["image_rang_at"] == 80 and np.isnan(found["hard_rang_at"])
    assert np.isnan(list(alarms(watched(0.3, checks=4)).values())).all()  # two checks in a row are not three


def test_alarms_are_counted_of_collapsed_models_and_of_sound_ones():
    table = models({"erm": [(0.5, 0.95)] * 3 + [(0.7, 0.95)], "balanced-data": [(0.98, 0.98)] * 2})
    table["hard_rang_at"] = [100.0, 200.0, np.nan, 100.0, np.nan, 80.0]
    table["text_rang_at"] = [np.nan] * 5 + [60.0]
    found = monitored(table, section(range(4)))["vilt"]["text_reliability_95"]
    rang = {"rang_at": 0.375, "delay": pytest.approx((150 - 60) / 400)}
    assert found["neutral_pairs"] == {"collapsed": 3, "rang": 2, **rang, "sound": 2, "false": 1}
    assert found["swap"]["rang"] == 0 and found["wrong_modality"] == {"models": 5, "rang": 1}


def test_cells_are_named_by_arm_and_cue_and_a_balanced_arm_sees_no_cue():
    run = study("x")
    prevention, _ = sections(run.params)
    listed = cells(prevention)
    assert listed[0].name == "erm-text-0.95-0" and len({cell.name for cell in listed}) == 18
    cell = ArmCell("vilt", "text", 0.95, 0, "balanced")
    assert cell.taught(prevention.arms["balanced"]).text == 0.5 and cell.taught(prevention.arms["erm"]).text == 0.95
    with pytest.raises(ValidationError, match=r"plain `erm: \{\}`"):
        study("x", arms={"erm": {"steps": 2.0}})


def test_a_kind_and_a_cue_may_be_trained_in_part():
    few = {"modality": "image", "reliability": 0.95, "arms": ["erm", "balanced"], "seeds": [3, 4], "kinds": ["vilt"]}
    doses, scope = [*SECTION["doses"], few], {"arms": ["erm", "longer"], "seeds": [1, 2]}
    prevention, _ = sections(study("x", doses=doses, kinds={"vilt": scope}).params)
    whole = [f"{arm}-text-0.95-{seed}" for seed in (1, 2) for arm in scope["arms"]]
    assert [cell.name for cell in cells(prevention)] == [*whole, "erm-image-0.95-3", "erm-image-0.95-4"]
    everything, _ = sections(study("x", doses=doses).params)
    assert len(cells(everything)) == 2 * 9 + 2 * 2
    for wrong in (["longer", "balanced"], ["erm", "unheard-of"]):
        with pytest.raises(ValidationError, match=r"kinds\.vilt\.arms are among erm, .* and `erm` is one of them"):
            study("x", kinds={"vilt": {"arms": wrong}})
        with pytest.raises(ValidationError, match=r"doses\.0\.arms are among erm, .* and `erm` is one of them"):
            study("x", doses=[few | {"arms": wrong}])
    with pytest.raises(ValidationError, match=r"doses\.0\.kinds names blip, which kinds does not have"):
        study("x", doses=[few | {"kinds": ["vilt", "blip"]}])


def test_the_table_of_kinds_has_the_ways_that_several_kinds_were_trained_in(tmp_path):
    values = {"erm": [(0.5, 0.95), (0.52, 0.95)], "a": [(0.9, 0.95), (0.93, 0.95)]}
    table = pd.concat([models(values | {"b": values["a"]}), models(values, "blip")])
    both = section([0, 1], ("erm", "a", "b"), ("vilt", "blip"))
    result = summary(table, [], both, 0.95) | {"evidence_id": "e", "stage": "prevention"}
    result["kinds"]["blip"]["text_reliability_95"]["a"] |= {"cost": 2.0, "verdict": "not shown"}
    assert repeated(result["kinds"], both) == ["erm", "a"]
    write_json(file := tmp_path / "prevention.json", result)
    found = kinds_table(both, Evidence.read(tmp_path, file, "s.prevention"))
    rows = re.sub(r"\\acval{[^}]*}{\d}{([^}]*)}", r"\1", found).replace("\n&", " &").splitlines()
    assert "Training & ViLT & BLIP & cost \\\\" in rows
    half = scipy_stats.t.ppf(0.975, 1) * np.std([0.4, 0.41], ddof=1) / np.sqrt(2)
    gain = rf"+0.405 [{0.405 - half:.3f}, {0.405 + half:.3f}]"
    (row,) = (row for row in rows if row.startswith("a &"))
    plain, starred = gain, gain.replace(" [", r"$^\star$ [")
    assert row == rf"a & {starred} & {plain} & 1.4--2.0 \\"
    assert "\\midrule seeds & 2 & 2 &  \\\\" in rows and not any(row.startswith("b &") for row in rows)
    drawn = kinds_figure(table, result, both, 0.95)
    assert [axes.get_title(loc="left").split("\n")[0] for axes in drawn.axes] == ["ViLT", "BLIP"]


def test_figures_and_tables_of_a_study_that_is_trained_in_part(tmp_path):
    """An arm without plain training of its seeds, a kind without plain training, and one seed, which shows nothing."""
    first = models({"erm": [(0.5, 0.95)] * 2, "a": [(0.9, 0.95)]})
    table = pd.concat([first, models({"a": [(0.8, 0.95)] * 2}, "blip"), models({"erm": [(0.6, 0.95)]}, "llava")])
    table = pd.concat([table, models({"b": [(0.7, 0.95)]}, "idefics")])  # in no way that others were trained in
    table[list(COLUMNS)] = 0.5
    study = section([0, 1], ("erm", "a", "b"), ("vilt", "blip", "llava", "idefics"))
    result = summary(table, [], study, 0.95) | {"evidence_id": "e", "stage": "prevention"}
    result["at_inference"] = remedied(table, study, 0.95)
    assert repeated(result["kinds"], study) == ["erm", "a"]
    write_json(file := tmp_path / "prevention.json", result)
    source = Evidence.read(tmp_path, file, "s.prevention")
    rows = re.sub(r"\\acval{[^}]*}{\d}{([^}]*)}", r"\1", kinds_table(study, source)).replace("\n&", " &").splitlines()
    assert r"erm & 0.500 [0.500, 0.500] & -- & 0.600 -- & -- & 1.0 \\" in rows
    assert r"a & -- & -- & -- & -- & 1.4 \\" in rows and r"\midrule seeds & 2 & -- & 1 & -- &  \\" in rows
    for kind in study.kinds:
        assert "Training" in arms_table(study, kind, source)
        arms_figure(table, result, kind, study, 0.95).canvas.draw()
    kinds_figure(table, result, study, 0.95).canvas.draw()


def test_no_model_is_named_twice():
    dose = SECTION["doses"][0]
    with pytest.raises(ValidationError, match=r"doses\.1 is the cue of another"):
        study("x", doses=[dose | {"seeds": [0, 1]}, dose | {"seeds": [2, 3]}])
    for changes, said in (
        ({"seeds": [0, 1, 0]}, "seeds names"), ({"kinds": {"vilt": {"seeds": [2, 2]}}}, r"kinds\.vilt\.seeds names"),
        ({"doses": [dose | {"seeds": [1, 1]}]}, r"doses\.0\.seeds names"),
    ):  # fmt: skip
        with pytest.raises(ValidationError, match=f"{said} a seed twice"):
            study("x", **changes)


def test_a_prior_of_the_words_is_a_cue_in_the_text_beside_which_the_image_may_be_ignored():
    cell = ArmCell("vilt", "words", 0.8, 0, "erm")
    assert [cell.regime(name).words for name in ("trained", "uninformative", "reversed")] == pytest.approx(
        [0.8, 0.5, 0.2]
    )
    assert arms.MAKERS["swapped-negatives"](cell, None, {}).swap == "image"
    table = models({"erm": [(0.5, 0.95)] * 2, "balanced-data": [(0.98, 0.98)] * 2}).assign(modality="words")
    table["image_rang_at"], table["text_rang_at"] = [100.0, np.nan] * 2, [np.nan, 100.0] * 2
    prior = Prevention.model_validate(
        section([0, 1]).model_dump() | {"doses": [{"modality": "words", "reliability": 0.95}]}
    )
    found = monitored(table, prior)["vilt"]["words_reliability_95"]
    assert found["swap"]["rang"] == 1 and found["wrong_modality"] == {"models": 4, "rang": 2}
    assert cue_label(prior.doses[0]) == "prior of the words, right 95 %"


def test_early_stopping_keeps_the_weights_that_did_best_as_trained(monkeypatch):
    held_out = HeldOut(8, 1, 5)
    label = held_out.label
    trainee, cell = SimpleNamespace(module=nn.Linear(1, 1)), ArmCell("vilt", "text", 0.95, 0, "early")
    right = {0: 0.25, 2: 1.0, 4: 0.5}  # as trained, after so many steps

    def scores(_trainee, _pairs, _pixels, wanted):
        share = right[int(trainee.module.weight.item())]
        said = np.where(np.arange(8) < 8 * share, label, ~label)
        return {name: np.where(said, 1.0, 0.0) + 1e-3 * np.arange(8) for name in wanted}

    def match(*_args, watch, **_options):
        for step in (0, 2, 4):
            with torch.no_grad():
                trainee.module.weight.fill_(step)
            watch(step)
        return 0.1

    monkeypatch.setattr(arms, "scores_of", scores)
    monkeypatch.setattr(arms, "match", match)
    recipe = SimpleNamespace(matching_steps={"vilt": 4})
    for stops, kept in ((True, 2), (False, 4)):
        watch = arms.Watch(trainee, cell, held_out, 2, stops_early=stops)
        took = arms.train_arm(cell, Arm(stops_early=stops), trainee, ([], np.empty(0)), recipe, watch=watch)
        assert took["stopped_at"] == kept and trainee.module.weight.item() == kept
        assert watch.tensors()["watched.step"].tolist() == [0, 2, 4]


def test_a_run_that_is_stopped_goes_on_and_the_stage_judges_what_is_there(tmp_path, monkeypatch):
    run, trained, train_arm = study(tmp_path), [], train_prevention.train_arm

    def stopped(cell, arm, trainee, data, recipe, *, watch):
        trained.append(cell.name)
        if len(trained) == 3:
            raise KeyboardInterrupt
        return train_arm(cell, arm, trainee, data, recipe, watch=watch)

    monkeypatch.setattr(train_prevention, "train_arm", stopped)
    with pytest.raises(KeyboardInterrupt):
        train_prevention.main(run, "vilt")
    out = run.prevention_of("vilt")
    assert len(list(out.iterdir())) == 2
    train_prevention.main(run, "vilt")
    assert len(trained) == 1 + 18
    train_prevention.main(run, "vilt")
    assert len(trained) == 19  # nothing was left to do

    tensors, about = read_cell(out / "early-stopping-text-0.95-0.safetensors")
    assert tensors["intact.trained"].shape == (8,) and tensors["image.uninformative"].shape == (8, 1)
    assert tensors["watched.neutral"].shape == (len(tensors["watched.step"]), 8)
    assert about["stopped_at"] in tensors["watched.step"] and about["passes"] == 1
    passes = {arm: read_cell(out / f"{arm}-text-0.95-0.safetensors")[1]["passes"] for arm in SECTION["arms"]}
    assert passes["longer"] == 2 and passes["swapped-negatives"] == 1.5
    assert passes["just-train-twice"] == pytest.approx(1 + 1 / 3 + 0.25)

    stage.main(run)
    result = read_json(run.prevention)
    assert result["n_models"] == 18 and result["n_missing"] == 0 and result["rule"] == RULE
    assert result["refused"] == REFUSED
    for name in ("arms_vilt.png", "curves_vilt.pdf"):
        assert (run.prevention_plots / name).is_file()
    assert r"\acval{s.prevention.kinds.vilt" in (run.prevention_paper / "vilt.tex").read_text()
    (out / "erm-text-0.95-1.safetensors").unlink()
    stage.main(run)
    assert read_json(run.prevention)["missing"] == {"vilt/erm-text-0.95": "1"}
    changed = study(tmp_path, watched=9)
    with pytest.raises(DataError, match="other parameters"):
        stage.main(changed)


def test_a_method_that_does_not_apply_or_is_not_known_is_named(tmp_path):
    for method, said in (
        ("gradient-modulation", "no modality has logits of its own"),
        ("nothing", "no method 'nothing'"),
    ):
        run = study(tmp_path / method, arms={"erm": {}, "it": {"method": method}}, seeds=[0, 1])
        with pytest.raises(ParamsError, match=said):
            train_prevention.main(run, "vilt")
    with pytest.raises(ParamsError, match="prevention.kinds has no 'bert'"):
        train_prevention.main(study(tmp_path), "bert")
    with pytest.raises(DataError, match="holds no scores"):
        stage.main(study(tmp_path / "empty"))


def test_scores_beside_another_prior_of_the_words_are_not_read_as_those_of_this_one(tmp_path):
    params = study(tmp_path).params
    prevention, plant = sections(params)
    words, text = (
        parameters_of(ArmCell("vilt", modality, 0.95, 0, "erm"), prevention, plant) for modality in ("words", "text")
    )
    assert words.pop("prior") == "of the text alone" and words | {"modality": "text"} == text


def test_nearest_negatives_compare_texts_by_their_words():
    trainee = SimpleNamespace(ids="ids", vocabulary=dict.fromkeys("abc"))
    cell = ArmCell("vilt", "text", 0.95, 0, "nearest-negatives")
    method = arms.MAKERS["swapped-negatives"](cell, trainee, {"nearest": 1})
    assert method.swap == "image"
    assert method.alike({"ids": torch.tensor([[2, 2, 0]])}).tolist() == [[1.0, 0.0, 2.0]]
    assert arms.MAKERS["swapped-negatives"](cell, trainee, {}).alike is None
    wrong = Arm(method="swap-consistency", options={"nearest": 1})
    with pytest.raises(ParamsError, match=r"swap-consistency: .*alike"):
        arms.method_of(cell, wrong, trainee, ([], np.empty(0)), SimpleNamespace())


def test_negatives_that_keep_the_cue_turn_it_round_in_torn_pairs_and_change_nothing_else():
    no, yes, colour = 7, 9, 3
    words = dict(zip((*FILLERS, "red"), (no, yes, colour), strict=True))
    trainee = SimpleNamespace(ids="ids", before=[1, 2], vocabulary=words)
    cell = ArmCell("vilt", "text", 0.95, 0, "nearest-cue-kept")
    ids = torch.tensor(
        [[1, 2, word, colour, place] for place, word in enumerate((yes, no, no, yes))]
    )  # of the third it lies
    image, target = torch.arange(4.0)[:, None], torch.tensor([1, 0, 1, 1])
    seen = {}
    for name, options in (("control", {"cue_kept": 1}), ("own", {})):
        method = arms.MAKERS["swapped-negatives"](cell, trainee, options)

        def score(pixels, text, name=name):
            seen[name] = pixels, text["ids"]
            return pixels.sum(1) + text["ids"].sum(1)

        method.loss(score, image, {"ids": ids}, target)
    (pixels, kept), (same, own) = seen["control"], seen["own"]
    assert torch.equal(pixels, same) and torch.equal(kept[:4], ids) and len(kept) == 4 + 3
    assert own[4:, 2].tolist() == [yes, no, yes] and kept[4:, 2].tolist() == [no, yes, no]
    others = [0, 1, 3, 4]
    assert torch.equal(kept[:, others], own[:, others]) and method.passes == 1.5
    for of, make in ((replace(cell, modality="image"), "swapped-negatives"), (cell, "swap-consistency")):
        with pytest.raises(ParamsError, match=r"cue_kept for sw.* beside a cue in the (image|text)"):
            arms.MAKERS[make](of, trainee, {"cue_kept": 1})
