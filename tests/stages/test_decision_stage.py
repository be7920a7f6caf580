"""The stage decision and `attention-collapse check`, on statistics written by hand."""

import json

import pytest

from attention_collapse.cli import main as cli
from attention_collapse.engine.contribution import INCOMPETENT
from attention_collapse.errors import ParamsError, PipelineError
from attention_collapse.files import read_json, write_json
from attention_collapse.measures.catalogue import SEVERITY_MEASURES
from attention_collapse.measures.reliance import NO_DECISION
from attention_collapse.params import Params
from attention_collapse.repository import check as gate
from attention_collapse.stages import decision
from attention_collapse.study.layout import Study
from attention_collapse.study.results import results_of

SEVERE = {"mean": 0.9, "ci_low": 0.88, "ci_high": 0.92, "share_severe": 1.0, "p": 1e-9, "log10_p": -9.0,
          "p_holm": 3e-9, "p_balanced_holm": 1.0, "n_to_settle": 20, "ignored": "the image", "n": 100}  # fmt: skip
BALANCED = SEVERE | {"mean": 0.6, "ci_low": 0.58, "ci_high": 0.62, "share_severe": 0.0, "p": 1.0, "log10_p": 0.0,
                     "p_holm": 1.0, "p_balanced_holm": 1e-9}  # fmt: skip
NOTHING = dict.fromkeys(SEVERE) | {
    "n": 0,
    "ignored": "neither",
    "reason": "no query of a dual encoder sees both groups",
}
UNDEFINED = {"mass_share": "no query of a dual encoder sees both groups"}


def entry(control=False, **measures):
    severity = dict.fromkeys(SEVERITY_MEASURES, BALANCED) | {"mass_share": NOTHING}
    severity |= measures
    if control:  # Holm's family is the models under test
        severity = {name: {k: v for k, v in one.items() if k != "p_holm"} for name, one in severity.items()}
    lost = {"perceptual_score_image": {"mean": 0.01}}
    return {"control": control, "family": "dual encoder", "severity": severity} | lost


BOTH = {"mcs_calibrated": SEVERE, "shapley_share": SEVERE}


def write(root, models, *, stats=None, **settings):
    """A study whose models have these statistics; a name says what the model is."""
    specs = {}
    for name in models:
        specs[name] = {"kind": "clip", "weights": "hub", "repo": "a/b"}
        if name.startswith("control"):
            specs[name] = {"kind": "clip", "weights": "untrained", "architecture": "a/b", "seed": 0}
        if name.startswith("ours"):
            specs[name] = {"kind": "fusion-v2", "weights": "checkpoint", "path": "x"}
    settings = {"measure": "mcs_calibrated"} | settings
    data = {"study": "s", "params_file": "params.yaml", "models": specs, "decision": settings, "stats": stats or {}}
    (root / "params.yaml").write_text(json.dumps(data))  # JSON is YAML
    study = Study(Params.model_validate(data), root)
    write_json(study.statistics, {"models": models, "evidence_id": "0123456789abcdef"})
    for name in models:
        write_json(study.scores(name), {"reasons": UNDEFINED, "n_images": 100, "evidence_id": name, "stage": "x"})
    return study


def run(root, models, **settings):
    study = write(root, models, **settings)
    decision.main(study)
    return read_json(study.decision)


def test_go_where_accuracy_confirms(tmp_path):
    models = {"a": entry(**BOTH), "b": entry(**BOTH), "c": entry(), "control-0": entry(control=True)}
    found = run(tmp_path, models)
    assert (found["decision"], found["severe_all"]) == ("GO", "NEED_MORE_DATA")
    assert found["measures"]["mcs"]["decision"] == "NO_GO"
    assert found["measures"]["mcs_calibrated"]["gates"]["models_tested"]["found"] == 3  # the control is none of them
    assert found["measures"]["mass_share"]["decision"] == "NEED_MORE_DATA"
    assert found["measures"]["mass_share"]["not_judged"] == dict.fromkeys("abc", UNDEFINED["mass_share"])
    assert (found["images_needed"], found["models_needed"]) == (0, 0)
    # The hard foils are the stricter witness: by them this model loses its accuracy without the image.
    models["a"] |= {"perceptual_image_hard": {"mean": 0.4}}
    found = run(tmp_path, models)
    assert found["decision"] == "NEED_MORE_DATA" and found["measures"]["mcs_calibrated"]["external_confirmed"] == "b"


def test_a_model_whose_score_means_nothing_is_not_judged(tmp_path):
    chance = f"{INCOMPETENT}: accuracy 0.510 [0.410, 0.610]"
    void = dict.fromkeys(SEVERITY_MEASURES, NOTHING | {"reason": chance})
    models = {"a": entry(), "b": entry(), "c": entry()} | {"random": entry(**void)}
    found = run(tmp_path, models)
    assert found["measures"]["mcs_calibrated"]["not_judged"] == {"random": chance}
    assert found["decision"] == "NO_GO" and found["diagnostic_success"]
    assert run(tmp_path, {"a": entry(), "b": entry(), "random": entry(**void)})["decision"] == "NEED_MORE_DATA"


def test_a_likelihood_without_hard_foils_is_not_judged_by_reliance(tmp_path):
    lacking = {"reliance_share": NOTHING | {"reason": NO_DECISION}}
    models = {"a": entry(), "b": entry(), "c": entry(), "decoder": entry(**lacking)}
    found = run(tmp_path, models, measure="reliance_share")
    assert found["measures"]["reliance_share"]["not_judged"] == {"decoder": NO_DECISION}
    assert found["decision"] == "NO_GO" and found["diagnostic_success"]
    assert found["measures"]["mcs_calibrated"]["not_judged"] == {}
    verdict = gate.check("s", root=tmp_path)
    assert verdict.judged == 3 and any(NO_DECISION in line and "NO VERDICT" in line for line in verdict.lines)


def test_the_measures_and_gates_are_the_parameters(tmp_path):
    models = {"a": entry(mcs=SEVERE, shapley_share=SEVERE), "b": entry()}
    settings = {"measure": "mcs", "models_tested": 2, "models_severe": 1}
    assert run(tmp_path, models, **settings)["decision"] == "GO"
    assert run(tmp_path, models)["decision"] == "NEED_MORE_DATA"


def test_in_house_models_alone_are_a_pivot(tmp_path):
    assert run(tmp_path, {"ours": entry(**BOTH), "b": entry(), "c": entry()})["decision"] == "PIVOT"


def test_one_model_needs_two_more(tmp_path):
    found = run(tmp_path, {"a": entry(**BOTH), "control-0": entry(control=True, **BOTH)})
    assert (found["decision"], found["models_needed"], found["images_needed"]) == ("NEED_MORE_DATA", 2, 0)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({}, "none"),
        ({"shapley_share": BALANCED | {"n": 97}}, "a shapley_share (3 images undefined)"),
        ({"mcs": BALANCED | {"p": None, "p_holm": None, "reason": "no variance"}}, "a mcs (no variance)"),
        ({"mcs": NOTHING | {"reason": "0 defined values"}}, "a mcs (100 images undefined)"),
        ({"mass_share": NOTHING}, "none"),  # the kind does not define it
    ],
)
def test_diagnostic_success_is_every_measure_that_the_kind_defines(tmp_path, change, named):
    found = run(tmp_path, {"a": entry(**change), "b": entry(), "c": entry()})
    assert (found["diagnostic_success"], found["diagnostic_failures"]) == (named == "none", named)


def test_a_control_that_failed_is_a_diagnostic_failure(tmp_path):
    broken = entry(control=True, mcs=BALANCED | {"n": 99})
    assert run(tmp_path, {"a": entry(), "control-0": broken})["diagnostic_success"] is False


@pytest.mark.parametrize("key", sorted(SEVERE.keys() - {"share_severe", "log10_p"}))
def test_a_missing_key_is_named(tmp_path, key):
    short = {name: value for name, value in BALANCED.items() if name != key}
    with pytest.raises(PipelineError, match=rf"models\.a\.severity\.mcs has no '{key}'"):
        run(tmp_path, {"a": entry(mcs=short)})


def test_statistics_of_another_version_or_of_other_models_are_named(tmp_path):
    study = write(tmp_path, {"a": entry()})
    write_json(study.statistics, {"models": {"a": {"control": False}}, "evidence_id": "x"})
    with pytest.raises(PipelineError, match=r"models\.a has no 'severity'"):
        decision.main(study)
    write_json(study.statistics, {"models": {}, "evidence_id": "x"})
    with pytest.raises(PipelineError, match="models has no 'a'"):
        decision.main(study)


def test_a_measure_that_no_decision_can_be_taken_by_is_refused(tmp_path):
    with pytest.raises(ParamsError, match=r"decision.measure is 'shapley_shar'(.|\n)*did you mean 'shapley_share'"):
        run(tmp_path, {"a": entry()}, measure="shapley_shar")


def test_the_evidence_follows_parameters_and_inputs(tmp_path):
    one = run(tmp_path, {"a": entry()})
    assert run(tmp_path, {"a": entry()}) == one
    assert run(tmp_path, {"a": entry()}, stats={"confidence": 0.99})["evidence_id"] != one["evidence_id"]
    assert run(tmp_path, {"ours": entry()})["evidence_id"] != one["evidence_id"]


def test_the_decision_is_among_the_results(tmp_path):
    study = write(tmp_path, {"a": entry()})
    assert "decision" not in [result.name for result in results_of(study)]
    write_json(study.scores("a"), {"reasons": UNDEFINED, "n_images": 100, "evidence_id": "a", "stage": "x"})
    decision.main(study)
    assert "decision" in [result.name for result in results_of(study)]


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / ".dvc").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(capsys, *arguments):
    status = cli(["check", "--study", "s", *arguments])
    return status, capsys.readouterr()


def test_check_fails_on_a_severe_model_alone(here, capsys):
    write(here, {"a": entry(**BOTH), "b": entry(), "control-0": entry(control=True, **BOTH)})
    status, out = check(capsys)
    assert status == 1 and "a: mean imbalance 0.900 [0.880, 0.920] by mcs_calibrated" in out.out
    assert "a: " in out.out and out.out.count("SEVERE") == 1 and "control-0" not in out.out
    status, out = check(capsys, "--measure", "mcs")
    assert status == 0 and "0 severe of 2 judged, 2 under test" in out.out
    write(here, {"b": entry(), "control-0": entry(control=True, **BOTH)})
    assert check(capsys)[0] == 0


def test_check_uses_the_test_at_its_value_and_the_interval_elsewhere(here, capsys):
    near = SEVERE | {"mean": 0.82, "ci_low": 0.79, "p_holm": 0.01}
    write(here, {"a": entry(mcs_calibrated=near)})
    assert check(capsys, "--max-imbalance", "0.8")[0] == 1  # the test rejects, though the interval holds 0.8
    assert check(capsys, "--max-imbalance", "0.79")[0] == 0
    assert check(capsys, "--max-imbalance", "0.78")[0] == 1
    write(here, {"a": entry(mcs_calibrated=near | {"p_holm": 0.2, "ci_low": 0.805})})
    assert check(capsys, "--max-imbalance", "0.8")[0] == 0


def test_check_names_a_model_without_the_measure_and_does_not_pass_on_no_verdict(here, capsys):
    write(here, {"a": entry()})
    status, out = check(capsys, "--measure", "mass_share")
    assert status == 1 and "NO VERDICT (no query of a dual encoder sees both groups)" in out.out
    assert "0 severe of 0 judged, 1 under test" in out.out
    assert "no model of the study 's' has a verdict" in out.err and "what to do:" in out.err
    assert check(capsys)[0] == 0


def test_check_does_not_pass_where_every_model_is_a_control(here, capsys):
    write(here, {"control-0": entry(control=True, **BOTH)})
    status, out = check(capsys)
    assert status == 1 and "0 under test" in out.out and "nothing was checked" in out.err


def test_check_says_what_is_missing_without_a_traceback(here, capsys):
    study = write(here, {"a": entry()})
    assert cli(["check", "--study", "nowhere"]) == 1
    assert "no study 'nowhere'" in capsys.readouterr().err
    status, out = check(capsys, "--measure", "karma")
    assert status == 1 and "the measure is 'karma'" in out.err and "one of mcs, " in out.err
    study.statistics.unlink()
    status, out = check(capsys)
    assert status == 1 and "stats.json: no such file" in out.err
    for wrong in ("80", "0.4"):
        with pytest.raises(SystemExit) as stopped:
            check(capsys, "--max-imbalance", wrong)
        assert stopped.value.code == 2
    (here / "params.yaml").unlink()
    assert check(capsys)[0] == 1
