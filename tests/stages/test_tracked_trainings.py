"""The curves of the ways to train as MLflow's runs: metrics over steps, in a local store."""

import numpy as np
import pytest
from mlflow.tracking import MlflowClient
from test_prevention import study, watched

from attention_collapse.engine.arm_curves import curves
from attention_collapse.engine.dose_cells import write_cell
from attention_collapse.files import write_json, write_text
from attention_collapse.report.tracking import mirror, numbers_of
from attention_collapse.study.results import results_of

CUE = "text_reliability_95"


@pytest.fixture
def trained(tmp_path):
    """Two seeds of plain training, one that fails pairs whose cue says nothing; one seed of another arm."""
    run = study(tmp_path)
    kept = {("erm", 0): watched(neutral=0.3), ("erm", 1): watched(neutral=0.9), ("balanced", 0): watched(neutral=1.0)}
    for (arm, seed), tensors in kept.items():
        write_cell(run.prevention_of("vilt") / f"{arm}-text-0.95-{seed}.safetensors", tensors, {})
    outcomes = {"neutral": {"mean": 0.6, "ci_low": 0.5, "ci_high": 0.7}, "cost": 1.0}
    write_text(run.prevention_table, "arm\n")
    write_json(
        run.prevention, {"stage": "prevention", "evidence_id": "abc", "kinds": {"vilt": {CUE: {"erm": outcomes}}}}
    )
    return run, kept


def test_each_way_to_train_is_a_run_with_its_curves_over_the_steps(trained, tmp_path, monkeypatch):
    run, kept = trained
    results = results_of(run)
    assert [one.name for one in results] == [f"vilt/{CUE}/{arm}" for arm in ("erm", "balanced")]
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert mirror(results, "rev", uri) == (2, 0) and mirror(results, "rev", uri) == (0, 2)
    client = MlflowClient(uri)
    found = {
        one.info.run_name: one
        for one in client.search_runs([client.get_experiment_by_name("attention-collapse/s").experiment_id])
    }
    plain = found[f"vilt/{CUE}/erm"]
    assert plain.data.metrics["neutral"] == 0.6 and plain.data.metrics["cost"] == 1.0
    assert plain.data.params["seeds"] == "2" and plain.data.params["trained.method"] == "erm"
    seeds = [curves(kept["erm", seed]) for seed in (0, 1)]
    for name in ("neutral", "trained", "image_swapped", "reliance_image"):
        history = {one.step: one.value for one in client.get_metric_history(plain.info.run_id, f"training.{name}")}
        assert list(history) == seeds[0]["step"].tolist()
        assert list(history.values()) == pytest.approx(((seeds[0][name] + seeds[1][name]) / 2).tolist())
    other = client.get_metric_history(found[f"vilt/{CUE}/balanced"].info.run_id, "training.neutral")
    assert other[-1].value == 1.0
    change(run, kept)
    assert mirror(results_of(run), "rev", uri) == (1, 1)  # new curves are a new run


def change(run, kept):
    """The score of the other arm is constant at the first check: its reliance is undefined there."""
    still = dict(kept["balanced", 0])
    first = np.arange(len(still["watched.step"]))[:, None] == 0
    for name in ("intact", "image", "text", "both"):
        still[f"watched.{name}"] = np.where(first, 0.0, still[f"watched.{name}"])
    write_cell(run.prevention_of("vilt") / "balanced-text-0.95-0.safetensors", still, {})


def test_a_step_at_which_reliance_is_undefined_is_no_point(trained):
    run, kept = trained
    change(run, kept)
    steps = [step for name, step in numbers_of(results_of(run)[1]) if name == "training.reliance_image"]
    assert steps == [20, 40, 60, 80, 100]


def test_a_study_without_trainings_has_no_such_results(tmp_path):
    assert results_of(study(tmp_path)) == []
