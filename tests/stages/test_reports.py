"""The stage reports on metrics written by hand: what is printed, that it is cited, and what is in the way."""

import re

import pytest

from attention_collapse.files import read_json, write_json
from attention_collapse.params import Params
from attention_collapse.report.evidence_check import Check
from attention_collapse.stages import reports
from attention_collapse.study.layout import VALIDITY, Study

REASON = "no query of a dual encoder sees both groups"
SUMMARY = {"mean": 0.7346, "sd": 0.01, "ci_low": 0.7312, "ci_high": 0.7389, "n": 40, "n_undefined": 0}
UNDEFINED = dict.fromkeys(("mean", "sd", "ci_low", "ci_high")) | {"n": 0, "n_undefined": 40, "reason": REASON}
TEST = {
    "t": 5.5, "p": 1e-9, "log10_p": -9.0, "p_holm": 0.0214, "p_balanced_holm": 0.913,
    "cohen_d": -1.375, "cohen_d_ci_low": -1.6,
    "cohen_d_ci_high": -1.1, "hedges_g": -1.3, "hedges_g_ci_low": -1.5, "hedges_g_ci_high": -1.05, "wilcoxon_p": 0.002,
    "permutation_p": 0.003,
}  # fmt: skip
POWER = {
    "power": 0.913,
    "power_alpha": 0.025,
    "margin": 0.05,
    "n_needed": 29,
    "n_to_settle": 77,
    "n_still_needed": 0,
    "share_severe": 0.375,
}
NO_TEST = dict.fromkeys((*TEST, *POWER))
NAMES = (
    "mcs", "mcs_null", "mcs_calibrated", "imbalance", "entropy_vision", "entropy_text", "cross_modal_entropy",
    "mass_share", "shapley_share", "accuracy", "t_shap", "t_shap_floor",
)  # fmt: skip
TESTS = ("mcs_vs_0_5", "mcs_vs_0_7", "imbalance_vs_0_8", "mcs_vs_null", "mcs_calibrated_vs_0_5")
SPECS = {
    "trained": {"kind": "openclip", "weights": "checkpoint", "path": "x"},
    "fresh": {"kind": "openclip", "weights": "untrained", "architecture": "x", "seed": 0, "control_for": "trained"},
    "gone": {"kind": "clip", "weights": "hub", "repo": "a/b"},
    "half": {"kind": "clip", "weights": "hub", "repo": "a/c"},
}
GATES = {name: {"required": 3, "found": 1, "met": False} for name in ("models_tested", "models_severe")} | {
    "p": {"required": 0.05, "found": None, "met": False},
    "confirmed": {"required": 2, "found": 0, "met": False},
    "imbalance": {"required": 0.8, "found": 0.7346, "met": True},
}  # fmt: skip
READINGS = {"decision": "NEED_MORE_DATA", "severe_two_of_three": "NEED_MORE_DATA", "severe_all": "NO_GO"}


def statistics_of(control):
    result = dict.fromkeys(NAMES, SUMMARY) | {"mass_share": UNDEFINED}
    severity = {"mass_share": UNDEFINED | NO_TEST, "mcs": SUMMARY | TEST | POWER}
    if control:
        severity["mcs"] = {key: value for key, value in severity["mcs"].items() if key != "p_holm"}
    shapiro = {"shapiro_w": 0.98, "shapiro_p": 0.4, "skew": 0.1, "kurtosis": 0.2, "outliers_iqr": 1, "outliers_mad": 2}
    return result | {
        "severity": severity, "diagnostics": {"mcs": shapiro}, "tests": dict.fromkeys(TESTS, TEST),
        "reading_original": "vision collapse", "reading_null": "no departure from the null", "control": control,
        "share_of_pairs_above_0_7": 0.902, "share_of_nulls_above_0_7": 0.638, "family": "dual encoder",
    }  # fmt: skip


def measure_of(found):
    return READINGS | {
        "reason": "1 of 1 models under test tested", "gates": GATES, "n_tested": 1, "severe": "none",
        "undecided": "none", "images_needed": 0, "models_needed": 2, "models": found,
        "not_judged": {} if found else {"trained": REASON},
    }  # fmt: skip


@pytest.fixture
def study(tmp_path):
    """Two measured models, one that was never loaded, one that was loaded but not scored."""
    study = Study(Params.model_validate({"study": "s", "params_file": "params.yaml", "models": SPECS}), tmp_path)
    identity = {"evidence_id": "0123456789abcdef"}
    write_json(study.manifest, identity | {"n_images": 40, "n_captions": 200, "n_skipped": 3, "source": "folder"})
    for name in ("trained", "fresh"):
        about = {"weights": f"of {name}", "weights_revision": None, "weights_sha256": "ab" * 32, "parameters": 123456,
                 "n_images": 40, "n_pairs": 200, "n_truncated_captions": 7, "rows": "all", "family": "dual encoder",
                 "notes": ["a note of 2 words"]}  # fmt: skip
        write_json(study.scores(name), identity | about)
        write_json(study.contributions(name), identity)
    for name in ("trained", "fresh", "half"):
        write_json(study.checkpoint(name), {})
    models = {"trained": statistics_of(False), "fresh": statistics_of(True)}
    models["trained"]["mcs_untrained"] = {"mean": 0.7311, "n_seeds": 1}
    pair = SUMMARY | {"a": "trained", "b": "fresh", "family": "model and its untrained control", "p_holm": 0.01,
                      "d_z": 1.02, "d_z_ci_low": 0.78, "d_z_ci_high": 1.26, "tost_p": 0.2}  # fmt: skip
    meta = {"k": 1, "mean": None, "ci_low": None, "ci_high": None, "i2": None, "reason": "1 model, 2 or more needed"}
    write_json(study.statistics, identity | {
        "models": models, "confidence": 0.95, "pairs_of_models": {"mcs": {"trained_vs_fresh": pair}},
        "meta": {"mcs": meta}, "a_priori": {"d": 0.5, "alpha": 0.05, "power": 0.8, "alternative": "two-sided", "n": 34},
    })  # fmt: skip
    one = {"trained": {"n": 40, "mean": 0.7346, "ci_low": 0.7312, "ci_high": 0.7389, "p_holm": 0.0214, "power": 0.913,
                       "n_needed": 29, "severe": False, "not_severe": False, "ignored": "the image"}}  # fmt: skip
    write_json(study.decision, identity | READINGS | {
        "measure": "mcs", "confirm_with": "mass_share", "confirmed": False, "reason": "mcs says NEED_MORE_DATA",
        "images_needed": 0, "models_needed": 2, "diagnostic_success": False,
        "diagnostic_failures": "trained mcs (4 images undefined)",
        "measures": {"mcs": measure_of(one), "mass_share": measure_of({})},
    })  # fmt: skip
    write_json(tmp_path / VALIDITY, identity | {
        "as_claimed_in_words": "Shapley share; EMAP gap", "separates_in_words": "EMAP gap", "seeds_a_side": 4,
        "perfect_ci_low": 0.3976, "seeds_needed": 6,
        "kinds": {"blip": {"n_models": 11, "excluded": {}},
                  "vilt": {"n_models": 10, "excluded": {"image-shortcut-2": "accuracy 0.512, at least 0.9 needed"}}},
    })  # fmt: skip
    (study.plots / "trained").mkdir(parents=True)
    (study.plots / "trained" / "layer_wise_attention.png").write_bytes(b"")
    return study


def shown(study, name):
    """A report as a reader sees it: links give their text alone."""
    return re.sub(r"\[((?:\\.|[^\]\\])*)\](?:\[[^\]]*\]|\(#sources\))", r"\1", (study.reports / name).read_text())


def rows(text, first):
    """Cells of the rows that begin with a cell."""
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines()
            if line.startswith(f"| {first} |")]  # fmt: skip


def test_what_is_written(study):
    reports.main(study)
    assert {path.name for path in study.reports.iterdir()} == {
        "trained_diagnostic_results.md", "fresh_diagnostic_results.md", "statistical_validation_framework.md",
        "progress_update.md", "decision.md", "index.md",
    }  # fmt: skip
    index = shown(study, "index.md")
    assert "[fresh_diagnostic_results](fresh_diagnostic_results.md) | results of `fresh` (control) |" in index
    for name in re.findall(r"\]\((\w+\.md)\)", index):
        assert (study.reports / name).is_file()


def test_the_first_page_says_what_was_found_and_what_was_not(study):
    (study.plots / "cross_model_comparison.png").write_bytes(b"")
    reports.main(study)
    page = shown(study, "index.md")
    assert "40 images with 200 captions; 3 items could not be used" in page
    assert "What the pictures show, this report does not know." in page  # of the source "folder"
    assert rows(page, "`trained`")[0][1:4] == ["external", "0.735", "0.735"] and "No model from the field" not in page
    assert "The decision is **NEED_MORE_DATA**: neither is shown yet." in page
    assert all(f"- `{name}`: " in page for name in ("GO", "PIVOT", "NO_GO")) and "- `NEED_MORE_DATA`" not in page
    assert "![cross model comparison](../../plots/s/cross_model_comparison.png)" in page


@pytest.mark.parametrize(
    ("judged", "said"),
    [
        ({"severe": False, "not_severe": True}, "is shown **not** to lean on one input severely"),
        (
            {"severe": True, "not_severe": False},
            "is shown to lean on one input severely; what it uses less is the image",
        ),
        ({"severe": False, "not_severe": False}, "is undecided: its interval holds both"),
    ],
)
def test_the_first_page_says_of_a_model_what_the_decision_says(study, judged, said):
    decision = read_json(study.decision)
    measure = decision["measure"] = next(name for name, of in decision["measures"].items() if of["models"])
    found = decision["measures"][measure]["models"]["trained"]
    found |= judged | {"ignored": "the image"}
    write_json(study.decision, decision)
    reports.main(study)
    page = shown(study, "index.md")
    assert f"- `trained` {said}" in page
    assert ("what it uses less is" in page) == judged["severe"]


def test_a_page_about_rendered_pictures_says_so(study):
    write_json(study.manifest, read_json(study.manifest) | {"source": "embedded"})
    reports.main(study)
    assert "no photographs" in shown(study, "index.md")


def test_the_numbers_are_those_of_the_metrics(study):
    reports.main(study)
    text = shown(study, "trained_diagnostic_results.md")
    assert rows(text, "MCS")[0][1:4] == ["73.5 %", "26.5 %", "image: 73.1 % to 73.9 %"]
    assert rows(text, "T-SHAP, the text's share")[0][1:4] == [
        "26.5 %",
        "73.5 %",
        "text: 73.1 % to 73.9 %",
    ]  # the file holds the text's
    assert rows(text, "entropy, vision (nats)")[0][1:] == ["0.735 (0.731 to 0.739)", "40"]
    assert rows(text, "`mcs`")[0][1:] == [
        "40", "0.735 (0.731 to 0.739)", "37.5 %", r"\<1e−9", "0.021", "−1.38 (−1.60 to −1.10)", "0.913", "77", "no",
        "no",
    ]  # fmt: skip
    assert "ab" * 32 in text and "0.731 (seeds: 1)" in text and "- a note of 2 words" in text
    assert "![layer wise attention](../../plots/s/trained/layer_wise_attention.png)" in text
    assert "Shapley share; EMAP gap" in text and "Control" not in text
    assert (
        "with 4 seeds on each side an AUROC of one has the interval [0.40, `1`], and a verdict takes 6 or more" in text
    )
    assert "above chance in every kind: EMAP gap." in text
    framework = shown(study, "statistical_validation_framework.md")
    assert "d = 0.5 at α = 0.05 (two-sided) with power 0.8 needs 34 images" in framework
    assert "1.02 (0.78 to 1.26)" in framework and "1 model, 2 or more needed" in framework


def test_an_undefined_measure_has_its_reason_and_a_control_is_marked(study):
    reports.main(study)
    text = shown(study, "fresh_diagnostic_results.md")
    assert "> **Control.** The weights are untrained." in text and "| control | yes |" in text
    assert f"- `mass_share`: {REASON}" in text and rows(text, "mass share of the image")[0][1:3] == ["–", "–"]
    assert rows(text, "`mass_share`")[0][2] == f"– ({REASON})"
    assert rows(text, "`mcs`")[0][5] == "–"  # Holm's family is the models under test


def test_the_decision_shows_gates_and_both_readings(study):
    reports.main(study)
    text = shown(study, "decision.md")
    assert rows(text, "`mcs`")[0][1:5] == ["**NEED_MORE_DATA**", "NEED_MORE_DATA", "NO_GO", "1"]
    assert rows(text, "models tested, at least")[0][1:] == ["3", "1", "**unmet**"]
    assert rows(text, "imbalance of that many models, above")[0][1:] == ["0.800", "0.735", "met"]
    assert "- DIAGNOSTIC_SUCCESS: no (failed: trained mcs (4 images undefined))" in text
    assert "No model under test defines this measure." in text and f"- `trained`: {REASON}" in text


def test_what_is_in_the_way_is_named(study):
    reports.main(study)
    blockers = shown(study, "progress_update.md").split("## Blockers")[1].split("## ")[0]
    assert "- `gone` has no results: its weights have not been loaded" in blockers
    assert "extract_attention --params params.yaml --model gone`" in blockers
    assert "- `half` has no results: loaded, but without scores" in blockers
    assert "- measures that did not come out whole: trained mcs (4 images undefined)" in blockers
    assert "- pairs skipped: 3" in blockers and "`trained` has" not in blockers
    assert "- planted model `vilt image-shortcut-2` is excluded by rule: accuracy 0.512" in blockers


def test_a_study_that_has_not_run_claims_nothing(tmp_path):
    study = Study(Params.model_validate({"study": "s", "params_file": "params.yaml", "models": SPECS}), tmp_path)
    reports.main(study)
    assert {path.name for path in study.reports.iterdir()} == {"progress_update.md", "index.md"}
    text = shown(study, "progress_update.md")
    assert "study `s` has not run" in text and "`metrics/embedded/validity.json`" in text
    assert all(f"- `{name}` has no results" in text for name in SPECS)
    assert "decides nothing" in text and "## Sources" not in text
    assert ["no citation" in failure.got for failure in Check(tmp_path).run().failures] == [True]


def test_every_number_is_cited_and_one_altered_digit_is_seen(study):
    reports.main(study)
    check = Check(study.root).run()
    assert check.failures == [] and check.citations > 200
    for name, old, new in (
        ("trained_diagnostic_results.md", "[26.5 %]", "[26.4 %]"),
        ("decision.md", "[0.735]", "[0.736]"),
        ("progress_update.md", "[40]", "[41]"),
    ):
        file = study.reports / name
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))
        (failure,) = Check(study.root).run().failures
        assert failure.file == f"reports/s/{name}" and f"printed {new.strip('[]')}" in failure.got
        file.write_text(text.replace("\n## ", "\nAbout 0.74.\n\n## ", 1))
        (failure,) = Check(study.root).run().failures
        assert "0.74 is typed by hand" in failure.got
        file.write_text(text)


def test_runs_stand_once_a_report_under_sources(study):
    reports.main(study)
    for path in study.reports.iterdir():
        text, sources = path.read_text().split("\n## Sources\n")
        files = re.findall(r"- \[(.*)\]\(\.\./\.\./(.*)\): run `0123456789abcdef`", sources)
        assert files and all(shown == leads_to for shown, leads_to in files)
        assert "0123456789abcdef" not in text and sources.count("0123456789abcdef") == len(files) == len(set(files))
    text = shown(study, "progress_update.md")
    assert rows(text, "`compute_mcs`")[0][1:] == ["`trained`", "metrics/s/mcs/trained.json"]
    assert rows(text, "`compute_mcs`")[2][1:] == ["`gone`", "has not run"]


def test_a_metric_that_changed_after_the_report_is_seen(study):
    reports.main(study)
    found = read_json(study.statistics)
    found["models"]["trained"]["mcs"]["mean"] = 0.6
    write_json(study.statistics, found)
    assert {failure.got for failure in Check(study.root).run().failures} >= {"printed 73.5 %", "printed 26.5 %"}


def test_a_report_of_a_model_that_left_is_removed(study):
    stale = study.reports / "left_diagnostic_results.md"
    stale.parent.mkdir(parents=True)
    stale.write_text("old")
    reports.main(study)
    assert not stale.exists()
