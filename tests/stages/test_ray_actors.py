"""Ray gives what one process gives, exactly once, whatever is lost on the way. One Ray of four logical CPUs for all."""

import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from conftest import coco_folder
from tiny.encoders import write_blip

pytest.importorskip("ray")

import ray
from ray.exceptions import RayError
from ray_pieces import Numbers, counted, deadly, dying, nothing, unloadable, unloadable_once
from test_compute_and_stats import tiny_study

from attention_collapse.cli import main
from attention_collapse.data.pairs import read_folder, table
from attention_collapse.diagnosis import diagnose
from attention_collapse.engine import ray_step
from attention_collapse.engine.attention import extract, extract_into
from attention_collapse.engine.contribution import contributions
from attention_collapse.engine.pieces import here
from attention_collapse.engine.ray_actors import _Actors, on_ray
from attention_collapse.engine.ray_cluster import places_of, with_room
from attention_collapse.engine.ray_step import Step, outcome
from attention_collapse.engine.token_contribution import token_contributions
from attention_collapse.errors import AttentionCollapseError, ModelError, ParamsError, PipelineError
from attention_collapse.models import load
from attention_collapse.models.spec import ModelSpec
from attention_collapse.params import Engine
from attention_collapse.stages import compute_mcs, contribution, extract_attention, fetch_coco
from attention_collapse.study.layout import Study

RAY = Engine(kind="ray", actors=2, address="auto")


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """One Ray for all, with room for four actors."""
    import ray

    paths = {"env_vars": {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}}
    ray.init(
        address="local", num_cpus=4, object_store_memory=2**28, include_dashboard=False, log_to_driver=False,
        runtime_env=paths,
    )  # fmt: skip
    yield
    ray.shutdown()


@pytest.fixture
def run(cluster):
    """A runner of actors that make `nothing`'s pieces, in the Ray of all tests."""
    with on_ray(RAY, nothing, 1) as runner:
        yield runner


def made(folder, count):
    return sorted(int(file.stem) for file in folder.glob("*.json")) == list(range(count))


def lines(trace):
    return [int(line.split()[0]) for line in trace.read_text().splitlines()]


def test_every_piece_is_made_once_and_a_lost_worker_is_started_anew_for_what_it_had_in_hand(run, tmp_path):
    folder, trace = tmp_path / "work", tmp_path / "trace"
    pieces = Numbers(20, folder, trace, {5: "kills once"})
    for piece in (2, 11):
        pieces.keep(piece, {"piece": piece, "square": piece * piece})
    run(pieces, None)
    assert sorted(lines(trace)) == sorted([5, *(piece for piece in range(20) if piece not in (2, 11))])
    assert [pieces[piece]["square"] for piece in range(20)] == [piece**2 for piece in range(20)]
    assert len({line.split()[1] for line in trace.read_text().splitlines()}) >= 2  # both actors worked
    run(pieces, None)
    assert len(lines(trace)) == 19


def test_faults_stop_no_other_piece_are_told_and_the_next_run_makes_what_is_missing(run, tmp_path):
    folder, faults = tmp_path / "work", {3: "poisoned", 4: "full", 5: "broken", 6: "kills"}
    with pytest.raises(AttentionCollapseError, match=r"number \d, and 3 more: .*; 8 of 12 missing pieces were made"):
        run(Numbers(12, folder, tmp_path / "trace", faults), None)
    assert lines(tmp_path / "trace").count(6) == 4  # it is not tried for ever
    assert len(list(folder.glob("*.json"))) == 8 and not list(folder.glob(".*.tmp"))
    run(Numbers(12, folder, tmp_path / "again"), None)  # mended
    assert sorted(lines(tmp_path / "again")) == sorted(faults) and made(folder, 12)


def test_an_actor_keeps_its_model_from_one_step_to_the_next(cluster, tmp_path):
    loaded = tmp_path / "loaded"
    with on_ray(RAY, partial(counted, str(loaded)), 1) as run:
        for step in ("one", "two", "three"):
            run(Numbers(6, tmp_path / step, tmp_path / f"{step}.trace"), None)
            assert made(tmp_path / step, 6)
    loadings = loaded.read_text().split()  # the second actor may find no piece left, and begin never
    assert len(loadings) == len(set(loadings)) <= RAY.actors
    made_by = {line.split()[1] for trace in tmp_path.glob("*.trace") for line in trace.read_text().splitlines()}
    assert made_by <= set(loadings)


def test_a_model_that_cannot_be_loaded_is_an_error_at_once_and_as_it_was(cluster, tmp_path):
    with on_ray(RAY, unloadable, 1) as run, pytest.raises(ModelError, match="could not begin: no weights") as error:
        run(Numbers(6, tmp_path / "work", tmp_path / "trace"), None)
    assert (error.value.expected, error.value.remedy) == ("weights", "fetch them") and not any(tmp_path.glob("trace"))


def test_an_actor_that_cannot_begin_stops_no_other(cluster, tmp_path, capsys):
    with on_ray(RAY, partial(unloadable_once, str(tmp_path / "first")), 1) as run:
        for step in ("one", "two"):
            run(Numbers(6, tmp_path / step, tmp_path / f"{step}.trace", seconds=0.1), None)
            assert made(tmp_path / step, 6)
    assert "an actor could not begin (no weights); 1 go on without it" in capsys.readouterr().err


def test_as_many_actors_are_started_as_are_asked_for_and_no_more_than_pieces(cluster, tmp_path, monkeypatch):
    started = []
    actors = _Actors(RAY, nothing, 1)
    new = actors._new
    monkeypatch.setattr(actors, "_new", lambda: started.append(new()) or started[-1])
    for count, expected in ((1, 1), (6, 2)):
        pieces = Numbers(count, tmp_path / f"{count}", tmp_path / "trace")
        assert sorted(piece for piece, _ in actors.make(pieces, list(range(count)))) == list(range(count))
        assert len(started) == expected
    actors.end()


def test_a_piece_counts_as_tried_once_where_idle_actors_were_lost_with_the_one_that_had_it(cluster, tmp_path):
    """As where a node is lost: the others are asked before a piece is handed to them, and those that are gone replaced.

    Four actors that have begun are killed, and then the one piece is handed to one of them.
    """
    import ray

    actors = _Actors(Engine(kind="ray", actors=4, address="auto"), nothing, 1)
    for number in range(40):  # until all have begun
        list(actors.make(Numbers(8, tmp_path / f"warm-{number}", tmp_path / "trace", seconds=0.3), list(range(8))))
        if len(actors._ready) == 4:
            break
    step = Step(pieces := Numbers(1, tmp_path / "work", tmp_path / "again"), [0], actors._ready)
    old = list(actors._all)
    for actor in old:
        ray.kill(actor)
        while not isinstance(outcome(actor.here.remote()), RayError):
            time.sleep(0.05)  # until it is gone
        step.is_free(actor)
    step.hand_out()  # to one that is gone
    ((lost, (actor, piece)),) = step.busy.items()
    del step.busy[lost]
    assert piece == 0 and isinstance(outcome(lost), RayError)
    step.ask_the_idle()
    assert len(step.busy) == 3 and step.may_replace(actor) and step.again(piece)
    step.hand_out()
    assert all(piece is None for _, piece in step.busy.values())  # nobody has it until one has answered
    found = list(actors.make(pieces, [0]))  # all four are gone: none is given up, and they are replaced
    assert found == [(0, {})] and lines(tmp_path / "again") == [0]
    assert not set(actors._all) & set(old)
    actors.end()


def test_the_idle_are_asked_where_one_is_lost_and_a_lost_one_is_replaced_however_many_could_not_begin(
    cluster, tmp_path, monkeypatch
):
    asked = []
    monkeypatch.setattr(Step, "ask_the_idle", lambda step, ask=Step.ask_the_idle: asked.append(step) or ask(step))
    actors = _Actors(RAY, nothing, 1)
    pieces = Numbers(6, tmp_path / "work", tmp_path / "trace", {2: "kills once"}, seconds=0.1)
    assert len(list(actors.make(pieces, list(range(6))))) == 6 and len(asked) == 1
    step, ready = Step(pieces, [], {"ready"}), "ready"
    assert [step.may_replace("new") for _ in range(5)] == [True, True, True, False, False]
    assert step.may_replace(ready)
    actors.end()


def test_room_is_counted_node_by_node(monkeypatch, capsys):
    nodes = [
        {"Alive": True, "Resources": {"CPU": 3, "GPU": 1}},
        {"Alive": True, "Resources": {"CPU": 3}},
        {"Alive": False, "Resources": {"CPU": 64, "GPU": 8}},
    ]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 6, "GPU": 1})
    for asked, threads, places in (
        (Engine(kind="ray"), 1, 6), (Engine(kind="ray"), 2, 2), (Engine(kind="ray"), 4, 0),
        (Engine(kind="ray", gpus=0.5), 1, 2), (Engine(kind="ray", gpus=1), 1, 1), (Engine(kind="ray", gpus=2), 1, 0),
        (Engine(kind="ray", gpus=0.6), 1, 1), (Engine(kind="ray", gpus=1 / 3), 1, 3),
    ):  # fmt: skip
        assert places_of(asked, threads) == places
    with pytest.raises(ParamsError, match=r"1 actors of 4 CPU each, and Ray's nodes have room for 0 \(6 CPU and 1 GPU"):
        with_room(Engine(kind="ray"), 4)
    assert with_room(Engine(kind="ray", actors=2), 2).actors == 2 and not capsys.readouterr().err
    assert with_room(Engine(kind="ray", actors=9), 2).actors == 2  # as if a node had been lost since
    said = "9 actors of 2 CPU each, and Ray's nodes have room for 2 (6 CPU and 1 GPU in all): 2 are started"
    assert said in capsys.readouterr().err


def test_a_run_that_no_node_has_room_for_any_more_ends(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_step, "QUIET", 0.5)
    actors = _Actors(Engine(kind="ray", address="auto"), nothing, 5)  # as if a node had been lost since
    with pytest.raises(PipelineError, match=r"no actor has begun for 0 s, and no node of Ray has 5 CPU"):
        list(actors.make(Numbers(1, tmp_path / "work", tmp_path / "trace"), [0]))
    actors.end()


@pytest.mark.slow
def test_actors_that_are_lost_while_they_load_are_not_replaced_for_ever(cluster, tmp_path):
    loaded = tmp_path / "loaded"
    with (
        on_ray(RAY, partial(deadly, str(loaded)), 1) as run,
        pytest.raises(PipelineError, match="4 actors in a row were lost before they could begin"),
    ):
        run(Numbers(6, tmp_path / "work", tmp_path / "trace"), None)
    assert 4 <= len(loaded.read_text().split()) <= 5  # the other of two may have begun to load


@pytest.mark.slow
def test_what_a_worker_never_lives_through_is_named(run, tmp_path):
    with pytest.raises(PipelineError, match="the worker was lost 4 times over number 3; 11 of 12"):
        run(Numbers(12, tmp_path / "work", tmp_path / "trace", {3: "kills"}), None)


@pytest.mark.slow
def test_the_driver_may_be_killed(run, tmp_path):
    """A driver with a Ray of its own, killed in the middle: the next run makes the rest."""
    folder, trace = tmp_path / "work", tmp_path / "trace"
    code = (
        "from ray_pieces import Numbers, nothing\nfrom attention_collapse.engine.ray_actors import on_ray\n"
        "from attention_collapse.params import Engine\n"
        "with on_ray(Engine(kind='ray', actors=2, address='local'), nothing, 1) as run:\n"
        f"    run(Numbers(60, {str(folder)!r}, {str(trace)!r}, seconds=0.5), None)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    environment.pop("RAY_ADDRESS", None)
    with subprocess.Popen([sys.executable, "-c", code], env=environment, start_new_session=True) as driver:
        deadline = time.monotonic() + 240
        while len(list(folder.glob("*.json"))) < 4:
            assert driver.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        os.killpg(driver.pid, signal.SIGKILL)
    time.sleep(2)  # its workers end with it
    there = {int(file.stem) for file in folder.glob("*.json")}
    assert 4 <= len(there) < 60
    pieces = Numbers(60, folder, tmp_path / "again")
    run(pieces, None)
    assert made(folder, 60) and sorted(lines(tmp_path / "again")) == sorted(set(range(60)) - there)


def test_it_says_that_there_are_too_few_processors_and_that_a_folder_is_needed(cluster, tmp_path, capsys):
    with on_ray(Engine(kind="ray", actors=40), nothing, 2) as run:
        run(Numbers(8, tmp_path / "few", tmp_path / "trace"), None)
    assert made(tmp_path / "few", 8)
    assert "40 actors of 2 CPU each, and Ray's nodes have room for 2 (4 CPU and 0 GPU" in capsys.readouterr().err
    with (
        on_ray(Engine(kind="ray"), nothing, 8) as run,
        pytest.raises(ParamsError, match=r"1 actors of 8 CPU each, and Ray's nodes have room for 0 \(4 CPU and 0 GPU"),
    ):
        run(Numbers(1, tmp_path / "work", tmp_path / "trace"), None)
    with on_ray(RAY, nothing, 1) as run, pytest.raises(ParamsError, match="without a folder"):
        run(Numbers(1, None, tmp_path / "trace"), None)


@pytest.mark.parametrize("kind", ["openclip", pytest.param("blip", marks=pytest.mark.slow)])
def test_it_gives_the_files_of_one_process_digit_by_digit_though_a_worker_is_killed(
    cluster, tmp_path, tiny_openclip, kind
):
    folder = tiny_openclip if kind == "openclip" else tmp_path / "blip"
    if kind == "blip":
        write_blip(folder)
    pairs = table(read_folder(coco_folder(tmp_path / "in", n=24, captions=2))[0], "folder")
    spec = ModelSpec(kind=kind, weights="checkpoint", path=str(folder), max_unknown=1)
    model = load("m", spec)

    def every_step(work, run):
        out = work / "attention.parquet"
        extract_into(out, model, pairs, batch_size=2, work=work / "attention", identity="x", run=run)
        settings = {"batch_size": 4, "work": work / "cells", "identity": "x", "run": run}
        values = contributions(model, pairs, partners=2, seed=0, **settings)
        settings |= {"batch_size": 16, "work": work / "t-shap"}
        return out, values, token_contributions(model, pairs, images=2, seed=0, permutations=2, **settings)

    one, flag = every_step(tmp_path / "one", here), tmp_path / "killed"
    loading = partial(dying, partial(load, "m", spec), str(tmp_path / "ray" / "attention"), str(flag))
    with on_ray(RAY, loading, 1) as run:
        many = every_step(tmp_path / "ray", run)
    assert flag.exists()
    assert many[0].read_bytes() == one[0].read_bytes()
    assert pq.read_table(many[0]).equals(extract(model, pairs, batch_size=2))  # nor does a folder change it
    pd.testing.assert_frame_equal(many[1], one[1], check_exact=True)
    pd.testing.assert_frame_equal(many[2], one[2], check_exact=True)
    for step in ("attention", "cells", "t-shap"):
        names = {file.name: file.read_bytes() for file in (tmp_path / "ray" / step).iterdir()}
        assert names == {file.name: file.read_bytes() for file in (tmp_path / "one" / step).iterdir()}


@pytest.mark.slow
def test_a_diagnosis_on_ray_is_that_of_one_process(cluster, tmp_path, tiny_openclip):
    coco_folder(tmp_path / "in", n=12, captions=1)
    asked = [
        "diagnose",
        "--model",
        str(tiny_openclip),
        "--pairs",
        str(tmp_path / "in"),
        "--max-unknown",
        "1",
        "--quiet",
    ]
    assert main([*asked, "--out", str(tmp_path / "one.json"), "--per-pair", str(tmp_path / "one.csv")]) == 0
    ray = ["--work", str(tmp_path / "parts"), "--engine", "ray", "--actors", "1"]
    assert main([*asked, *ray, "--out", str(tmp_path / "ray.json"), "--per-pair", str(tmp_path / "ray.csv")]) == 0
    for name in ("json", "csv"):
        assert (tmp_path / f"ray.{name}").read_bytes() == (tmp_path / f"one.{name}").read_bytes()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"engine": "ray"}, "no folder for finished batches(.|\n)*--work"),
        ({"engine": "spark"}, "kind is 'spark'"),
        ({"engine": {"kind": "local", "actors": 2}}, "address, actors and gpus go with `kind: ray`"),
        ({"engine": {"kind": "ray", "actors": 0}, "work": "w"}, "actors is 0"),
        ({"engine": {"kind": "ray", "actor": 2}, "work": "w"}, "did you mean 'actors'"),
    ],
)
def test_what_an_engine_cannot_do_is_said_before_anything_is_loaded(given, said, tmp_path):
    with pytest.raises(ParamsError, match=said):
        diagnose("openclip-scenes", str(tmp_path), **given)


def test_a_model_in_memory_cannot_be_shared(tmp_path):
    with pytest.raises(ParamsError, match=r"an object(.|\n)*save_pretrained"):
        diagnose(torch.nn.Linear(1, 1), str(tmp_path), engine="ray", work=tmp_path / "w")


@pytest.mark.slow
def test_a_stage_on_ray_writes_the_files_of_one_process(cluster, tmp_path, tiny_openclip):
    coco_folder(tmp_path / "in", n=12, captions=1)
    local, files = tiny_study(tmp_path, tiny_openclip), {}
    for kind, engine in (("local", Engine()), ("ray", Engine(kind="ray"))):
        study = Study(local.params.model_copy(update={"engine": engine}), local.root)
        for folder in (study.data, study.metrics):
            shutil.rmtree(folder, ignore_errors=True)
        fetch_coco.main(study)
        for stage in (extract_attention, compute_mcs, contribution):
            stage.main(study, "trained")
        found = [*study.data.rglob("*.csv"), *study.data.rglob("checkpoints/*.json"), *study.metrics.rglob("*.json")]
        files[kind] = {str(file.relative_to(tmp_path)): file.read_bytes() for file in found}
    assert files["ray"] == files["local"] and len(files["ray"]) > 6


def lose_a_node(folder, trace):
    """A cluster of two nodes on this machine, of which the second is taken away in the middle; in a process of its own,
    for a process connects to one cluster."""
    import threading

    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    second = cluster.add_node(num_cpus=2)
    paths = {"env_vars": {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}}
    ray.init(address=cluster.address, log_to_driver=False, runtime_env=paths)

    def lose():
        while len(list(folder.glob("*.json"))) < 6:
            time.sleep(0.02)
        cluster.remove_node(second, allow_graceful=False)
        (folder.parent / "lost").touch()

    threading.Thread(target=lose, daemon=True).start()
    with on_ray(RAY, nothing, 1) as run:
        run(Numbers(40, folder, trace, seconds=0.3), None)


@pytest.mark.slow
def test_a_node_may_be_lost(tmp_path):
    """Where the other node has room, its pieces are made there; else the run ends, and the next one makes the rest."""
    folder, trace = tmp_path / "work", tmp_path / "trace"
    code = (
        "import sys, pathlib\nfrom test_ray_actors import lose_a_node\n"
        f"lose_a_node(pathlib.Path({str(folder)!r}), pathlib.Path({str(trace)!r}))\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert (tmp_path / "lost").exists(), done.stderr[-2000:]
    there = {int(file.stem) for file in folder.glob("*.json")}
    assert done.returncode == 0 or "missing pieces were made and are kept" in done.stderr
    pieces = Numbers(40, folder, tmp_path / "again")
    here(pieces, None)
    again = lines(tmp_path / "again") if len(there) < 40 else []
    assert made(folder, 40) and sorted(again) == sorted(set(range(40)) - there)
