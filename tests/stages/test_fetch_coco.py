import json

import pytest
from conftest import coco_folder
from http_server import serve_coco

from attention_collapse.data.download import Fetcher
from attention_collapse.data.pairs import read_study
from attention_collapse.errors import DataError, DownloadError
from attention_collapse.files import read_json
from attention_collapse.params import Params
from attention_collapse.stages.fetch_coco import fetch
from attention_collapse.study.layout import Study

MODEL = {"kind": "openclip", "weights": "untrained", "architecture": "ViT-B-32", "seed": 0}


def study(root, **fetch_coco):
    data = {"study": "s", "params_file": "params.yaml", "models": {"m": MODEL}, "fetch_coco": fetch_coco}
    return Study(Params.model_validate(data), root)


def run(study, tmp_path):
    fetch(study, Fetcher(tmp_path / "cache", retries=1, backoff=0.0, timeout=5.0))
    return read_json(study.manifest)


def test_embedded(tmp_path):
    first = run(study(tmp_path / "a", source="embedded", n=4), tmp_path)
    again = run(study(tmp_path / "b", source="embedded", n=4), tmp_path)
    other = run(study(tmp_path / "c", source="embedded", n=4, seed=1), tmp_path)
    assert first == again and first["evidence_id"] != other["evidence_id"]
    assert (first["n_images"], first["n_captions"], first["n_skipped"]) == (4, 20, 0)


def test_folder_names_what_it_left_out(tmp_path):
    coco_folder(tmp_path / "in", n=3)
    (tmp_path / "in" / "val2017" / "000000000003.jpg").write_bytes(b"\xff\xd8")
    record = run(study(tmp_path, source="folder", path=str(tmp_path / "in"), n=None), tmp_path)
    assert record["n_images"] == 2 and record["skipped"][0]["id"] == "3"
    with pytest.raises(DataError, match="1 items skipped"):
        run(study(tmp_path, source="folder", path=str(tmp_path / "in"), n=None, strict=True), tmp_path)


def test_val2017_downloads_pins_and_reproduces(server, tmp_path):
    annotations = serve_coco(server, tmp_path / "coco", n=6)
    server.files["/annotations.json"] = annotations.read_bytes()
    one = study(tmp_path, source="val2017", n=4, annotations_url=f"{server.url}/annotations.json")
    first = run(one, tmp_path)
    assert first["n_images"] == 4 and all(image["url"].startswith(server.url) for image in first["images"])
    rows = read_study(one.pairs, one.manifest)
    assert len(rows) == 4 and rows[0]["captions"]
    asked = len(server.requests)
    assert run(one, tmp_path) == first and len(server.requests) == asked  # all from the cache

    # Another machine, without a cache: what the manifest pins must come unchanged.
    name = f"/val2017/{first['images'][0]['file_name']}"
    original = server.files[name]
    server.files[name] = server.files["/val2017/000000000001.jpg"] + b"x"
    before = one.manifest.read_bytes()
    with pytest.raises(DownloadError, match="pinned in the manifest"):
        fetch(one, Fetcher(tmp_path / "cache2", retries=0, backoff=0.0))
    server.files.pop(name)
    with pytest.raises(DownloadError, match="HTTP 404"):
        fetch(one, Fetcher(tmp_path / "cache3", retries=0, backoff=0.0))
    assert one.manifest.read_bytes() == before  # a failed run leaves the pins
    server.files[name] = original
    fetch(one, Fetcher(tmp_path / "cache4", retries=0, backoff=0.0))
    assert one.manifest.read_bytes() == before


def test_val2017_without_a_network(tmp_path):
    one = study(tmp_path, source="val2017", n=4, annotations_url="http://127.0.0.1:9/a.json")
    with pytest.raises(DownloadError, match="check the connection"):
        run(one, tmp_path)
    assert not one.manifest.exists()


def test_the_first_run_lists_images_that_are_gone(server, tmp_path):
    annotations = serve_coco(server, tmp_path / "coco", n=3)
    server.files["/annotations.json"] = annotations.read_bytes()
    del server.files["/val2017/000000000002.jpg"]
    record = run(study(tmp_path, source="val2017", n=3, annotations_url=f"{server.url}/annotations.json"), tmp_path)
    assert record["n_images"] == 2 and record["skipped"][0]["id"] == "2"
    assert "caption" not in json.dumps(record["images"]).replace("caption_ids", "").replace("captions_sha256", "")
