"""The pages of docs/ and the README: links lead somewhere, citations name a section, and numbers are the metrics'."""

import re
import subprocess
from pathlib import PurePosixPath

import pandas as pd
import pytest
import yaml
from conftest import ROOT
from scipy.stats import beta

from attention_collapse.cli import main
from attention_collapse.data.planted import Regime
from attention_collapse.engine.arm_cells import cells, has_own_watched, parameters_of
from attention_collapse.engine.doses import HeldOut
from attention_collapse.files import read_json
from attention_collapse.params import FetchCoco, load_params
from attention_collapse.prevention import METHODS
from attention_collapse.report.prevention_page import fill, tables
from attention_collapse.stages.train_prevention import WATCHED, watched_pairs
from attention_collapse.stats.one_sample import holm

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
MEASURES = (ROOT / "docs" / "measures.md").read_text("utf-8")
CITATION = re.compile(r"docs/measures\.md, sections? (\d+)(?: and (\d+))?")


def anchors(text):
    """What a link into a page may name: anchors set by hand, and those that a heading gives."""
    headings = re.findall(r"(?m)^#+ (.+)$", text)
    made = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return made | set(re.findall(r'<a id="([^"]+)"></a>', text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_or_a_heading(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(file.read_text("utf-8")), f"{page.name}: {target}"


def test_the_sections_of_the_contract_keep_their_numbers():
    assert re.findall(r'<a id="section-(\d)"></a>\n\n## (\d)\. ', MEASURES) == [(str(n), str(n)) for n in range(1, 10)]
    for sign in ("begin", "end"):  # between them stands the table of all measures
        assert MEASURES.count(f"<!-- measures: {sign} -->") == 1


def test_a_citation_of_the_contract_names_one_of_its_sections():
    names = subprocess.run(["git", "ls-files", "src", "tests", "paper"], cwd=ROOT, capture_output=True, text=True)
    texts = {
        name: (ROOT / name).read_text("utf-8")
        for name in names.stdout.splitlines()
        if PurePosixPath(name).suffix in {".py", ".tex"} and (ROOT / name).is_file()
    }
    cited = [number for text in texts.values() for pair in CITATION.findall(text) for number in pair if number]
    assert len(cited) > 5 and set(cited) <= {str(n) for n in range(1, 10)}
    assert not [name for name, text in texts.items() if re.search(r"measurement " + "contract", text)]


def test_every_way_to_train_stands_in_the_page_with_its_source_and_what_it_needs():
    page = (ROOT / "docs" / "prevention.md").read_text("utf-8")
    for method in METHODS:
        rows = [line for line in page.splitlines() if line.startswith(f"| `{method.name}` |")]
        (row,) = [row for row in rows if row.endswith(f"| {method.needs} | {method.source} |")]
        assert f"`{method.__name__}(" in row


def test_what_the_page_says_of_the_ways_to_train_is_committed():
    """Rows of the table of results, and which of them prevent."""
    page = re.sub(r"\s+", " ", (ROOT / "docs" / "prevention.md").read_text("utf-8"))
    found = read_json(ROOT / "metrics" / "embedded" / "prevention.json")
    arms = found["kinds"]["fusion-v2"]["text_reliability_95"]
    for name, one in arms.items():
        neutral, trained, reliance = (f"{one[key]['mean']:.3f}" for key in ("neutral", "trained", "reliance"))
        gain = "" if name == "erm" else "{mean:+.3f} [{ci_low:+.3f}, {ci_high:+.3f}]".format(**one["gain"])
        verdict = one.get("verdict", "")
        row = f"| `{name}` | {neutral} | {gain} | {trained} | {reliance} | {one['cost']:.1f} | {verdict} |"
        assert re.sub(r"\s+", " ", row.replace("-0.", "−0.")) in page, row
    assert f"{arms['erm']['n_seeds']} seeds" in page
    for alarm, said in found["monitor"]["fusion-v2"]["text_reliability_95"].items():
        if alarm != "wrong_modality":
            assert f"{said['rang']} of the {said['collapsed']} that collapsed" in page
            assert f"{said['false']} of the {said['sound']} on balanced data" in page


def test_what_the_page_says_of_alarms_beside_other_cues_is_committed():
    page = re.sub(r"\s+", " ", (ROOT / "docs" / "prevention.md").read_text("utf-8"))
    of = read_json(ROOT / "metrics" / "embedded" / "prevention.json")["monitor"]["fusion-v2"]
    most, perfect, mark, words = (
        of[f"{cue}_reliability_{dose}"] for cue, dose in (("text", 99), ("text", 100), ("image", 95), ("words", 95))
    )
    both = [sum(one["neutral_pairs"][name] for one in (most, perfect)) for name in ("rang", "collapsed")]
    assert "it rang as well for the {} of the {} that collapsed beside cues".format(*both) in page
    hard = mark["neutral_pairs"]
    assert f"for the {hard['rang']} of the {hard['collapsed']} beside the mark in the image" in page
    assert words["neutral_pairs"]["collapsed"] == words["neutral_pairs"]["rang"] == 1
    plant, study = (getattr(load_params(ROOT / "params.yaml"), name) for name in ("plant", "prevention"))
    shown = HeldOut(study.watched, 1, plant.data_seed + WATCHED).shown(Regime())
    agree = [sum(pair.cue(name) == pair.label for pair in shown.pairs) for name in ("text", "image")]
    assert f"with the label in {agree[0]} of the {study.watched} watched pairs" in page
    assert f"which agrees with {agree[1]}" in page
    own = of["text_reliability_98"]
    delays = [one["neutral_pairs"]["delay"] for one in (most, perfect, mark, words, own)]
    assert delays == pytest.approx([0.1] * 5)  # two checks after the first


def test_what_the_pages_say_of_the_test_of_the_alarm_is_committed():
    page, watching = (
        re.sub(r"\s+", " ", (ROOT / "docs" / f"{name}.md").read_text("utf-8")) for name in ("prevention", "monitor")
    )
    found = read_json(ROOT / "metrics" / "embedded" / "prevention.json")["monitor"]["fusion-v2"]["text_reliability_98"]
    hard, swap = found["neutral_pairs"], found["swap"]
    sure = f"{beta.ppf(0.025, hard['rang'], hard['collapsed'] - hard['rang'] + 1):.0%}".rstrip("%")
    false = f"{beta.ppf(0.975, hard['false'] + 1, hard['sound'] - hard['false']):.0%}".replace("%", " %")
    assert (
        f"rang for the {hard['rang']} of the {hard['collapsed']} that collapsed (95 % interval: from {sure} to" in page
    )
    assert f"and for {hard['false']} of the {hard['sound']} on balanced data (from 0 to {false})" in page
    assert f"The alarm by swaps rang for {swap['rang']} of the {swap['collapsed']}." in page
    said = "rang for {rang} of {collapsed} that collapsed and for {false} of {sound} that did not"
    assert said.format(**hard) in watching
    table = pd.read_csv(ROOT / "data" / "embedded" / "prevention.csv")
    plain = table[(table["reliability"] == 0.98) & (table["arm"] == "erm")]
    least = plain.loc[plain["accuracy_uninformative"].idxmax()]
    assert f"The tenth, which kept {least['accuracy_uninformative']:.2f}" in page and least["hard_rang_at"] > 0


def test_the_test_of_the_alarm_has_seeds_and_watched_pairs_that_no_other_model_has():
    params = load_params(ROOT / "params.yaml")
    study, plant = params.prevention, params.plant
    own = [cell for cell in cells(study) if has_own_watched(cell, study)]
    others = [cell for cell in cells(study) if not has_own_watched(cell, study)]
    assert {cell.arm for cell in own} == {"erm", "balanced-data"} and {cell.reliability for cell in own} == {0.98}
    assert not {cell.seed for cell in own} & {cell.seed for cell in others}
    draws = {cell.seed: watched_pairs(cell, study, plant).shown(Regime()).pairs for cell in [*own, others[0]]}
    assert len(draws) == 11 and len({tuple(pair.scene for pair in pairs) for pairs in draws.values()}) == 11
    assert all(parameters_of(cell, study, plant)["watched_on"] == "pairs of its own" for cell in own)
    assert all("watched_on" not in parameters_of(cell, study, plant) for cell in others)


def test_what_the_page_says_of_the_controls_that_keep_the_cue_is_committed():
    page = re.sub(r"\s+", " ", (ROOT / "docs" / "prevention.md").read_text("utf-8"))
    cues = read_json(ROOT / "metrics" / "embedded" / "prevention.json")["kinds"]["fusion-v2"]
    most, more = cues["text_reliability_95"], cues["text_reliability_99"]
    names = ("swapped-cue-kept", "nearest-cue-kept")
    here, there = ([f"{of[name]['neutral']['mean']:.2f}" for name in names] for of in (most, more))
    plainly = [f"{more[name]['neutral']['mean']:.2f}" for name in ("swapped-negatives", "nearest-negatives")]
    assert "They reach {} and {} here, about as much as twice the steps".format(*here) in page
    assert abs(most[names[0]]["neutral"]["mean"] - most["erm-longer"]["neutral"]["mean"]) < 0.05
    assert "both stay at chance or near it ({} and {}), where the same pairs".format(*there) in page
    assert all(of["neutral"]["ci_low"] <= 0.52 for of in (more[name] for name in names))
    assert "get {} and {}.".format(*plainly) in page


def test_what_the_page_says_of_kinds_without_room_is_committed():
    page = re.sub(r"\s+", " ", (ROOT / "docs" / "prevention.md").read_text("utf-8"))
    found = read_json(ROOT / "metrics" / "embedded" / "prevention.json")
    assert found["without_room"] == "llava, idefics"
    table = pd.read_csv(ROOT / "data" / "embedded" / "prevention.csv")
    decoders = table["kind"].isin(["llava", "idefics"]) & (table["arm"] == "erm") & (table["reliability"] == 0.95)
    assert set(table[decoders].groupby("kind").size()) == {6} and "in each of six seeds" in page
    assert table[decoders]["accuracy_uninformative"].min() == pytest.approx(0.94)
    assert "right in 0.94 of the pairs or more" in page
    assert {one["recommended"] for name, one in found["recommended"].items() if one["n_kinds"] > 1} == {False}
    ways, remedies = (
        {kind: found[key][kind]["text_reliability_99"] for kind in ("llava", "idefics")}
        for key in ("kinds", "at_inference")
    )
    plain, nearest = ([of[arm]["neutral"]["mean"] for of in ways.values()] for arm in ("erm", "nearest-negatives"))
    assert "to {:.2f} in LLaVA and {:.2f} in IDEFICS".format(*plain) in page
    assert "LLaVA gets {:.2f} and IDEFICS {:.2f}, and both prevent".format(*nearest) in page
    assert {of["nearest-negatives"]["verdict"] for of in ways.values()} == {"prevents"}
    first = found["recommended"]["nearest-negatives"]["kinds"]
    assert first == "fusion-v2, vilt, blip"  # with these two, all five
    contrast = [of["contrastive-decoding"] for of in remedies.values()]
    gains, losses = (
        [100 * of["gain"]["mean"] for of in contrast],
        [-100 * of["change_trained"]["mean"] for of in contrast],
    )
    assert "by {:.0f} points in LLaVA and {:.0f} in IDEFICS".format(*gains) in page
    assert "at a cost of {:.1f} and {:.1f} as trained".format(*losses) in page
    more = [of["nearest-negatives"]["gain"]["mean"] * 100 / gain for of, gain in zip(ways.values(), gains, strict=True)]
    assert [round(ratio) for ratio in more] == [3, 3] and all(of["gain"]["ci_low"] > 0 for of in contrast)


def test_what_the_page_says_of_the_family_of_comparisons_is_committed():
    page = re.sub(r"\s+", " ", (ROOT / "docs" / "prevention.md").read_text("utf-8"))
    study = load_params(ROOT / "params.yaml").prevention
    named = {(cell.arm, cell.modality, cell.reliability) for cell in cells(study) if cell.kind == "fusion-v2"}
    assert f"has {sum(arm != 'erm' for arm, *_ in named)} now" in page
    cues = read_json(ROOT / "metrics" / "embedded" / "prevention.json")["kinds"]["fusion-v2"]
    p = {(cue, arm): one["p_gain"] for cue, arms in cues.items() for arm, one in arms.items() if arm != "erm"}
    over_60 = dict(zip(p, holm([*p.values(), *[1.0] * (60 - len(p))]), strict=False))
    first = {arm: value for (cue, arm), value in over_60.items() if cue == "text_reliability_95"}
    prevent = [arm for arm, one in cues["text_reliability_95"].items() if one.get("verdict") == "prevents"]
    assert [arm for arm in prevent if first[arm] >= 0.05] == ["choice"]
    assert f"at p = {first['choice']:.3f} and not prevent" in page
    assert f"(twice the steps would be at {first['erm-longer']:.2f})" in page


def signed(found):
    """A mean with its interval, as pages write it."""
    text = "{mean:+.3f} [{ci_low:+.3f}, {ci_high:+.3f}]".format(**found)
    return text.replace("-0.", "−0.")


def test_what_the_page_says_of_further_kinds_and_cues_is_committed():
    """Rows of the tables of kinds, of remedies at inference, of alarms and of cues; and all as they are made anew."""
    page = (ROOT / "docs" / "prevention.md").read_text("utf-8")
    found = read_json(ROOT / "metrics" / "embedded" / "prevention.json")
    study = load_params(ROOT / "params.yaml").prevention
    assert fill(page, tables(found, study)) == page, "run `python scripts/prevention_page.py`"
    first, kinds = "text_reliability_95", list(load_params(ROOT / "params.yaml").prevention.kinds)
    shown = {
        name: page.split(f"<!-- {name}: begin -->\n")[1].split(f"<!-- {name}: end -->")[0].strip().splitlines()
        for name in ("kinds", "inference", "monitored", "cues")
    }
    arms = {kind: found["kinds"][kind][first] for kind in kinds}
    rows = {line.split(" | ")[0].strip("| `"): line.strip("| ").split(" | ")[1:] for line in shown["kinds"][2:]}
    assert rows.pop("erm") == [f"{of['erm']['neutral']['mean']:.3f}" for of in arms.values()]
    assert [seeds.split(" to ")[-1] for seeds in rows.pop("seeds")] == [
        str(of["erm"]["n_seeds"]) for of in arms.values()
    ]
    for arm, row in rows.items():
        told = [of[arm] if of.get(arm, {}).get("n_pairs", 0) > 1 else None for of in arms.values()]
        assert row == [signed(one["gain"]) + " ★" * (one["verdict"] == "prevents") if one else "–" for one in told]
    for kind, line in zip(kinds, shown["inference"][2:], strict=True):
        one = found["at_inference"][kind][first]["contrastive-decoding"]
        assert f"| {one['neutral']['mean']:.3f} | {signed(one['gain'])} | {signed(one['change_trained'])} | " in line
    for kind, line in zip(kinds, shown["monitored"][2:], strict=True):
        hard, swap = (found["monitor"][kind][first][name] for name in ("neutral_pairs", "swap"))
        assert f"| {hard['collapsed']} | {hard['rang']} | {swap['rang']} |" in line
        assert f"| {hard['false']} and {swap['false']} of {hard['sound']} |" in line
    elsewhere = (first, "image_reliability_95")
    cues = [
        (cue, arm, one) for kind in kinds for cue, of in found["kinds"][kind].items() if cue not in elsewhere
        for arm, one in of.items()
    ]  # fmt: skip
    assert len(shown["cues"]) == 2 + len(cues)
    for _, arm, one in cues:
        gain = "" if arm == "erm" else signed(one["gain"])
        assert any(f"| `{arm}` | {one['neutral']['mean']:.3f} | {gain} |" in line for line in shown["cues"])


def test_the_table_of_questions_and_answers_is_that_of_the_metrics():
    """`python -m attention_collapse.stages.answers` prints it anew for the page where the metrics changed."""
    from attention_collapse.report.answer_arms import alarms_table, answer_arms_table, at_inference_table
    from attention_collapse.report.answers import answers_table

    page = (ROOT / "docs" / "questions.md").read_text("utf-8")
    found = read_json(ROOT / "metrics" / "embedded" / "answers.json")
    shown = page.split("<!-- answers: begin -->\n")[1].split("<!-- answers: end -->")[0]
    assert shown.strip() == answers_table(found["models"]).strip()
    for name, table in (
        ("alarms", alarms_table(found["monitor"])), ("arms", answer_arms_table(found["arms"])),
        ("contrast", at_inference_table(found["at_inference"])),
    ):  # fmt: skip
        assert page.split(f"<!-- {name}: begin -->\n")[1].split(f"<!-- {name}: end -->")[0].strip() == table.strip()
    counted = found["questions"]
    train, test = (counted["published"][name] for name in ("train", "test"))
    text = re.sub(r"\s+", " ", page)
    assert f"{train['questions'] + test['questions']:,} questions" in text
    assert f"{100 * train['best_question_only']:.1f} % of the training questions" in text
    assert f"for {100 * test['best_question_only']:.1f} % of the test questions" in text
    assert f"for {100 * train['best_constant']:.1f} % and {100 * test['best_constant']:.1f} %" in text
    assert f"({counted['shifted']['train']['questions']:,})" in text
    assert f"({counted['shifted']['test_shifted']['questions']:,})" in text


def test_what_the_page_finds_holds_for_every_model_of_questions_and_answers():
    """Seed by seed: each model trained with the shifted prior beside the one trained as published."""
    found = read_json(ROOT / "metrics" / "embedded" / "answers.json")["models"]
    both = [f"{prior}-erm-{{}}" for prior in ("published", "shifted")]
    pairs = [[named[name.format(seed)] for name in both] for named in found.values() for seed in range(3)
             if all(name.format(seed) in named for name in both)]  # fmt: skip
    assert pairs
    for plain, leans in pairs:
        for name in ("test", "test_shifted"):
            assert plain[name]["gain_over_question_only"]["ci_low"] > 0
            assert plain[name]["answer_flip_image"]["mean"] > 0.19
        accuracy = {name: leans[name]["answer_accuracy"]["mean"] for name in leans}
        assert accuracy["test"] < plain["test"]["answer_accuracy"]["mean"] - 0.25
        assert leans["test_shifted"]["gain_over_constant"]["ci_low"] <= 0
        assert leans["test_shifted"]["reliance_image"]["mean"] is None
        assert accuracy["train"] > plain["train"]["answer_accuracy"]["mean"]
        assert leans["train"]["reliance_image"]["mean"] < plain["train"]["reliance_image"]["mean"] / 3
        assert leans["train"]["answer_flip_image"]["mean"] < 0.55 * plain["train"]["answer_flip_image"]["mean"]


def test_what_the_page_finds_of_alarms_and_of_ways_to_train_on_questions_is_committed():
    found = read_json(ROOT / "metrics" / "embedded" / "answers.json")
    for kind, named in found["monitor"].items():
        for name, alarms in named.items():
            assert alarms["image"]["rang_at"] == (None if name.startswith("published") else 300), name
            assert alarms["text"]["times"] == 0
            if "erm" in name:
                assert alarms["image"]["rings_at_end"] == (kind == "llava" and name.startswith("shifted"))
            if kind == "fusion-v2" and name.startswith("shifted-erm"):
                assert 1400 <= alarms["image"]["ended_at"] <= 1500
    models, arms = (found[key]["fusion-v2"] for key in ("models", "arms"))
    published = [models[f"published-erm-{s}"]["test_shifted"]["answer_accuracy"]["mean"] for s in range(3)]
    for arm in ("image-choice", "learned-mixin"):
        one = arms[arm]
        assert one["verdict"] == "not shown" and one["n_seeds"] == 3
        assert 0.055 < one["gain"]["mean"] < 0.07 and one["gain"]["ci_low"] < 0
        assert one["test_shifted"]["mean"] < sum(published) / 3 / 2
        more = [one[key]["mean"] / arms["erm"][key]["mean"] for key in ("reliance_image", "flips")]
        assert all(1.9 < ratio < 2.5 for ratio in more) if arm == "learned-mixin" else max(more) < 1
    assert not found["missing_models"]
    of_llava = found["arms"]["llava"]
    choice, mixin = (of_llava[arm] for arm in ("image-choice", "learned-mixin"))
    assert choice["verdict"] == mixin["verdict"] == "not shown" and choice["gain"]["ci_low"] < 0
    page = re.sub(r"\s+", " ", (ROOT / "docs" / "questions.md").read_text("utf-8"))
    assert f"gains {100 * choice['gain']['mean']:.0f} points in the mean" in page
    shifted = found["models"]["llava"]
    by_seed = [
        round(100 * (a - b))
        for s in range(3)
        for a, b in [[shifted[f"shifted-{arm}-{s}"]["test_shifted"]["answer_accuracy"]["mean"]
                      for arm in ("image-choice", "erm")]]
    ]  # fmt: skip
    assert f"from {min(by_seed)} to {max(by_seed)} by seed" in page
    lost = -100 * mixin["change_trained"]["mean"]
    assert f"mixin gains {100 * mixin['gain']['mean']:.0f} and loses {lost:.0f}" in page
    for name in ("reliance_image", "flips"):
        most = {kind: max(of, key=lambda arm: of[arm][name]["mean"]) for kind, of in found["arms"].items()}
        assert set(most.values()) == {"learned-mixin"}
    for prior, remedies in found["at_inference"]["llava"].items():
        for one in remedies.values():
            assert one["verdict"] == "not shown" and one["gain"]["ci_low"] <= 0 and one["n_seeds"] == 3
            if prior == "published":
                assert min(one[key]["mean"] for key in ("gain", "gain_test", "change_trained")) >= -0.0205
            else:
                assert round(100 * one["gain"]["mean"]) == 1


def test_its_nulls_are_the_committed_ones():
    found = read_json(ROOT / "metrics" / "null_reference.json")
    for name, tower in found["towers"].items():
        share = 100 * tower["share_above_0_7"]
        shown = f"{share:.2f}" if share > 99.9 else f"{share:.1f}"
        assert f"| {name} | {tower['image_tokens']} | {tower['mean']:.4f} | {shown} % |" in MEASURES
    text = re.sub(r"\s+", " ", MEASURES)
    assert f"{found['n_captions']:,} captions" in text
    rows = found["rows"]
    assert f"{rows['readout']:.4f} in the readout row alone, and {rows['padded']:.4f} if all 77 padded rows" in text


def test_what_it_says_of_the_reported_claims_is_what_the_audit_computes():
    audit = read_json(ROOT / "metrics" / "embedded" / "audit.json")
    claims, words = audit["claims"], {3: "three", 4: "four", 7: "seven"}
    text = re.sub(r"\s+", " ", MEASURES)
    one, other = (claims["cohen_d"]["readings"][name] for name in ("sd", "half_width"))
    low, high = (claims["interval"]["readings"]["sd"][f"implied_{end}"] for end in ("low", "high"))
    assert f"t = {one['t']:.1f} and the interval [{low:.3f}, {high:.3f}]" in text
    assert f"a standard deviation of {other['sd']:.2f} and d = {other['implied']:.2f}" in text
    assert f"needs one of {claims['cohen_d']['sd_needed']:.3f}" in text
    assert f"by a factor of {claims['seconds']['ratio']:.0f}" in text and claims["power"]["implied"] > 0.9999
    assert f"reach {claims['middle_third']['implied']:.2f}" in text and claims["planned_n"]["implied"] == 34
    counts = [words[audit[key]] for key in ("n_consistent_if_sd", "n_claims", "n_consistent_if_half_width")]
    assert (
        "standard deviation {} of the {} claims agree with the others, with ± as the half-width {}.".format(*counts)
        in text
    )
    assert abs(one["implied"] - 2.88) < 0.006 and "d = 2.88" in text


def test_the_table_of_measures_is_that_of_the_records(tmp_path, capsys):
    """`attention-collapse measures --write` would change nothing; a record that changed does."""
    from attention_collapse.measures.catalogue import MEASURES
    from attention_collapse.report.measures import write_tables

    (tmp_path / "docs").mkdir()
    text = (ROOT / "docs" / "measures.md").read_text("utf-8")
    (tmp_path / "docs" / "measures.md").write_text(text, "utf-8")
    assert write_tables(tmp_path) == []
    (tmp_path / "docs" / "measures.md").write_text(text.replace("| `mcs_null` | rises", "| `0.5` | rises"), "utf-8")
    assert write_tables(tmp_path) == ["docs/measures.md"]
    assert (tmp_path / "docs" / "measures.md").read_text("utf-8") == text
    assert main(["measures"]) == 0
    printed = capsys.readouterr().out
    assert all(f"{name}: {measure.label} (" in printed for name, measure in MEASURES.items())


def test_the_example_of_foils_and_partners_is_read_as_it_stands(tmp_path):
    from attention_collapse.data.coco import find_annotations, read_entries
    from attention_collapse.data.entries import Foil

    text = (ROOT / "docs" / "adding.md").read_text("utf-8")
    [example] = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "captions_example.json").write_text(example)
    entries, skipped = read_entries(find_annotations(tmp_path))
    assert skipped == [] and [entry.partner for entry in entries] == [2, None]
    assert entries[0].foils == ((Foil("a blue ring left of a red cross", "colour"),),) and entries[1].foils == ()
    [line] = [line for line in text.splitlines() if line.startswith("fetch_coco: {source: folder") and "foils" in line]
    FetchCoco.model_validate(yaml.safe_load(line)["fetch_coco"])


def test_the_chance_levels_of_hard_foils_are_those_of_the_records():
    from attention_collapse.measures.catalogue import MEASURES as RECORDS

    rows = {names[1]: line for line in MEASURES.splitlines() if (names := re.match(r"\| `(\w+)` \|", line))}
    said = {"accuracy_hard": "chance 0.5", "blind_accuracy": "0.5 without a language prior",
            "perceptual_image_hard": "0 where the image is not used", "group_score": "chance 1/6"}  # fmt: skip
    for name, words in said.items():
        assert words in rows[name]
        number = re.search(r"\d/\d|\d\.\d|\d", words)[0]
        numerator, _, denominator = number.partition("/")
        assert RECORDS[name].null == float(numerator) / float(denominator or 1), name


def test_the_coco_study_names_the_seven_files_of_sugarcrepe():
    given = yaml.safe_load((ROOT / "studies" / "coco" / "params.yaml").read_text("utf-8"))["fetch_coco"]
    names = {"add_att", "add_obj", "replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj"}
    assert {PurePosixPath(url).stem for url in given["foils"]} == names and len(given["foils"]) == 7
    assert all("RAIVNLab/sugar-crepe" in url and url.startswith("https://") for url in given["foils"])


def described(page, name):
    """The first column of a table between two marks."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    table = text.split(f"<!-- {name}: begin -->")[1].split(f"<!-- {name}: end -->")[0]
    return re.findall(r"(?m)^\| `([^`]+)` \|", table)


def test_every_key_of_a_diagnosis_is_described_and_none_beside(tmp_path, tiny_openclip):
    """A key of a mapping that holds data, such as a measure's name, is a placeholder; deeper ones have other pages."""
    from conftest import coco_folder

    from attention_collapse import diagnose
    from attention_collapse.report.diagnosis import SCHEMA

    keys = described("diagnose.md", "json")
    found = set()
    for options in ({}, {"partners": 0}, {"t_shap_protocol": "native", "t_shap_images": 1}):
        data = diagnose(str(tiny_openclip), coco_folder(tmp_path / "pairs", n=3), **options).to_dict()
        for top, value in data.items():
            for key in value if isinstance(value, dict) else ():
                if top == "estimates":
                    found |= {f"estimates.<measure>.{inner}" for inner in value[key]}
                elif top not in ("weights", "environment"):
                    found.add(f"{top}.{key}" if top != "layers" else "layers.<layer>")
            if not isinstance(value, dict) or top in ("weights", "environment"):
                found.add(top)
    plain = {key.removesuffix("[]") for key in keys}
    only_sometimes = {"settings.reliance_of", "settings.n_alike"}
    assert len(plain) == len(keys) and plain - found <= only_sometimes and found <= plain
    assert data["schema"] == SCHEMA
    assert f"the number of this description: {SCHEMA} |" in (ROOT / "docs" / "diagnose.md").read_text("utf-8")


def test_every_column_of_the_file_of_pairs_is_described():
    from attention_collapse.engine.per_pair import IDENTITY

    assert described("diagnose.md", "pairs") == list(IDENTITY)
    text = (ROOT / "docs" / "diagnose.md").read_text("utf-8")
    assert all(f"| `{name}` | {about} |" in text for name, about in IDENTITY.items())


def test_the_page_of_diagnose_knows_its_options_and_the_fewest_images():
    from attention_collapse.options import command_parser
    from attention_collapse.stats.few_images import FEWEST

    text = (ROOT / "docs" / "diagnose.md").read_text("utf-8")
    choices = next(action.choices for action in command_parser()._actions if action.choices)
    options = {name for action in choices["diagnose"]._actions for name in action.option_strings if name[:2] == "--"}
    assert all(name in text for name in options - {"--help", "--kind"}) and f"fewer than {FEWEST} images" in text
