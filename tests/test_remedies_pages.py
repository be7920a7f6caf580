"""What the pages say of remedies at inference, and of V2 that gave its image up, is what is committed."""

import re

import numpy as np
import pandas as pd
from conftest import ROOT

from attention_collapse.files import read_json


def signed(found):
    """A difference with its interval, as the pages write it."""
    return "{mean:+.3f} [{ci_low:+.3f}, {ci_high:+.3f}]".format(**found).replace("-0.", "−0.")


def test_what_the_page_says_of_remedies_at_inference_is_committed():
    """Rows of both tables, and what is said below them."""
    page = (ROOT / "docs" / "prevention.md").read_text("utf-8")
    text = re.sub(r"\s+", " ", page)
    metrics = read_json(ROOT / "metrics" / "embedded" / "prevention.json")
    found = metrics["at_inference"]["fusion-v2"]["text_reliability_95"]
    for name, one in found.items():
        neutral, trained = (f"{one[key]['mean']:.3f}" for key in ("neutral", "trained"))
        shown = [name, neutral, signed(one["gain"]), trained, signed(one["change_trained"]), f"{one['passes']:.0f}"]
        row = "| `{}` | {} | {} | {} | {} | {} |".format(*shown) + f" {one.get('verdict', '')} |"
        assert re.sub(r"\s+", " ", row) in text, row
    paper, uncut = found["contrastive-decoding"], found["contrastive-decoding-uncut"]
    assert f"loses {-100 * paper['change_trained']['mean']:.1f} points as trained, more than the rule allows" in text
    assert -paper["change_trained"]["mean"] > metrics["rule"]["loss"] and paper["gain"]["ci_low"] > 0
    assert f"and the loss is {-100 * uncut['change_trained']['mean']:.0f} points" in text
    assert uncut["gain"]["ci_low"] < 0 < uncut["gain"]["ci_high"]
    swapped = metrics["kinds"]["fusion-v2"]["text_reliability_95"]["swapped-negatives"]
    assert round(swapped["gain"]["mean"] / paper["gain"]["mean"]) == 4 and swapped["change_trained"]["ci_low"] > 0
    table = ways_of_v2()
    plain = table[table["arm"] == "erm"]
    without = plain[plain["reliance_image_trained"] < 0.1]
    gained = plain["contrastive-decoding_uninformative"] - plain["accuracy_uninformative"]
    assert len(without) == 2 and (gained[without.index].abs() < 0.01).all()
    assert set(plain.index[gained.abs() < 0.01]) - set(without.index) == set(plain.index[plain["seed"] == 6])


def test_what_the_page_says_of_the_contrast_at_every_dose_is_committed():
    page = (ROOT / "docs" / "prevention.md").read_text("utf-8")
    cues = read_json(ROOT / "metrics" / "embedded" / "doses.json")["kinds"]["fusion-v2"]
    shown = {}
    for modality, of_cue in cues.items():
        for dose, one in of_cue["doses"].items():
            percent = dose.removeprefix("reliability_")
            cue = "none | –" if percent == "50" else f"in the {modality} | {percent} %"
            before, after = (
                f"{one[key]['mean']:.3f}" for key in ("accuracy_uninformative", "contrasted_uninformative")
            )
            gain, change = one["contrasted_gain_uninformative"], one["contrasted_gain_trained"]
            assert f"| {cue} | {before} | {after} | {signed(gain)} | {signed(change)} |" in page
            shown[modality, percent] = gain
    assert f"never had a cue loses {-100 * shown['text', '50']['mean']:.1f} points by it" in page
    most = max(shown, key=lambda key: shown[key]["mean"])
    assert most == ("text", "95") and f"gains most, {100 * shown[most]['mean']:.0f} points" in page
    assert all(shown[modality, "99"]["ci_low"] <= 0 for modality in ("text", "image"))


def ways_of_v2():
    """The rows of the models of V2 that were trained beside the first cue, in each way."""
    table = pd.read_csv(ROOT / "data" / "embedded" / "prevention.csv")
    return table[(table["kind"] == "fusion-v2") & (table["modality"] == "text") & (table["reliability"] == 0.95)]


def doses_of_v2():
    """The rows of the models of V2 that were trained dose by dose."""
    table = pd.read_csv(ROOT / "data" / "embedded" / "doses.csv")
    return table[table["kind"] == "fusion-v2"]


def case_rows(mark):
    """The rows of a table between two marks of the page of V2, without its heading."""
    text = (ROOT / "docs" / "case_v2.md").read_text("utf-8")
    shown = text.split(f"<!-- {mark}: begin -->")[1].split(f"<!-- {mark}: end -->")[0]
    return [line for line in shown.splitlines() if re.match(r"\| \d", line)]


def test_the_tables_of_v2_are_those_of_its_models():
    doses = doses_of_v2()
    collapsed = doses[(doses["modality"] == "text") & (doses["reliability"] == 0.99)].sort_values("seed")
    assert case_rows("case") == [
        f"| {one.seed} | {one.accuracy_trained:.3f} | {one.accuracy_uninformative:.3f} | "
        f"{100 * one.perceptual_image_trained:.1f} | {one.reliance_image_trained:.3f} | {one.mcs_all:.3f} |"
        for one in collapsed.itertuples()
    ]
    table = ways_of_v2()
    plain = table[table["arm"] == "erm"].sort_values("seed")

    def step(value):
        return "–" if np.isnan(value) else f"{value:.0f}"

    assert case_rows("watched") == [
        f"| {one.seed} | {step(one.collapsed_at)} | {step(one.hard_rang_at)} | {step(one.image_rang_at)} | "
        f"{one.accuracy_uninformative:.3f} | {one.accuracy_trained:.3f} |"
        for one in plain.itertuples()
    ]


def test_what_the_page_of_v2_says_of_its_collapse_is_committed():
    text = re.sub(r"\s+", " ", (ROOT / "docs" / "case_v2.md").read_text("utf-8"))
    cue = read_json(ROOT / "metrics" / "embedded" / "doses.json")["kinds"]["fusion-v2"]["text"]
    none, high, most = (cue["doses"][f"reliability_{dose}"] for dose in (50, 95, 99))
    table = doses_of_v2()
    of_text = table[table["modality"] == "text"]
    near = of_text[of_text["perceptual_image_trained"].abs() <= 0.005].groupby("reliability").size()
    assert f"In {near[0.99]} of the ten the image contributes" in text and f"{near[0.95]} of 10 models lies" in text
    assert f"gets {none['accuracy_trained']['mean']:.3f} of the pairs right" in text
    assert f"right in {most['accuracy_uninformative']['mean']:.3f} of the pairs" in text
    assert most["accuracy_uninformative"]["highest"] <= 0.5
    assert f"while {high['accuracy_uninformative']['mean']:.3f} of the pairs are right where" in text
    for one, said in ((most, "contributes"), (high, "the mean is")):
        mean, low, by = (100 * one["perceptual_image_trained"][end] for end in ("mean", "ci_low", "ci_high"))
        assert f"{said} {mean:.1f} points [{low:.1f}, {by:.1f}]".replace("[-", "[−") in text
    for name in ("reliance_image_trained", "perceptual_image_trained", "flip_image_trained", "mcs_all"):
        one = cue["measures"][name]
        row = f"| `{name}` | {one['mean_collapsed']:.3f} | {one['mean_balanced']:.3f} | {one['verdict']} |"
        assert row in text, row
    assert f"of {one['n_collapsed']} collapsed models" in text and f"against {one['n_balanced']} that never" in text


def test_what_the_page_of_v2_says_of_alarms_and_remedies_is_committed():
    text = re.sub(r"\s+", " ", (ROOT / "docs" / "case_v2.md").read_text("utf-8"))
    table = ways_of_v2()
    of = dict(list(table.groupby("arm")))
    plain = of["erm"]
    assert f"All {len(plain)} have collapsed by step {plain['collapsed_at'].max():.0f} of 400" in text
    rang = plain["hard_rang_at"].dropna()
    assert set(rang) == {80, 100} and len(rang) == len(plain) and "at step 80 or 100 for all of them" in text
    assert set((rang - plain["collapsed_at"]) / 20) == {1, 2, 3}
    swaps = plain["image_rang_at"].notna()
    assert (plain["reliance_image_trained"] < 0.1).equals(swaps) and f"rang for the {swaps.sum()} that kept" in text
    cured = of["swapped-negatives"]["collapsed_at"]
    assert f"all {len(cured)} models trained with swapped negatives" in text and cured.notna().all()
    assert f"first at step {cured.median():.0f}" in text and of["balanced-data"]["collapsed_at"].isna().all()
    metrics = read_json(ROOT / "metrics" / "embedded" / "prevention.json")
    arms = metrics["kinds"]["fusion-v2"]["text_reliability_95"]
    remedies = metrics["at_inference"]["fusion-v2"]["text_reliability_95"]
    for name in re.findall(r"\| `([a-z-]+)` \| [\d.]+ \| [+−]", text):
        one = (arms | remedies)[name]
        row = f"| `{name}` | {one['neutral']['mean']:.3f} | {signed(one['gain'])} | {one['trained']['mean']:.3f} |"
        assert f"{row} {one['verdict']} |" in text, row
    plainly = arms["erm"]
    assert f"Plain training gets {plainly['neutral']['mean']:.3f} of the pairs right" in text
    assert f"and {plainly['trained']['mean']:.3f} as trained" in text
