import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from attention_collapse.cli import main
from attention_collapse.errors import ParamsError
from attention_collapse.files import write_json
from attention_collapse.report.tracking import Result, mirror


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A data base with MLflow's tables and nothing in them, which MLflow takes seconds to make."""
    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    mirror([], "rev", f"sqlite:///{file}")
    from mlflow.tracking import MlflowClient

    assert len(MlflowClient(f"sqlite:///{file}").search_experiments()) == 1  # its default
    return file


@pytest.fixture
def uri(tmp_path, monkeypatch, empty):
    monkeypatch.chdir(tmp_path)
    return f"sqlite:///{shutil.copy(empty, tmp_path / 'mlflow.db')}"


def result(tmp_path, **changes):
    figure = tmp_path / "figure.png"
    figure.write_bytes(b"png")
    metrics = {
        "evidence_id": "abc",
        "stage": "compute_mcs@m",
        "mcs": 0.7,
        "layers": {"01": {"mcs": 0.6}, "02": {"mcs": 0.8}},
        "layer_mcs": {"01": 0.6, "12": 0.8},
        "p": None,
        "untrained": True,
    }
    causal = {"evidence_id": "def", "reliance_share": {"mean": 0.25, "ci_low": 0.1, "ci_high": None, "n": 80}}
    settings = {"rows": "all", "fetch_coco": {"n": 3, "foils": None}}
    return Result("s", "m", "compute_mcs@m", metrics | changes, settings, (figure,), causal, FINISHED)


FINISHED = 1_700_000_000.5  # seconds since 1970


def runs(uri, **options):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    return client.search_runs([client.get_experiment_by_name("attention-collapse/s").experiment_id], **options), client


def test_twice_adds_nothing(uri, tmp_path):
    assert mirror([result(tmp_path)], "rev", uri) == (1, 0)
    assert mirror([result(tmp_path)], "rev", uri) == (0, 1)
    [run], client = runs(uri)
    assert run.data.metrics == {  # booleans and undefined numbers are no metrics; of a layer the last
        "mcs": 0.7, "layers.mcs": 0.8, "layer_mcs": 0.8, "reliance_share": 0.25, "reliance_share.ci_low": 0.1,
        "reliance_share.n": 80,
    }  # fmt: skip
    assert run.data.params == {"rows": "all", "fetch_coco.n": "3", "fetch_coco.foils": "null"}
    tags = run.data.tags
    assert (tags["evidence_id"], tags["dvc.stage"], tags["git.revision"]) == ("abc", "compute_mcs@m", "rev")
    assert tags["evidence_id.contribution"] == "def"
    assert [a.path for a in client.list_artifacts(run.info.run_id)] == ["figure.png"]


def test_layers_are_steps_and_times_are_the_results_own(uri, tmp_path):
    mirror([result(tmp_path)], "rev", uri)
    [run], client = runs(uri)
    history = client.get_metric_history(run.info.run_id, "layer_mcs")
    assert [(one.step, one.value) for one in history] == [(1, 0.6), (12, 0.8)]
    assert run.info.start_time == run.info.end_time == 1000 * FINISHED == history[0].timestamp


def test_runs_are_sorted_by_the_measure_that_counts_under_its_plain_name(uri, tmp_path):
    one, other = result(tmp_path), result(tmp_path, evidence_id="other")
    other = replace(other, causal=other.causal | {"reliance_share": {"mean": 0.5}})
    mirror([one, other], "rev", uri)
    found, _ = runs(uri, order_by=["metrics.reliance_share DESC"])
    assert [run.data.metrics["reliance_share"] for run in found] == [0.5, 0.25]


def test_a_store_that_is_moved_keeps_its_artifacts(uri, tmp_path, monkeypatch):
    """Also if it lay elsewhere than the working folder."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    shutil.move(tmp_path / "mlflow.db", here / "mlflow.db")
    twins = [tmp_path / name / "m.json" for name in ("mcs", "contribution")]  # two files of one name
    for file in twins:
        file.parent.mkdir()
        file.write_text(file.parent.name)
    mirror([replace(result(tmp_path), files=tuple(twins))], "rev", "sqlite:///here/mlflow.db")
    shutil.move(here, there)
    monkeypatch.chdir(there)
    [run], client = runs("sqlite:///mlflow.db")
    for file in twins:
        kept = client.download_artifacts(run.info.run_id, f"{file.parent.name}/m.json", str(tmp_path))
        assert Path(kept).read_text() == file.parent.name


def test_new_evidence_and_new_numbers_are_new_runs(uri, tmp_path):
    mirror([result(tmp_path)], "rev", uri)
    assert mirror([result(tmp_path, evidence_id="def"), result(tmp_path, mcs=0.71), result(tmp_path)], "rev", uri) == (
        2,
        1,
    )


def test_a_run_that_was_cut_short_is_logged_again(uri, tmp_path, monkeypatch):
    broken = result(tmp_path)
    Path(broken.files[0]).unlink()
    with pytest.raises(Exception, match="figure"):
        mirror([broken], "rev", uri)
    assert mirror([result(tmp_path)], "rev", uri) == (1, 0)
    assert mirror([result(tmp_path)], "rev", uri) == (0, 1)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://[::1", "Invalid IPv6 URL"),
        ("sqlite:x", "names no file"),
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:///:memory:", "names no file"),  # gone when the program ends
        ("sqlite:///folder", "cannot be written"),
        ("sqlite:///file/mlflow.db", "cannot be written"),
    ],
)
def test_an_address_that_keeps_nothing_is_refused_at_once(tmp_path, monkeypatch, address, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(ParamsError, match=said):
        mirror([result(tmp_path)], "rev", address)


def test_a_store_in_a_read_only_folder_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(ParamsError, match="cannot be written"):
        mirror([result(tmp_path)], "rev", f"sqlite:///{tmp_path}/new.db")


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "foo://bar", "http://a b"])
def test_a_server_that_is_not_there_is_said_in_three_parts(tmp_path, monkeypatch, capsys, address):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "params.yaml").write_text(
        "study: s\nparams_file: params.yaml\nmodels: {m: {kind: clip, weights: hub, repo: a/b}}\n"
    )
    write_json(tmp_path / "metrics/s/mcs/m.json", {"evidence_id": "x", "stage": "compute_mcs@m", "mcs": 0.7})
    assert main(["track", "--uri", address]) == 1
    error = capsys.readouterr().err
    assert "error: " in error and "tracking store or server" in error and "Traceback" not in error
