import shutil
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
        "layers": {"01": {"mcs": 0.6}},
        "p": None,
        "untrained": True,
    }
    return Result("s", "m", "compute_mcs@m", metrics | changes, {"rows": "all", "fetch_coco": {"n": 3}}, (figure,))


def runs(uri):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    return client.search_runs([client.get_experiment_by_name("attention-collapse/s").experiment_id]), client


def test_twice_adds_nothing(uri, tmp_path):
    assert mirror([result(tmp_path)], "rev", uri) == (1, 0)
    assert mirror([result(tmp_path)], "rev", uri) == (0, 1)
    [run], client = runs(uri)
    assert run.data.metrics == {"mcs": 0.7, "layers.01.mcs": 0.6}  # booleans and undefined numbers are no metrics
    assert run.data.params == {"rows": '"all"', "fetch_coco.n": "3"}
    tags = run.data.tags
    assert (tags["evidence_id"], tags["dvc.stage"], tags["git.revision"]) == ("abc", "compute_mcs@m", "rev")
    assert [a.path for a in client.list_artifacts(run.info.run_id)] == ["figure.png"]


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
