"""dvc.yaml says what the code is: closures, names, and one body for both studies."""

import subprocess
from pathlib import PurePosixPath

import pytest
import yaml
from imports import PACKAGE, ROOT

from attention_collapse import cli
from attention_collapse.files import read_json
from attention_collapse.identity.source_code import code_id
from attention_collapse.params import load_params
from attention_collapse.registry import kinds
from attention_collapse.repository.pipeline import CODE, code_ids, pipeline, studies

FILES = {"embedded": ROOT / "dvc.yaml", "coco": ROOT / "studies" / "coco" / "dvc.yaml"}
PIPELINES = {name: yaml.safe_load(path.read_text()) for name, path in FILES.items()}


def body(stage):
    return stage.get("do", stage)


CASES = [(study, name) for study, one in PIPELINES.items() for name in one["stages"]]


@pytest.mark.parametrize("study", FILES)
def test_the_committed_file_is_the_described_one(study):
    params = load_params(FILES[study].with_name("params.yaml"))
    assert FILES[study].read_text() == pipeline(params), "run `attention-collapse pipeline --write`"


def test_every_study_has_a_pipeline():
    assert set(studies(ROOT)) == set(FILES.values())


def test_the_command_finds_a_hand_edit_and_mends_it(tmp_path, monkeypatch, capsys):
    (tmp_path / ".dvc").mkdir()
    drawn = [str(file.relative_to(ROOT)) for file in ROOT.glob("plots/*/*.csv")]  # a study without has not run
    for name in ("params.yaml", "dvc.yaml", "studies/coco/params.yaml", "studies/coco/dvc.yaml", *drawn):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    monkeypatch.chdir(tmp_path)
    assert cli.main(["pipeline"]) == 0
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text() + "# mine\n")
    assert cli.main(["pipeline"]) == 1 and "dvc.yaml: is not what" in capsys.readouterr().out
    assert cli.main(["pipeline", "--write"]) == 0
    assert (tmp_path / "dvc.yaml").read_text() == (ROOT / "dvc.yaml").read_text()


@pytest.mark.parametrize(("study", "name"), CASES)
def test_a_stage_is_named_as_its_module(study, name):
    stage = body(PIPELINES[study]["stages"][name])
    assert f"-m {PACKAGE}.stages.{name}" in stage["cmd"]
    assert (ROOT / "src" / PACKAGE / "stages" / f"{name}.py").is_file()


def outputs(study):
    """(path, whether git holds it) of every output of a study: of every model, and of every trained folder."""
    params = load_params(FILES[study].with_name("params.yaml"))
    for stage in PIPELINES[study]["stages"].values():
        each = stage.get("foreach", [""])
        for key in params.models if each == "${models}" else each:
            for out in [*body(stage).get("outs", []), *body(stage).get("metrics", [])]:
                name, held = (out, False) if isinstance(out, str) else next((k, not v["cache"]) for k, v in out.items())
                for sign, value in (("study", study), ("key", key), ("item", key)):
                    name = name.replace(f"${{{sign}}}", value)
                assert "$" not in name
                yield name, held


@pytest.mark.parametrize("study", FILES)
def test_no_output_is_written_twice_or_within_another(study):
    outs = [PurePosixPath(name) for name, _ in outputs(study)]
    assert len(outs) == len(set(outs)) > 10
    assert not [(one, other) for one in outs for other in outs if other in one.parents]


def test_every_output_of_the_embedded_study_is_there_once_in_git_or_in_dvcs_cache():
    tracked = set(
        subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True).stdout.split("\0")
    )
    folders = {parent.as_posix() for name in tracked for parent in PurePosixPath(name).parents}
    found = list(outputs("embedded"))
    assert sum(held for _, held in found) > 60
    if read_json(ROOT / CODE) != code_ids():
        pytest.skip("the committed results are of older code, which the test of the ids says")
    assert not [name for name, held in found if held and not (ROOT / name).exists()], "run `dvc repro`"
    assert not [name for name, held in found if held != (name in tracked or name in folders)], "`git add`, or `git rm`"


@pytest.mark.parametrize(("study", "name"), CASES)
def test_a_stage_depends_on_the_code_of_its_module_and_kind(study, name):
    """Every stage has an entry in data/code.json, except those that are about code, or committed data."""
    params = body(PIPELINES[study]["stages"][name]).get("params", [])
    codes = [item["data/code.json"] for item in params if "data/code.json" in item]
    per_model = "foreach" in PIPELINES[study]["stages"][name]
    none = {"code", "train_controls", "train_doses", "train_prevention", "train_answers"}
    expected = [] if name in none else [[f"{name}.${{item.kind}}" if per_model else name]]
    assert codes == expected


def test_the_committed_ids_are_those_of_the_code():
    assert read_json(ROOT / CODE) == code_ids(), "run `dvc repro`"


def test_every_kind_has_its_own_id_and_a_name_that_dvc_reads_as_one_key():
    ids = code_ids()["extract_attention"]
    assert ids == {kind: code_id(f"{PACKAGE}.stages.extract_attention", kind) for kind in kinds()}
    assert not any("." in kind for kind in ids)


def test_what_studies_share_is_the_same_but_for_where_their_files_lie():
    embedded, coco = (dict(PIPELINES[name]["stages"]) for name in ("embedded", "coco"))
    trained = {"train_controls", "train_doses", "train_prevention", "train_answers"}
    alone = trained | {"code", "null_reference", "measure_planted", "validity", "doses", "prevention", "answers"}
    assert set(embedded) - set(coco) == alone and set(coco) <= set(embedded)
    for name, other in coco.items():
        pair = [dict(body(stage)) for stage in (embedded[name], other)]
        assert pair[1].pop("wdir") == "../.." and "wdir" not in pair[0]
        controls = [dep for dep in pair[0].get("deps", []) if dep.startswith("data/controls/")]
        assert bool(controls) == (name == "extract_attention")
        if controls:  # checkpoints in this repository, of the embedded study alone
            pair[0]["deps"] = [dep for dep in pair[0]["deps"] if dep not in controls]
        assert pair[0] == pair[1], name


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
