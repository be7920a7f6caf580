import json
from pathlib import PurePosixPath

import pytest
from conftest import ROOT, SHARED, coco_folder
from http_server import serve_coco
from pydantic import ValidationError

from attention_collapse.data.download import Fetcher, pinned_url
from attention_collapse.data.pairs import read_study
from attention_collapse.errors import DataError, DownloadError
from attention_collapse.files import read_json, sha256_bytes, sha256_file
from attention_collapse.params import Params, load_params
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


def test_a_folder_may_be_of_any_format_and_the_manifest_pins_it(tmp_path, monkeypatch):
    import formats

    monkeypatch.setenv("ATTENTION_COLLAPSE_CACHE", str(tmp_path / "unpacked"))
    for build in (formats.csv_in_utf_16_with_semicolons, formats.folder_of_shards, formats.karpathy, formats.parquet):
        root = tmp_path / build.__name__
        source, options, name = build(root / "in")
        one = study(root, source="folder", path=str(source), n=4, **options)
        record = run(one, tmp_path)
        assert (record["n_images"], record["n_captions"]) == (4, 8) and record["recognised_as"]["format"].startswith(
            name
        )
        assert len(read_study(one.pairs, one.manifest)) == 4 and run(one, tmp_path) == record
        assert not any(text in one.manifest.read_text() for texts in formats.CAPTIONS for text in texts)
    with pytest.raises(ValueError, match="go with `source: folder`"):
        study(tmp_path, source="embedded", n=4, split="x")


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


def sugarcrepe(*numbers):
    return {str(k): {"filename": f"{number:012d}.jpg", "caption": f"picture {number} of two red circles",
                     "negative_caption": f"picture {number} of two blue circles"}
            for k, number in enumerate(numbers)}  # fmt: skip


def test_hard_foils_are_downloaded_pinned_and_reproduced(server, tmp_path):
    annotations = serve_coco(server, tmp_path / "coco", n=6)
    server.files["/annotations.json"] = annotations.read_bytes()
    server.files["/data/add_att.json"] = json.dumps(sugarcrepe(2, 3, 5, 99)).encode()
    server.files["/data/swap_obj.json"] = json.dumps({"7": sugarcrepe(3)["0"] | {"negative_caption": "x"}}).encode()
    urls = [f"{server.url}/data/{name}.json" for name in ("add_att", "swap_obj")]
    asked = {"source": "val2017", "annotations_url": f"{server.url}/annotations.json", "foils": urls}
    one = study(tmp_path, n=2, **asked)
    first = run(one, tmp_path)
    assert {image["id"] for image in first["images"]} <= {2, 3, 5} and first["n_images"] == 2
    assert [(item["kind"], item["id"]) for item in first["skipped"]] == [("foil", "add_att/3")]
    assert [(record["file"], record["url"], record["n"]) for record in first["foils"]] == [
        ("add_att.json", urls[0], 4), ("swap_obj.json", urls[1], 1),
    ]  # fmt: skip
    rows = read_study(one.pairs, one.manifest)
    assert first["n_foils"] == sum(len(foils) for captions in rows["foils"] for foils in captions)
    assert all(captions[0] for captions in rows["foils"])
    assert {foil["changed"] for row in rows["foils"] for foil in row[0]} <= {"add_att", "swap_obj"}
    asked_before = len(server.requests)
    assert run(one, tmp_path) == first and len(server.requests) == asked_before  # all from the cache
    with pytest.raises(DataError, match="[34] images with captions"):
        run(study(tmp_path / "b", n=4, **asked), tmp_path)

    # Another machine: the foils must come as the manifest pins them, and so must their captions be in the study.
    before = one.manifest.read_bytes()
    server.files["/data/add_att.json"] = json.dumps(sugarcrepe(2, 3)).encode()
    with pytest.raises(DownloadError, match="pinned in the manifest"):
        fetch(one, Fetcher(tmp_path / "cache2", retries=0, backoff=0.0))
    assert one.manifest.read_bytes() == before


def test_a_url_that_names_its_bytes_takes_no_others_at_the_first_run_already(server, tmp_path):
    server.files["/annotations.json"] = serve_coco(server, tmp_path / "coco", n=3).read_bytes()
    server.files["/data/add_att.json"] = body = json.dumps(sugarcrepe(2, 3)).encode()
    url = f"{server.url}/data/add_att.json"
    asked = {"source": "val2017", "annotations_url": f"{server.url}/annotations.json", "n": 2}
    record = run(study(tmp_path, **asked, foils=[f"{url}#sha256={sha256_bytes(body)}"]), tmp_path)
    assert record["foils"][0] == {
        "file": "add_att.json",
        "n": 2,
        "n_skipped": 0,
        "sha256": sha256_bytes(body),
        "url": url,
    }
    other = study(tmp_path / "b", **asked, foils=[f"{url}#sha256={'0' * 64}"])
    with pytest.raises(DownloadError, match="0000"):
        fetch(other, Fetcher(tmp_path / "cache2", retries=0, backoff=0.0))
    with pytest.raises(ValidationError, match="no #sha256= with 64 digits of 0-9a-f"):
        study(tmp_path / "c", **asked, foils=[f"{url}#sha1=0a"])
    with pytest.raises(ValidationError, match="no #sha256="):
        study(tmp_path / "d", **asked, foils=[f"{url}#sha256=0a1b"])


def test_the_coco_study_pins_each_file_of_sugarcrepe():
    sources = load_params(ROOT / "studies" / "coco" / "params.yaml").fetch_coco.foils
    pins = {PurePosixPath(url).name: sha256 for url, sha256 in map(pinned_url, sources)}
    assert list(pins) == read_json(ROOT / "data" / "sugarcrepe_counts.json")["files"] and all(pins.values())
    if not (folder := SHARED / "sugarcrepe").is_dir():
        pytest.skip(f"{folder} is not on this machine: the pins are not compared with the files")
    assert pins == {file.name: sha256_file(file) for file in folder.glob("*.json")}


def test_foils_of_a_folder_that_lacks_their_images(tmp_path):
    coco_folder(tmp_path / "in", n=3)
    folder = tmp_path / "sugarcrepe"
    folder.mkdir()
    (folder / "add_obj.json").write_text(json.dumps(sugarcrepe(1, 7)))
    (folder / "LICENSE").write_text("words")
    asked = {"source": "folder", "path": str(tmp_path / "in"), "n": None, "foils": str(folder)}
    record = run(study(tmp_path, **asked), tmp_path)
    assert (record["n_images"], record["n_foils"], record["n_skipped"]) == (1, 1, 1)
    assert record["skipped"][0]["reason"] == "no image 000000000007.jpg in the annotations"
    assert record["foils"][0]["file"] == "add_obj.json" and "url" not in record["foils"][0]
    with pytest.raises(DataError, match="1 items skipped"):
        run(study(tmp_path, strict=True, **asked), tmp_path)
    (folder / "add_obj.json").unlink()
    with pytest.raises(DataError, match=r"no \*\.json in this folder"):
        run(study(tmp_path, **asked), tmp_path)
    with pytest.raises(DataError, match=r"gone\.json: no such file"):
        run(study(tmp_path, **asked | {"foils": str(tmp_path / "gone.json")}), tmp_path)


def test_foils_go_with_a_source_of_pictures():
    with pytest.raises(ValueError, match="makes its own foils"):
        Params.model_validate({"study": "s", "params_file": "p", "models": {"m": MODEL}, "fetch_coco": {"foils": "x"}})


def test_embedded_scenes_have_a_foil_for_every_caption(tmp_path):
    one = study(tmp_path, source="embedded", n=4)
    record = run(one, tmp_path)
    assert record["n_foils"] == record["n_captions"] == 20
    assert all(len(foils) == 1 for row in read_study(one.pairs, one.manifest)["foils"] for foils in row)
