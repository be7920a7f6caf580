"""The numbers of the README and of the findings' page are the metrics', and what they name is there."""

import re

from conftest import ROOT

from attention_collapse.engine.validity import SIDES, contrasts, is_as_claimed
from attention_collapse.files import read_json
from attention_collapse.measures.catalogue import MEASURES
from attention_collapse.report.diagnosis import Diagnosis
from attention_collapse.report.estimate import Estimate

OWN = (ROOT / "README.md").read_text()
README = OWN + (ROOT / "docs" / "findings.md").read_text()  # the page that it leads to


def reliances(name):
    """What the table says of a model's reliance on the image and on the text."""
    causal = read_json(ROOT / "metrics" / "embedded" / "contribution" / f"{name}.json")
    both = [causal[f"reliance_{side}"] for side in ("image", "text")]
    if None in [found["mean"] for found in both]:
        assert all("does not tell matching pairs from others" in found["reason"] for found in both)
        return "– (at chance)"
    return ", ".join(f"{found['mean']:.2f}" for found in both)


def test_the_results_it_promises_are_the_committed_ones():
    models = read_json(ROOT / "metrics" / "embedded" / "stats.json")["models"]
    for name in ("openclip-scenes", "openclip-vit-b-32-untrained"):
        mcs, null, calibrated = (models[name][key] for key in ("mcs", "mcs_null", "mcs_calibrated"))
        row = next(line for line in README.splitlines() if line.startswith(f"| `{name}`"))
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[1] == f"{mcs['mean']:.3f} [{mcs['ci_low']:.3f}, {mcs['ci_high']:.3f}]"
        assert cells[2:5] == [f"{null['mean']:.3f}", f"{calibrated['mean']:.3f}", models[name]["reading_original"]]
        assert cells[5] == reliances(name)
    fresh = [result for name, result in models.items() if name.startswith("openclip-scenes-untrained")]
    assert all(result["reading_original"] == "vision collapse" for result in fresh)
    row = next(line for line in README.splitlines() if line.startswith("| the same before training"))
    names = [name for name in models if name.startswith("openclip-scenes-untrained")]
    assert {reliances(name) for name in names} == {"– (at chance)"} and row.endswith("| – (at chance) |")
    for key in ("mcs", "mcs_calibrated"):
        means = [f"{result[key]['mean']:.3f}" for result in fresh]
        assert f"{min(means)}–{max(means)}" in row
    readout = read_json(ROOT / "metrics" / "embedded" / "mcs" / "openclip-scenes.json")["by_rows"]["readout"]
    text = re.sub(r"\s+", " ", README)
    assert f"scores {readout['mcs']:.3f} (null {readout['mcs_null']:.3f})" in text and 0.3 < readout["mcs"] < 0.7
    control = read_json(ROOT / "metrics" / "controls" / "openclip-scenes.json")
    text = re.sub(r"\s+", " ", README)
    assert (
        f"one of {control['candidates']} held-out scenes for {100 * control['image_to_text_r1']:.1f} % of images"
        in text
    )
    assert f"{100 * control['text_to_image_r1']:.1f} % of captions (chance: {100 * control['chance']:.1f} %)" in text


def test_the_causal_figures_are_the_committed_ones():
    causal = read_json(ROOT / "metrics" / "embedded" / "contribution" / "openclip-scenes.json")
    share, right, hard, blind = (
        f"{causal[key]['mean']:.3f}" for key in ("shapley_share", "accuracy", "accuracy_hard", "blind_accuracy")
    )
    readme = re.sub(r"\s+", " ", README)
    assert f"prefers the right one in {100 * causal['choice_image']['mean']:.0f} % of trials" in readme
    assert f"its accuracy is {hard}, and {blind} with another pair's image: it uses both" in readme
    assert causal["perceptual_image_hard"]["ci_low"] > 0 and causal["choice_text"]["mean"] > 0.95
    assert f"Shapley share, {share}, is about one half" in readme and abs(float(share) - 0.5) < 0.05
    assert f"the accuracy of {right} against random foils" in readme


def test_what_was_found_is_committed():
    """The three sentences at its top."""
    found = read_json(ROOT / "metrics" / "embedded" / "validity.json")
    readme = re.sub(r"\s+", " ", README)
    sides = ("image_ignored", "text_ignored")
    hits = {
        (kind, side): 100 * result["measures"]["mcs_all"][side]["hits_published"]
        for kind, result in found["kinds"].items()
        for side in sides
    }
    v2 = hits.pop(("fusion-v2", "text_ignored"))
    assert f"they flag {min(hits.values()):.0f}–{max(hits.values()):.0f} % of the images ({v2:.0f} % where" in readme
    mcs, swapped, shapley = (found["over_all_kinds"][name] for name in ("mcs", "reliance_share", "shapley_share"))
    assert f"and {mcs['flagged']} of {mcs['n_ignoring']} such models" in readme
    assert (
        f"finds {swapped['flagged']} of the {swapped['n_ignoring']} by reliance, and {shapley['flagged']} by" in readme
    )
    assert swapped["false_alarms"] == shapley["false_alarms"] == 0
    t_shap = {kind: result["measures"]["image_t_shap"] for kind, result in found["kinds"].items()}
    assert t_shap["llava"]["text_ignored"]["n_reverse"] == t_shap["llava"]["text_ignored"]["n_models"]


def test_what_it_says_of_collapse_and_prevention_is_committed():
    readme = re.sub(r"\s+", " ", README)
    doses = read_json(ROOT / "metrics" / "embedded" / "doses.json")["kinds"]["fusion-v2"]["text"]
    none, most = (doses["doses"][f"reliability_{dose}"] for dose in (50, 99))
    neutral = "accuracy_uninformative"
    assert f"{100 * most[neutral]['mean']:.0f} % of pairs right where the cue says nothing" in readme
    assert f"({100 * none[neutral]['mean']:.0f} % without a cue)" in readme
    assert f"MCS does not notice: {none['mcs_all']['mean']:.2f} and {most['mcs_all']['mean']:.2f}" in readme
    assert doses["measures"]["mcs_all"]["verdict"] == "undetermined"
    kinds = read_json(ROOT / "metrics" / "embedded" / "prevention.json")["kinds"]
    arms, *further = (kinds[kind]["text_reliability_95"] for kind in ("fusion-v2", "vilt", "blip"))
    vilt, blip = (100 * of["swapped-negatives"]["neutral"]["mean"] for of in further)
    plain, swapped, cure = (
        100 * arms[name]["neutral"]["mean"] for name in ("erm", "swapped-negatives", "swap-consistency")
    )
    nearest = 100 * arms["nearest-negatives"]["neutral"]["mean"]
    most = kinds["fusion-v2"]["text_reliability_99"]
    random, near = (100 * most[name]["neutral"]["mean"] for name in ("swapped-negatives", "nearest-negatives"))
    assert f"lift that to {random:.0f} %, and to {near:.0f} % with the image of the nearest text" in readme
    assert f"of 95 % from {plain:.0f} % to {swapped:.0f} % and {nearest:.0f} %" in readme
    for kind, label in (("llava", "LLaVA"), ("idefics", "IDEFICS")):
        of = kinds[kind]["text_reliability_99"]
        before, after = (100 * of[name]["neutral"]["mean"] for name in ("erm", "nearest-negatives"))
        assert f"{label}: {before:.0f} % to {after:.0f} %" in readme
        assert of["nearest-negatives"]["verdict"] == "prevents"
    nearer = [100 * of["nearest-negatives"]["neutral"]["mean"] for of in further]
    assert f"(ViLT: {vilt:.0f} %, {nearer[0]:.0f} %; BLIP: {blip:.0f} %, {nearer[1]:.0f} %)" in readme
    assert {of[f"{which}-negatives"]["verdict"] for of in further for which in ("swapped", "nearest")} == {"prevents"}
    assert {of[name]["verdict"] for of in (most, arms) for name in ("swapped-negatives", "nearest-negatives")} == {
        "prevents"
    }
    assert arms["swapped-negatives"]["verdict"] == "prevents" and arms["swap-consistency"]["verdict"] == "not shown"
    assert f"({cure:.0f} %)" in readme


def test_what_it_says_of_answers_is_committed():
    models = read_json(ROOT / "metrics" / "embedded" / "answers.json")["models"]
    known = [(name, found) for of_kind in models.values() for name, found in of_kind.items() if "-erm-" in name]
    readme = re.sub(r"\s+", " ", README)

    def span(start, measured, measure, scale, digits):
        values = [scale * found[measured][measure]["mean"] for name, found in known if name.startswith(start)]
        assert len(values) == 6 and len(known) == 12
        return f"{min(values):.{digits}f}–{max(values):.{digits}f}"

    right = [span(start, "test_shifted", "answer_accuracy", 100, 0) for start in ("published", "shifted")]
    assert f"the first get {right[0]} % of questions right and the second {right[1]} %" in readme
    reliances = [span(start, "train", "reliance_image", 1, 2) for start in ("published", "shifted")]
    assert f"on their own training questions: {reliances[0]} against {reliances[1]}" in readme


def test_what_it_says_of_the_planted_models_is_committed():
    kinds = read_json(ROOT / "metrics" / "embedded" / "validity.json")
    measures = {kind: found["measures"] for kind, found in kinds["kinds"].items()}
    blip, v2, llava = (measures[kind] for kind in ("blip", "fusion-v2", "llava"))
    readme = re.sub(r"\s+", " ", README)
    assert set(kinds["as_claimed_for_every_kind"].split(", ")) == {
        "reliance_image", "reliance_text", "reliance_share", "choice_image", "choice_text", "shapley_share",
        "shapley_share_mean_image", "perceptual_score_image", "perceptual_score_text", "emap_gap",
    }  # fmt: skip
    sides = [side for found in measures.values() for result in found.values() for side in contrasts(result)]
    assert {side["verdict"] for side in sides} == {"undetermined"} and kinds["separates_for_every_kind"] == "none"
    low, here, needed = (kinds[key] for key in ("perfect_ci_low", "seeds_a_side", "seeds_needed"))
    assert f"with {here} seeds per side the interval of an AUROC of 1.00 is [{low:.2f}, 1]" in readme
    assert f"a verdict takes {needed} seeds or more" in readme

    def as_claimed(measure, side):
        return {kind for kind, found in measures.items() if is_as_claimed(found[measure][side])}

    def reverse(measure, side):
        found = {kind: results[measure][side] for kind, results in measures.items()}
        return {kind for kind, side in found.items() if side["n_reverse"] == side["n_models"]}

    image, text = SIDES
    assert as_claimed("mcs_all", image) & as_claimed("mcs_all", text) == {"blip", "vilt"}
    assert as_claimed("mcs_all", image) & reverse("mcs_all", text) == {"idefics", "llava"}
    assert f"Where V2 ignores the image its AUROC is {v2['mcs_all'][image]['auroc']:.2f}" in readme
    assert reverse("cross_modal_entropy_all", image) == {"blip", "llava", "vilt"}
    assert as_claimed("cross_modal_entropy_all", image) == set()
    assert as_claimed("cross_modal_entropy_all", text) == {"blip", "fusion-v2"}
    assert (
        f"the text the more used modality in all {llava['image_t_shap'][text]['n_reverse']} LLaVA models that ignore it"
        in readme
    )
    assert llava["image_t_shap"][text]["n_reverse"] == llava["image_t_shap"][text]["n_models"]
    mcs = blip["mcs_all"]
    assert f"from {mcs['mean_balanced']:.3f} to {mcs['image_ignored']['mean']:.3f}" in readme
    ignored = [llava["mcs_all"][name]["mean"] for name in ("image_ignored", "text_ignored")]
    balanced = llava["mcs_all"]["mean_balanced"]
    assert (
        f"LLaVA's from {balanced:.3f} to {ignored[0]:.3f} without the image and to {ignored[1]:.3f} without the"
        in readme
    )
    idefics = measures["idefics"]["mcs_all"]
    assert min(idefics[name]["mean"] for name in ("image_ignored", "text_ignored")) > idefics["mean_balanced"]
    hits = [100 * mcs[name]["hits_published"] for name in ("image_ignored", "text_ignored")]
    assert f"flags {hits[0]:.0f} % of the images of BLIP models" in readme
    assert f"and {hits[1]:.0f} % of those that ignore the text" in readme
    false = 100 * v2["cross_modal_entropy_all"]["false_alarms_published"]
    assert f"below 2.0 nats flags {false:.0f} % of the images of *balanced* V2 models" in readme
    excluded = [kind for kind, found in kinds["kinds"].items() for _ in found["excluded"]]
    models = sum(len(read_json(ROOT / "metrics/embedded/planted" / f"{kind}.json")["models"]) for kind in measures)
    assert not excluded and f"all {models} learned" in readme and f"and {models} models with planted answers" in readme


def test_what_it_says_of_t_shap_is_committed():
    own = read_json(ROOT / "metrics" / "embedded" / "contribution" / "openclip-scenes.json")
    share, floor = (own[name]["mean"] for name in ("t_shap", "t_shap_floor"))
    readme = re.sub(r"\s+", " ", README)
    assert f"trained OpenCLIP model {share:.3f} for the text, and shuffled scores {floor:.3f}" in readme


def test_its_null_figures_are_the_committed_ones():
    towers = read_json(ROOT / "metrics" / "null_reference.json")["towers"]
    means = sorted(tower["mean"] for tower in towers.values())
    assert f"already {means[0]:.2f} for a ViT-B/32 and {means[1]:.2f}–{means[-1]:.2f} for finer patches" in re.sub(
        r"\s+", " ", README
    )


def test_its_python_example_asks_for_measures_and_attributes_that_there_are():
    (example,) = re.findall(r"```python\n(from attention_collapse import diagnose\n.*?)```", README, re.DOTALL)
    asked = re.findall(r'result\["(\w+)"\]\.(\w+)', example)
    assert len(asked) >= 3
    for measure, attribute in asked:
        assert measure in MEASURES and attribute in {*Estimate.__dataclass_fields__, "interval"}
    assert all(hasattr(Diagnosis, name) for name in re.findall(r"result\.(\w+)\(", example))


def test_the_tree_of_contributing_shows_the_rooms_that_there_are():
    tree = (ROOT / "CONTRIBUTING.md").read_text()
    rooms = {path.parent.name for path in (ROOT / "src" / "attention_collapse").glob("*/__init__.py")}
    assert sorted(re.findall(r"^  (\w+)/ ", tree, re.MULTILINE)) == sorted(rooms)


def test_it_can_be_read_at_one_sitting():
    assert len(OWN.splitlines()) <= 120
