"""What people get wrong, at the prompt and in Python: each is answered in three parts, with no traceback."""

import contextlib
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, coco_folder, write_annotations

import attention_collapse
from attention_collapse import AttentionCollapseError, diagnose, usable_information, write_scenes
from attention_collapse.cli import main
from attention_collapse.errors import ParamsError
from attention_collapse.exploration import explore

MODEL = str(ROOT / "data/controls/openclip-scenes")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with right and wrong files of every sort, in which the commands below run."""
    at = tmp_path_factory.mktemp("bad")
    coco_folder(at / "pairs", n=4)
    for name, content in {
        "text.json": "{", "list.json": "[1]", "number.json": "3", "labels.csv": "a,b\n1,2\n", "empty": "",
        "one.csv": "image_id,label\n1,x\n2,x\n3,y\n4,y\n", "no_model/config.json": "[1]", "bin.npz": "no zip",
        "odd/config.json": '{"model_type": "bert"}', "broken/open_clip_config.json": "{", "none/readme": "",
        "nothing/annotations/captions_a.json": '{"images": [], "annotations": []}',
        "keys/annotations/captions_a.json": '{"pictures": []}',
        "latin/annotations/captions_a.json": b'\xff\xfe{"images"', "inner/annotations/captions_a.json": "[[]]",
    }.items():  # fmt: skip
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    lost = {"images": [{"id": 1, "file_name": "gone.jpg"}], "annotations": [{"id": 1, "image_id": 1, "caption": "a"}]}
    write_annotations(at / "lost", lost, "a")
    (at / "lost" / "a").mkdir()
    return at


D = ["diagnose", "--model", MODEL, "--pairs", "pairs"]
FEATURES = ["information", "--labels", "one.csv", "--features"]
WRONG_ARGUMENTS = [  # argparse knows: exit status 2
    [], ["diagnos"], ["diagnose"], [*D, "--n", "0"], [*D, "--n", "-1"], [*D, "--n", "3.5"], [*D, "--n", "four"],
    [*D, "--n", "nan"], [*D, "--seed", "-1"], [*D, "--seed", "1.0"], [*D, "--rows", "cls"], [*D, "--rows", "1"],
    [*D, "--batch-size", "0"], [*D, "--partners", "-1"], [*D, "--partners", "many"], [*D, "--t-shap-images", "0"],
    [*D, "--t-shap-protocol", "shap"], [*D, "--device"], [*D, "--unknown"], [*D, "extra"],
    [*D[:3], "--pairs", ""], [*D, "--out", ""], ["models", "--all"],
    ["check", "--max-imbalance", "0.2"], ["check", "--max-imbalance", "x"], ["evidence"], ["evidence", "mend"],
    ["diff"], ["information"], ["information", "--labels", "one.csv", "--folds", "0"], ["track", "--uri"],
]  # fmt: skip
WRONG_VALUES = [  # exit status 1, in three parts, which hold the words
    ([*D[:1], "--model", "", "--pairs", "pairs"], "model"),
    ([*D[:1], "--model", "none", "--pairs", "pairs"], "none"),
    ([*D[:1], "--model", "empty", "--pairs", "pairs"], "empty"),
    ([*D[:1], "--model", "no_model", "--pairs", "pairs"], "no_model"),
    ([*D[:1], "--model", "odd", "--pairs", "pairs"], "bert"),
    ([*D[:1], "--model", "broken", "--pairs", "pairs"], "broken"),
    ([*D[:1], "--model", "gone/far", "--pairs", "pairs"], "gone/far"),
    ([*D, "--kind", "klip"], "klip"),
    ([*D[:1], "--kind", "python", "--model", "nowhere:f", "--pairs", "pairs"], "nowhere"),
    ([*D[:1], "--kind", "python", "--model", "json:nothing", "--pairs", "pairs"], "nothing"),
    ([*D[:1], "--kind", "scorer", "--model", "json", "--pairs", "pairs"], "factory"),
    ([*D[:3], "--pairs", "gone"], "gone: no such folder"),
    ([*D[:3], "--pairs", "empty"], "empty"),
    ([*D[:3], "--pairs", "none"], "none"),
    ([*D[:3], "--pairs", "nothing"], "nothing"),
    ([*D[:3], "--pairs", "keys"], "keys"),
    ([*D[:3], "--pairs", "latin"], "latin"),
    ([*D[:3], "--pairs", "inner"], "inner"),
    ([*D[:3], "--pairs", "lost"], "0 usable images"),
    ([*D, "--n", "5"], "and 4 images"),
    ([*D, "--n", "99999999999999999999"], "and 4 images"),
    ([*D, "--seed", str(2**32)], "seed is 4294967296"),
    ([*D, "--device", "tpu9"], "tpu9"),
    ([*D, "--device", ""], "device is ''"),
    ([*D, "--device", "cuda:99"], "cuda:99"),
    ([*D, "--out", "."], "out is ., which cannot be written"),
    ([*D, "--out", "empty/result.json"], "empty/result.json, which cannot be written"),
    ([*D, "--per-pair", "values.xlsx"], ".csv or .parquet"),
    ([*D, "--per-pair", "values"], ".csv or .parquet"),
    ([*D, "--per-pair", "empty/values.csv"], "cannot be written"),
    ([*D, "--plots", "empty"], "plots is empty"),
    ([*D, "--out", "/dev/full"], "/dev/full, which cannot be written"),
    ([*D, "--out", "/dev/null"], "/dev/null, which cannot be written"),
    ([*D, "--per-pair", "/proc/self/x.csv"], "cannot be written"),
    ([*D, "--out", "x.csv", "--per-pair", "pairs/../x.csv"], "out and per_pair are both x.csv"),
    ([*D, "--work", "empty/parts"], "work is empty/parts"),
    (["information", "--labels", "gone.csv", "--features", "bin.npz"], "gone.csv"),
    (["information", "--labels", "labels.csv", "--features", "bin.npz"], "labels.csv"),
    (["information", "--labels", "text.json", "--features", "bin.npz"], "text.json"),
    (["information", "--labels", "list.json", "--features", "bin.npz"], "list.json"),
    (["information", "--labels", ".", "--features", "bin.npz"], "cannot be read as CSV"),
    ([*FEATURES, "bin.npz"], "bin.npz"),
    ([*FEATURES, "gone.npz"], "gone.npz"),
    ([*FEATURES, "pairs"], "pairs"),
    ([*FEATURES, "bin.npz", "--folds", "1"], "folds is 1"),
    ([*FEATURES, "bin.npz", "--model", MODEL], "features given"),
    (["information", "--labels", "one.csv"], "no source of features"),
    (["status"], "lies in no repository"),
    (["track", "--uri", "nonsense://x"], "lies in no repository"),
    (["measures", "--write"], "lies in no repository"),
]  # fmt: skip


def three_parts(error):
    return re.match(r"error: .+\n  expected: .+\n  what to do: .+\n$", error) and "Traceback" not in error


@pytest.mark.parametrize("arguments", WRONG_ARGUMENTS, ids=" ".join)
def test_wrong_arguments_are_said_with_the_usage(place, monkeypatch, capsys, arguments):
    monkeypatch.chdir(place)
    with pytest.raises(SystemExit) as end:
        main(arguments)
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.startswith("usage: ") and "error: " in error
    assert not re.search(r"\b_[a-z]+", error)  # no name of a function of ours


@pytest.mark.parametrize(("arguments", "said"), WRONG_VALUES, ids=[" ".join(words) for words, _ in WRONG_VALUES])
def test_wrong_values_are_said_in_three_parts(place, hub_cache, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(place)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    told = error[error.index("error: ") :]  # after what was told of the progress
    assert three_parts(told) and said in told, error


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 3.5), ("n", "4"), ("n", True), ("n", 0), ("n", float("nan")), ("n", [3]), ("seed", -1), ("seed", 1.5),
        ("seed", None), ("seed", 2**32), ("rows", 1), ("rows", None), ("rows", "ALL"), ("device", 0), ("device", None),
        ("device", ""), ("batch_size", 0), ("batch_size", "8"), ("batch_size", None), ("partners", -1),
        ("partners", 2.0), ("partners", True), ("threads", 0), ("threads", "1"), ("t_shap_images", 0),
        ("t_shap_protocol", "x"), ("t_shap_protocol", 3), ("strict", "yes"), ("strict", 1), ("strict", None),
        ("out", 3), ("out", b"x"), ("out", ""), ("per_pair", "x.txt"), ("per_pair", 3), ("plots", 3), ("work", True),
        ("progress", "yes"), ("pairs", None), ("pairs", 3), ("pairs", b"x"), ("pairs", ""), ("pairs", "a\0b"),
        ("model", None), ("model", 3), ("model", True), ("model", ["clip"]), ("model", {}), ("model", {1: 2}),
        ("model", {"kind": "clip", "weights": 3}),
    ],
    ids=str,
)  # fmt: skip
def test_wrong_types_from_python_are_errors_of_ours_without_private_names(tmp_path, name, value):
    given = {"model": MODEL, "pairs": tmp_path} | {name: value}
    with pytest.raises(AttentionCollapseError) as raised:
        diagnose(given.pop("model"), given.pop("pairs"), **given)
    assert name in str(raised.value) and "expected: " in str(raised.value)
    assert not re.search(r"\b_[a-z]+", str(raised.value))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("labels", None), ("labels", 3), ("labels", ""), ("folds", 1), ("folds", 2.5), ("folds", True), ("folds", "5"),
        ("components", 0), ("components", "x"), ("seed", -1), ("seed", None), ("device", 0), ("batch_size", 0),
        ("strict", 1), ("out", 3), ("features", 3), ("features", b"x"),
    ],
    ids=str,
)  # fmt: skip
def test_the_same_of_usable_information(name, value):
    features = {"image_id": [1, 2], "image": np.zeros((2, 1)), "text": np.zeros((2, 1))}
    with pytest.raises(AttentionCollapseError, match=name):
        usable_information(**{"labels": {1: "a", 2: "b"}, "features": features} | {name: value})


@pytest.mark.parametrize(("name", "value"), [("out", None), ("n", "3"), ("n", -1), ("n", True), ("seed", 1.5)], ids=str)
def test_the_same_of_scenes(tmp_path, name, value):
    with pytest.raises(ParamsError, match=f"{name} is"):
        write_scenes(**{"out": tmp_path, "n": 1, "seed": 0} | {name: value})


@pytest.mark.parametrize("module", [None, "model", 3])
def test_the_same_of_the_probe(module):
    with pytest.raises(AttentionCollapseError, match=r"torch\.nn\.Module"):
        attention_collapse.AttentionProbe(module)


@pytest.fixture
def scenes(tmp_path):
    """Scenes, and a copy of a model, each with its bytes as they were."""
    shutil.copytree(MODEL, tmp_path / "model")
    write_scenes(tmp_path / "scenes", 3, seed=0)
    (tmp_path / "table.csv").write_text("image,caption\n" + "".join(f"scenes/images/{n}.png,a\n" for n in range(3)))
    for name in ("list.json", "table.parquet", "page.html", "measures.png"):
        (tmp_path / name).write_text("{}" if name == "list.json" else "mine")
    (tmp_path / "empty.json").touch()
    return tmp_path


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    "words",
    [
        "--out table.csv", "--out list.json", "--out scenes/annotations/captions_scenes.json", "--out page.html",
        "--out model/open_clip_config.json", "--out model/new.json", "--out ./model/../model/in/new.json",
        "--per-pair table.csv", "--per-pair table.parquet", "--per-pair model/new.csv", "--plots model",
        "--plots model/figures", "--plots .", "--work model", "--work model/parts",
    ],
)  # fmt: skip
def test_no_output_replaces_what_is_no_result_or_lies_in_the_model(scenes, monkeypatch, capsys, words):
    monkeypatch.chdir(scenes)
    before, forbidden = contents(scenes), {"--plots": "plots", "--work": "work"}.get(words.split()[0], words.split()[1])
    monkeypatch.setattr("attention_collapse.diagnosis.read_pairs", lambda *_, **__: pytest.fail("it was begun"))
    assert main(["diagnose", "--model", "model", "--pairs", "scenes", *words.split()]) == 1
    error = capsys.readouterr().err
    assert three_parts(error) and forbidden.lstrip("./") in error and contents(scenes) == before


@pytest.mark.parametrize(
    "words",
    [
        "information --labels one.csv --features one.npz --out table.csv",
        "information --labels one.csv --model model --pairs scenes --out model/new.json",
        "questions --model model --questions scenes --out table.csv",
        "questions --model model --questions scenes --out model/new.json",
        "explore --model model --pairs scenes --out page.html",
        "explore --model model --pairs scenes --out model/page.html",
        "explore --model model --pairs scenes --out table.csv",
    ],
)
def test_nor_of_any_other_command(scenes, monkeypatch, capsys, words):
    monkeypatch.chdir(scenes)
    before = contents(scenes)
    assert main(words.split()) == 1
    error = capsys.readouterr().err
    assert (
        three_parts(error)
        and f"out {'would replace' if 'new' not in words and 'model/' not in words else 'is'}" in error
    )
    assert contents(scenes) == before


@pytest.mark.parametrize("form", ["--out", "--per-pair"])
def test_the_root_of_the_disk_is_no_place_to_write(scenes, form, capsys):
    with contextlib.chdir(scenes):
        status = main(["diagnose", "--model", "model", "--pairs", "gone", form, "/"])
    assert status == 1 and three_parts(capsys.readouterr().err)


def test_an_earlier_result_of_the_same_form_is_replaced_and_an_empty_file_too(scenes):
    places = {"out": scenes / "empty.json", "per_pair": scenes / "values.parquet", "plots": scenes / "figures"}
    given = {"partners": 0, "n": 2} | places
    for table in ("values.csv", "values.parquet", "values.csv", "values.parquet"):
        diagnose(str(scenes / "model"), scenes / "scenes", **given | {"per_pair": scenes / table})
    page = {"show": 1, "twin": False, "out": scenes / "new.html"}
    for _ in range(2):
        explore(str(scenes / "model"), scenes / "scenes", **page)
    with pytest.raises(ParamsError, match=r"would replace .*empty\.json, which is no earlier page"):
        explore(str(scenes / "model"), scenes / "scenes", **page | {"out": places["out"]})
    with pytest.raises(ParamsError, match=r"would replace .*new\.html, which is no earlier result"):
        diagnose(str(scenes / "model"), scenes / "scenes", **given | {"out": page["out"]})


def test_numpys_numbers_and_paths_are_as_good_as_pythons(tmp_path):
    class Somewhere:  # what os.fspath takes
        def __fspath__(self):
            return str(tmp_path / "scenes")

    write_scenes(str(tmp_path / "scenes"), np.int64(3), np.int32(0))
    result = diagnose(
        Path(MODEL), Somewhere(), n=np.int64(3), seed=np.uint8(1), partners=np.int32(0), batch_size=np.int16(2),
        strict=np.bool_(True), out=tmp_path / "result.json",
    )  # fmt: skip
    assert result.n_images == 3 and type(result.settings["n"]) is int
    assert json.loads((tmp_path / "result.json").read_text())["settings"]["seed"] == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_place_is_said_before_anything_is_loaded(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ParamsError, match="cannot be written"):
        diagnose(MODEL, "gone", out=tmp_path / "result.json")
