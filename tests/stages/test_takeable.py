"""Pictures that a model's processor cannot take: skipped with the reason, by one decision for all that is measured."""

import json
import shutil

import pandas as pd
import pytest
from conftest import coco_folder, photograph
from test_compute_and_stats import run, tiny_study
from tiny.decoders import write_llava_next, write_qwen2_vl
from tiny.encoders import write_clip, write_vilt

from attention_collapse import diagnose
from attention_collapse.cli import main
from attention_collapse.data.pairs import read_folder, table
from attention_collapse.engine.takeable import takeable
from attention_collapse.errors import DataError, ModelError
from attention_collapse.files import read_json
from attention_collapse.models.interface import Provenance
from attention_collapse.models.kinds.scorer import Scorer

WRITERS = {"clip": write_clip, "vilt": write_vilt, "llava-next": write_llava_next, "qwen2-vl": write_qwen2_vl}
# Which of these each kind's processor cannot take, by its own rule: ViLT's shorter side of 32 makes the longer one at
# most 53, and a side below half a pixel is 0; Qwen2-VL allows a ratio of 200; LLaVA-NeXT keeps half a pixel per patch.
THIN, TALL = (50, 1), (1, 2000)
REFUSED = {"clip": set(), "vilt": {THIN, TALL}, "llava-next": {THIN}, "qwen2-vl": {TALL}}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoints")
    for kind, write in WRITERS.items():
        write(root / kind)
    return root


@pytest.fixture
def pairs(tmp_path):
    """Six pictures: the second 50 by 1 pixels, the fifth 1 by 2,000."""
    folder = coco_folder(tmp_path / "pairs", n=6, captions=2)
    for image, size in ((2, THIN), (5, TALL)):
        photograph(folder / "val2017" / f"{image:012d}.jpg", size, seed=image)
    return folder


@pytest.mark.parametrize("kind", WRITERS)
def test_what_a_kind_cannot_take_is_skipped_and_all_measures_see_the_same_images(kind, folders, pairs, capsys):
    result = diagnose(str(folders / kind), pairs, partners=2, max_unknown=1, t_shap_protocol="native", t_shap_images=2)
    refused = {image for image, size in (("2", THIN), ("5", TALL)) if size in REFUSED[kind]}
    skipped = {item["id"]: item for item in result.skipped}
    assert skipped.keys() == refused and all(item["kind"] == "image" and item["reason"] for item in skipped.values())
    left = 6 - len(refused)
    assert (result.n_images, result.n_pairs) == (left, 2 * left)
    assert result["score"].n + result["score"].n_undefined == left
    assert result.to_dict()["skipped"] == list(result.skipped)
    for image in refused:
        assert f"skipped image {image}: " in result.text()


def test_the_numbers_are_those_of_a_folder_without_these_pictures(folders, pairs, tmp_path):
    own = diagnose(str(folders / "vilt"), pairs, partners=2, max_unknown=1).to_dict()
    rest = shutil.copytree(pairs, tmp_path / "rest")
    file = rest / "annotations" / "captions_val2017.json"
    data = json.loads(file.read_text())
    data["images"] = [image for image in data["images"] if image["id"] not in (2, 5)]
    data["annotations"] = [caption for caption in data["annotations"] if caption["image_id"] not in (2, 5)]
    file.write_text(json.dumps(data))
    assert diagnose(str(folders / "vilt"), rest, partners=2, max_unknown=1).to_dict()["estimates"] == own["estimates"]


def test_strict_makes_it_an_error_and_the_command_line_says_it(folders, pairs, capsys):
    with pytest.raises(DataError, match="image 2 and 1 more cannot be taken"):
        diagnose(str(folders / "vilt"), pairs, partners=2, max_unknown=1, strict=True)
    command = [
        "diagnose",
        "--model",
        str(folders / "llava-next"),
        "--pairs",
        str(pairs),
        "--partners",
        "2",
        "--max-unknown",
        "1",
    ]
    assert main(command) == 0
    assert "5 images, 10 pairs, 1 skipped" in capsys.readouterr().out


def test_a_model_that_takes_none_is_an_error_and_no_empty_result(folders, tmp_path):
    folder = coco_folder(tmp_path / "thin", n=3)
    for image in (1, 2, 3):
        photograph(folder / "val2017" / f"{image:012d}.jpg", THIN, seed=image)
    with pytest.raises(ModelError, match="cannot prepare"):
        diagnose(str(folders / "vilt"), folder, partners=2, max_unknown=1)


def test_a_partner_that_cannot_be_taken_is_none(folders, pairs):
    from attention_collapse.models import load
    from attention_collapse.models.catalogue import named

    file = pairs / "annotations" / "captions_val2017.json"
    data = json.loads(file.read_text())
    for image, partner in ((1, 2), (3, 4)):
        data["images"][image - 1]["partner"] = partner
    file.write_text(json.dumps(data))
    rows = table(read_folder(pairs)[0], "folder")
    left, skipped = takeable(load("m", named(str(folders / "llava-next"))), rows)
    assert left["image_id"] == [1, 3, 4, 5, 6] and left["partner"] == [None, 4, None, None, None]
    assert left.features == rows.features
    assert [(item.kind, item.id) for item in skipped] == [("image", "2"), ("partner", "1")]


def test_one_picture_of_each_size_is_tried(folders, pairs, monkeypatch):
    from attention_collapse.models import load
    from attention_collapse.models.catalogue import named

    model, tried = load("m", named(str(folders / "clip"))), []
    images = model.images
    monkeypatch.setattr(model, "images", lambda pictures: tried.append(pictures[0].size) or images(pictures))
    takeable(model, table(read_folder(pairs)[0], "folder"))
    assert sorted(tried) == sorted([THIN, TALL, (40, 30)])


def scorer(function):
    return Scorer("mine", function, Provenance("x", None, None, None, 0, untrained=False))


def thin_is_wrong(images, texts):
    return [1000 // (min(image.size) - 1) for image in images]


def test_a_users_function_may_refuse_a_picture_too(pairs):
    left, skipped = takeable(scorer(thin_is_wrong), table(read_folder(pairs)[0], "folder"))
    assert left["image_id"] == [1, 3, 4, 6]
    assert [item.id for item in skipped] == ["2", "5"] and "ZeroDivisionError" in skipped[0].reason


@pytest.mark.parametrize(
    "function",
    [
        lambda images, texts: [float("nan") if min(image.size) == 1 else 1.0 for image in images],
        lambda images, texts: {"scores": [1.0]},
    ],
)
def test_a_score_that_is_no_number_is_no_picture_to_skip(function, pairs):
    with pytest.raises(ModelError, match="one number per pair|finite"):
        takeable(scorer(function), table(read_folder(pairs)[0], "folder"))


def test_a_network_that_fails_skips_nothing(pairs):
    def fail(images, texts):
        if min(images[0].size) == 1:
            raise ConnectionError("reset by peer")
        return [1.0]

    with pytest.raises(ModelError, match="ConnectionError: reset by peer"):
        takeable(scorer(fail), table(read_folder(pairs)[0], "folder"))


def test_in_a_study_extraction_decides_and_contributions_and_statistics_follow(folders, tiny_openclip, tmp_path):
    source = coco_folder(tmp_path / "in", n=5, captions=1)
    photograph(source / "val2017" / f"{2:012d}.jpg", THIN, seed=2)
    spec = {"kind": "llava-next", "weights": "checkpoint", "path": str(folders / "llava-next"), "max_unknown": 1.0}
    study = tiny_study(tmp_path, tiny_openclip, thin=spec)
    run(study)
    record, scores = read_json(study.checkpoint("thin")), read_json(study.scores("thin"))
    assert record["refused"].keys() == {"2"} and record["refused"]["2"]
    assert scores["refused"] == record["refused"] and scores["n_refused"] == 1 and scores["n_images"] == 4
    causal = read_json(study.contributions("thin"))
    assert causal["n_images"] == 4 and causal["n_refused"] == 1
    files = (study.pairs_table("thin"), study.contributions_table("thin"))
    assert [set(pd.read_csv(file)["image_id"]) for file in files] == [{1, 3, 4, 5}] * 2
    whole = read_json(study.checkpoint("trained")), read_json(study.scores("trained"))
    assert not any("refused" in found for found in whole) and whole[1]["n_images"] == 5
    assert read_json(study.statistics)["models"]["thin"]["mcs"]["n"] == 4
