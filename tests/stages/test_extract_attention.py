import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import coco_folder

from attention_collapse.data.pairs import read_folder, table
from attention_collapse.engine import attention, attention_pieces
from attention_collapse.engine.attention import extract, extract_into
from attention_collapse.engine.attention_table import blocks
from attention_collapse.engine.scores import score_blocks, score_pairs
from attention_collapse.errors import ModelError
from attention_collapse.models import load
from attention_collapse.models.spec import ModelSpec
from attention_collapse.params import Params
from attention_collapse.stages import extract_attention, fetch_coco
from attention_collapse.study import attention as study_attention
from attention_collapse.study import checkpoints, layout
from attention_collapse.study.attention import attention_table
from attention_collapse.study.layout import Study

STATISTICS = [
    f"{name}_{rows}"
    for rows in ("all", "readout")
    for name in ("entropy", "uniform", "support", "entropy_normalized", "mass_image", "mass_text", "mass_other")
]


@pytest.fixture(scope="module")
def model(tiny_openclip):
    return load("tiny", ModelSpec(kind="openclip", weights="checkpoint", path=str(tiny_openclip)))


@pytest.fixture
def pairs(tmp_path):
    return table(read_folder(coco_folder(tmp_path / "in", n=5, captions=3))[0], "folder")


def test_one_row_an_item_tower_layer_and_head(model, pairs):
    frame = extract(model, pairs, batch_size=2).to_pandas()
    surrogate = frame[frame["tower"] == "surrogate"]
    assert len(surrogate) == 15 and (surrogate["entropy_all"] <= np.log(16)).all()
    assert len(frame) == 5 * 2 * 4 + 15 * 3 * 2 + 15
    assert not frame.duplicated(["image_id", "caption_id", "tower", "layer", "head"]).any()
    assert frame[frame["tower"] == "vision"]["caption_id"].isna().all()
    assert set(frame[frame["tower"] == "text"]["caption_id"]) == {10 * i + j for i in range(1, 6) for j in range(3)}
    frame = frame[frame["tower"] != "surrogate"]
    assert np.allclose(frame[["mass_image_all", "mass_text_all", "mass_other_all"]].sum(axis=1), 1, atol=1e-5)
    assert (frame["entropy_all"] <= frame["uniform_all"] + 1e-5).all()
    assert (frame[frame["tower"] == "vision"]["mass_text_all"] == 0).all()


def test_each_image_is_encoded_once_and_each_caption_once(model, pairs, monkeypatch):
    counts = {"vision": 0, "text": 0}
    embed = type(model).embed

    def counting(self, batch):
        counts[batch.reads[0].tower] += len(batch.truncated)
        return embed(self, batch)

    monkeypatch.setattr(type(model), "embed", counting)
    extract(model, pairs, batch_size=4)
    assert counts == {"vision": 5, "text": 15}


def test_the_batch_size_changes_nothing_but_rounding(model, pairs):
    one, all_ = (extract(model, pairs, batch_size=size).to_pandas() for size in (1, 64))
    assert np.allclose(one[STATISTICS].astype(float), all_[STATISTICS].astype(float), atol=2e-6, equal_nan=True)
    assert (one[["image_id", "layer", "head"]] == all_[["image_id", "layer", "head"]]).all().all()


def test_finished_batches_are_not_run_again(model, pairs, tmp_path, monkeypatch):
    whole = extract(model, pairs, batch_size=2)
    calls, probe = [], attention_pieces.probe_batch

    def failing(*args):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return probe(*args)

    monkeypatch.setattr(attention_pieces, "probe_batch", failing)
    with pytest.raises(KeyboardInterrupt):
        extract(model, pairs, batch_size=2, work=tmp_path / "work", identity="x")
    resumed = extract(model, pairs, batch_size=2, work=tmp_path / "work", identity="x")
    assert len(calls) == 4 + 8 and resumed.equals(whole)  # 3 + 8 batches in all, 3 of them kept
    calls[:] = [0] * 10
    extract(model, pairs, batch_size=2, work=tmp_path / "work", identity="other")
    assert len(calls) == 10 + 11  # batches of another run are not mistaken for this one's


@pytest.mark.parametrize("most", [1, 500, 10**6])
def test_a_table_that_never_is_in_memory_is_the_same_and_gives_the_same_scores(model, pairs, tmp_path, most):
    shuffled = pairs.select([3, 0, 4, 1, 2])  # images need not come by their ids
    whole, out = extract(model, shuffled, batch_size=2), tmp_path / "out.parquet"
    rows = extract_into(out, model, shuffled, batch_size=2, work=tmp_path / "work", about={"a": "b"})
    assert pq.read_table(out).equals(whole) and rows == whole.num_rows
    assert pq.read_schema(out).metadata[b"a"] == b"b"
    scores, heads = score_blocks(blocks(out, most), model.family)
    expected = score_pairs(whole.to_pandas(), model.family)
    pd.testing.assert_frame_equal(scores.pairs, expected.pairs)
    pd.testing.assert_frame_equal(scores.layers, expected.layers)
    assert scores.alignment == expected.alignment
    frame = whole.to_pandas()
    means = frame[frame["tower"].isin(["vision", "text"])].groupby(["tower", "layer", "head"])["entropy_all"].mean()
    np.testing.assert_allclose(heads["entropy_all"], means, rtol=1e-12)


def test_blocks_hold_no_more_images_than_asked_for(model, pairs, tmp_path):
    out = tmp_path / "out.parquet"
    rows = extract_into(out, model, pairs, batch_size=2, work=tmp_path / "work")
    parts = list(blocks(out, 2 * rows // len(pairs)))
    assert [part["image_id"].nunique() for part in parts] == [2, 2, 1]
    assert sum(map(len, parts)) == rows


@pytest.mark.slow
def test_kill_in_the_middle_of_the_stage(tiny_openclip, tmp_path):
    """kill -9, then the same command again: the table equals that of a run that was never disturbed."""
    coco_folder(tmp_path / "in", n=60, captions=5)
    tables = {}
    for name in ("whole", "killed"):
        root = tmp_path / name
        root.mkdir()
        params = {
            "study": "s",
            "params_file": "params.yaml",
            "models": {"m": {"kind": "openclip", "weights": "checkpoint", "path": str(tiny_openclip)}},
            "fetch_coco": {"source": "folder", "path": str(tmp_path / "in"), "n": None},
            "extract_attention": {"batch_size": 1},
        }
        (root / "params.yaml").write_text(yaml.safe_dump(params))
        run = [sys.executable, "-m", "attention_collapse.stages.fetch_coco"]
        subprocess.run(run, cwd=root, check=True)
        run = [sys.executable, "-m", "attention_collapse.stages.extract_attention", "--model", "m"]
        if name == "killed":
            process = subprocess.Popen(run, cwd=root)
            work = root / "data" / "s" / "attention" / ".m.parts"
            deadline = time.monotonic() + 120
            while len(list(work.glob("*.parquet"))) < 20:
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.01)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            assert not (root / "data" / "s" / "attention" / "m.parquet").exists()
            kept = {p: p.stat().st_mtime_ns for p in sorted(work.glob("0*.parquet"))[:19]}
        subprocess.run(run, cwd=root, check=True)
        tables[name] = pq.read_table(root / "data" / "s" / "attention" / "m.parquet")
        assert not (root / "data" / "s" / "attention" / ".m.parts").exists()
    assert kept and tables["killed"].equals(tables["whole"])


def test_a_first_run_records_the_hubs_revision_and_later_runs_insist_on_it(tmp_path):
    record = tmp_path / "m.json"
    spec = ModelSpec(kind="clip", weights="hub", repo="org/name")
    assert checkpoints.pinned(spec, record) == (spec, {})
    found = {"revision": "a" * 40, "sha256": "b" * 64, "definition_sha256": "c" * 64}
    record.write_text(json.dumps(found | {"weights": "hub org/name"}))
    exact, known = checkpoints.pinned(spec, record)
    assert exact.revision == "a" * 40 and known == found
    checkpoints.require_pin("m", found, known, record)
    for key in found:
        with pytest.raises(ModelError, match=f"m: {key} x(.|\n)*recorded in"):
            checkpoints.require_pin("m", found | {key: "x"}, known, record)
    other = spec.model_copy(update={"revision": "d" * 40})  # a new pin in the parameters
    assert checkpoints.pinned(other, record) == (other, {})
    elsewhere = ModelSpec(kind="clip", weights="hub", repo="org/other")
    assert checkpoints.pinned(elsewhere, record) == (elsewhere, {})
    local = ModelSpec(kind="clip", weights="checkpoint", path="x")
    assert checkpoints.pinned(local, record) == (local, {})


@pytest.fixture
def small(tmp_path, tiny_openclip):
    """A study of one model whose pairs are there."""
    coco_folder(tmp_path / "in", n=3, captions=1)
    data = {
        "study": "s",
        "params_file": "params.yaml",
        "models": {"m": {"kind": "openclip", "weights": "checkpoint", "path": str(tiny_openclip)}},
        "fetch_coco": {"source": "folder", "path": str(tmp_path / "in"), "n": None},
    }
    study = Study(Params.model_validate(data), tmp_path)
    fetch_coco.main(study)
    return study


def test_the_attention_table_is_made_where_it_is_not_there_and_kept_where_it_is(small, monkeypatch):
    ran = []
    extract_study = study_attention.extract_study
    monkeypatch.setattr(study_attention, "extract_study", lambda *given: (ran.append(1), extract_study(*given)))

    def read():
        return pq.read_table(attention_table(small, "m")[0])

    first, (_, about) = read(), attention_table(small, "m")
    assert len(ran) == 1 and read().equals(first) and about["family"] == "dual encoder"
    small.attention("m").unlink()  # as in a fresh clone
    assert read().equals(first) and len(ran) == 2
    small.attention("m").write_bytes(b"cut short")
    assert read().equals(first) and len(ran) == 3


def test_a_table_of_other_code_or_pairs_is_not_used(small, monkeypatch):
    ran = []
    extract_study = study_attention.extract_study
    monkeypatch.setattr(study_attention, "extract_study", lambda *given: (ran.append(1), extract_study(*given)))
    attention_table(small, "m")
    monkeypatch.setattr(layout, "code_id", lambda module, kind: f"other code of {module}")
    attention_table(small, "m")
    assert len(ran) == 2
    small.manifest.write_text(small.manifest.read_text().replace("source", "source"))
    attention_table(small, "m")
    assert len(ran) == 2
    small.manifest.write_text(small.manifest.read_text() + " ")
    attention_table(small, "m")
    assert len(ran) == 3


def test_another_processors_digits_change_no_committed_file(small, monkeypatch):
    """Scores that differ by rounding leave the tables and the metrics of every stage after them as they stand."""
    from attention_collapse.engine import contribution as engine_contribution
    from attention_collapse.stages import compute_mcs, contribution

    def run():
        extract_attention.main(small, "m")
        compute_mcs.main(small, "m")
        contribution.main(small, "m")
        files = [*small.data.rglob("*.csv"), *small.data.rglob("checkpoints/*.json"), *small.metrics.rglob("*.json")]
        return {file: file.read_bytes() for file in files}

    before = run()
    assert len(before) == 9
    score_cells, extracted = engine_contribution.score_cells, attention.extract_into

    def moved(found, by):
        cells = {name: values * by(values.shape) for name, values in found.cells.items()}
        images = found.grid.images * by((len(found.grid.images), 1))
        return replace(found, cells=cells, grid=replace(found.grid, images=images))

    def rounded(*args, **kwargs):
        return moved(
            score_cells(*args, **kwargs),
            lambda shape: 1 + 3e-6 * np.cos(np.arange(np.prod(shape))).reshape(shape),
        )

    def drifted(out, *args, **kwargs):
        rows = extracted(out, *args, **kwargs)
        table = pq.read_table(out)
        index = table.column_names.index("entropy_all")
        other = table.set_column(index, "entropy_all", pa.array(table["entropy_all"].to_numpy() * (1 + 2e-6)))
        pq.write_table(other.replace_schema_metadata(table.schema.metadata), out)
        return rows

    monkeypatch.setattr(engine_contribution, "score_cells", rounded)
    monkeypatch.setattr(study_attention, "extract_into", drifted)
    assert run() == before
    monkeypatch.setattr(engine_contribution, "score_cells", lambda *a, **k: moved(score_cells(*a, **k), lambda _: 1.01))
    changed = run()
    assert {file.name for file, data in changed.items() if data != before[file]} == {"m.csv", "m.json"}
