"""dvc.yaml says what the code is: closures, names, and one body for both studies."""

import pytest
import yaml
from imports import PACKAGE, ROOT, closure

from attention_collapse.params import load_params

FILES = {"embedded": ROOT / "dvc.yaml", "coco": ROOT / "studies" / "coco" / "dvc.yaml"}
PIPELINES = {name: yaml.safe_load(path.read_text()) for name, path in FILES.items()}
NO_CODE = {"train_controls"}  # its checkpoint is committed data: see the comment in dvc.yaml


def body(stage):
    return stage.get("do", stage)


CASES = [(study, name) for study, pipeline in PIPELINES.items() for name in pipeline["stages"]]


@pytest.mark.parametrize(("study", "name"), CASES)
def test_a_stage_depends_on_exactly_its_code(study, name):
    deps = {dep for dep in body(PIPELINES[study]["stages"][name]).get("deps", []) if dep.startswith("src/")}
    expected = set() if name in NO_CODE else closure(f"{PACKAGE}.stages.{name}")
    if name in ("figures", "overlay", "validity"):
        expected |= {"src/attention_collapse/report/style.mplstyle"}
    assert deps == expected


@pytest.mark.parametrize(("study", "name"), CASES)
def test_a_stage_is_named_as_its_module_and_its_outputs_exist_once(study, name):
    stage = body(PIPELINES[study]["stages"][name])
    assert f"-m {PACKAGE}.stages.{name}" in stage["cmd"]
    assert (ROOT / "src" / PACKAGE / "stages" / f"{name}.py").is_file()


def test_both_studies_run_the_same_stages():
    embedded, coco = (dict(PIPELINES[name]["stages"]) for name in ("embedded", "coco"))
    assert set(embedded) - set(coco) == {
        "train_controls",
        "null_reference",
        "measure_planted",
        "validity",
    } and set(coco) <= set(embedded)
    for name, other in coco.items():
        pair = [dict(body(stage)) for stage in (embedded[name], other)]
        assert [p.pop("wdir") for p in pair] == [".", "../.."]
        assert pair[0] == pair[1], name
        assert embedded[name].get("foreach") == other.get("foreach")


@pytest.mark.parametrize("study", FILES)
def test_parameters_are_valid_and_name_their_own_file(study):
    path = FILES[study].with_name("params.yaml")
    params = load_params(path)
    assert params.study == study and ROOT / params.params_file == path


def test_the_coco_study_uses_real_images_and_openais_weights():
    params = load_params(FILES["coco"].with_name("params.yaml"))
    assert params.fetch_coco.source == "val2017" and params.fetch_coco.n == 100
    model = params.models["openclip-vit-b-32"]
    assert (model.weights, model.tag) == ("pretrained", "openai")
    assert sum(spec.control_for == "openclip-vit-b-32" for spec in params.models.values()) >= 3


def test_no_coco_image_or_caption_is_committed():
    import subprocess

    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert not [name for name in files if name.endswith((".jpg", ".jpeg")) or "captions_val2017" in name]
    overlays = {name.split("/")[1] for name in files if name.startswith("plots/") and "-overlay/" in name}
    assert overlays <= {"embedded-overlay"}
    ignored = ["git", "check-ignore", "-q", "plots/coco-overlay/model/attention_overlay.png"]
    assert subprocess.run(ignored, cwd=ROOT, check=False).returncode == 0


def test_committed_checkpoints_are_small():
    total = sum(path.stat().st_size for path in (ROOT / "data" / "controls").rglob("*.safetensors"))
    assert 0 < total <= 25_000_000


def test_the_pipeline_trains_and_measures_the_kinds_of_the_parameters():
    stages, kinds = PIPELINES["embedded"]["stages"], load_params(FILES["embedded"].with_name("params.yaml")).plant.kinds
    measured = stages["measure_planted"]
    assert [dep for dep in measured["deps"] if "controls" in dep] == [f"data/controls/planted-{kind}" for kind in kinds]
    assert [name for out in measured["outs"] for name in out] == [
        f"data/${{study}}/planted/{kind}.csv" for kind in kinds
    ]
    tables = {dep for dep in stages["validity"]["deps"] if dep.endswith(".csv")}
    assert tables == {f"data/${{study}}/planted/{kind}.csv" for kind in kinds}
    trained = ["openclip-scenes", "align-scenes", *(f"planted-{kind}" for kind in kinds)]
    assert stages["train_controls"]["foreach"] == trained
