"""What a person's word for a model means, on checkpoints as hub, trainers and libraries write them."""

import argparse
import json
import re
import shutil

import numpy as np
import open_clip
import pytest
import torch
from conftest import coco_folder
from hub_cache import REVISION, put
from hub_server import HubServer
from safetensors.torch import load_file, save_file
from tiny.encoders import write_clip
from torch import nn

from attention_collapse import diagnose
from attention_collapse.cli import main
from attention_collapse.errors import ModelError, ParamsError
from attention_collapse.files import read_json
from attention_collapse.models import load
from attention_collapse.models.architectures import candidates
from attention_collapse.models.checkpoint import read_state_dict
from attention_collapse.models.naming import Asked, resolve
from attention_collapse.models.spec import ModelSpec

OLDER = "f" * 40
WEIGHTS = "open_clip_model.safetensors"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    write_clip(folder)
    return folder


# -- the hub -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word",
    [
        "openai/clip-vit-base-patch32",
        f"openai/clip-vit-base-patch32@{REVISION}",
        "hf://openai/clip-vit-base-patch32",
        "https://huggingface.co/openai/clip-vit-base-patch32",
        f"https://huggingface.co/openai/clip-vit-base-patch32/tree/{REVISION}",
        "huggingface.co/openai/clip-vit-base-patch32/tree/main",
    ],
)
def test_a_hub_id_is_of_the_kind_and_the_commit_that_its_files_say(word, hub_cache, clip):
    put(hub_cache, "openai/clip-vit-base-patch32", clip)
    found = resolve(word)
    assert found.spec == ModelSpec(kind="clip", weights="hub", repo="openai/clip-vit-base-patch32", revision=REVISION)
    assert resolve("openai/clip-vit-base-patch32", Asked(revision=REVISION)).spec == found.spec


@pytest.mark.parametrize("word", ["hf-hub:timm/vit_tiny", "timm/vit_tiny", f"timm/vit_tiny@{REVISION}"])
def test_a_repository_in_open_clips_layout(word, hub_cache, tiny_openclip):
    put(hub_cache, "timm/vit_tiny", tiny_openclip)
    model = resolve(word).load("cpu")
    assert model.provenance["weights"] == "hub timm/vit_tiny" and model.provenance["revision"] == REVISION
    state = load_file(tiny_openclip / WEIGHTS)
    assert all(torch.equal(value, state[key]) for key, value in model.module.state_dict().items())


def test_the_command_measures_a_hub_id_as_it_does_the_folder(hub_cache, clip, tmp_path, capsys):
    put(hub_cache, "openai/clip-vit-base-patch32", clip)
    folder = coco_folder(tmp_path / "pairs", n=3, captions=1)
    printed = []
    for model in ("openai/clip-vit-base-patch32", str(clip)):
        options = ["--pairs", str(folder), "--partners", "0", "--max-unknown", "1"]
        assert main(["diagnose", "--model", model, *options]) == 0
        printed.append(capsys.readouterr().out.splitlines())
    assert "hub openai/clip-vit-base-patch32" in printed[0][0] and f"checkpoint {clip}" in printed[1][0]
    assert printed[0][1:] == printed[1][1:]


def test_a_revision_that_is_not_the_newest_is_the_one_that_is_measured(hub_cache, clip, tmp_path):
    other = shutil.copytree(clip, tmp_path / "older")
    state = load_file(other / "model.safetensors")
    state["logit_scale"] = state["logit_scale"] + 1
    save_file(state, other / "model.safetensors", metadata={"format": "pt"})
    put(hub_cache, "org/clip", clip)
    put(hub_cache, "org/clip", other, OLDER)
    newest, older = (resolve("org/clip", Asked(revision=revision)).load("cpu") for revision in (None, OLDER))
    assert older.logit_scale == pytest.approx(np.e * newest.logit_scale)
    with pytest.raises(ModelError, match="2 revisions"):
        resolve(f"org/clip@{REVISION}", Asked(revision=OLDER))


def test_a_folder_of_the_name_comes_first_and_the_result_says_so(hub_cache, clip, tmp_path):
    put(hub_cache, "org/clip", clip)
    assert resolve("org/clip").spec.weights == "hub"
    shutil.copytree(clip, tmp_path / "org" / "clip")
    local = resolve("org/clip").load("cpu").provenance
    assert local["weights"] == "checkpoint org/clip" and local["revision"] is None
    for word in ("hf://org/clip", f"org/clip@{REVISION}"):  # what only the hub can mean
        hub = resolve(word).load("cpu").provenance
        assert hub["weights"] == "hub org/clip" and "not the folder of that name here" in hub["notes"][0]


def test_a_name_of_the_list_hides_a_folder_of_that_name_and_says_so(hub_cache, tmp_path):
    (tmp_path / "clip-vit-b-32").mkdir()
    assert "not ./clip-vit-b-32" in resolve("clip-vit-b-32").notes[0]
    assert resolve("clip-vit-b-32", Asked(revision=REVISION)).spec.revision == REVISION


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("openai/clip-vit-base-patch3", "openai/clip-vit-base-patch32"),
        ("clip-vit-base-patch32", "openai/clip-vit-base-patch32"),
        ("clip-vit-b32", "clip-vit-b-32"),
        ("CLIP-ViT-B-32", "clip-vit-b-32"),
        ("lab/our-clip-larg", "lab/our-clip-large"),  # of the cache
    ],
)
def test_a_name_that_is_none_gets_near_names(word, near, hub_cache, clip):
    put(hub_cache, "lab/our-clip-large", clip)
    with pytest.raises(ModelError, match=f"did you mean .*{near}"):
        resolve(word)


def test_a_hub_that_cannot_be_reached_is_named_with_the_way_by_hand(hub_cache):
    with pytest.raises(
        ModelError, match=r"config.json of org/none(.|\n)*no folder or file here(.|\n)*by hand and give its folder"
    ):
        resolve("org/none")
    with pytest.raises(ModelError, match=r"of org/none cannot be had(.|\n)*by hand"):
        resolve("hf-hub:org/none")


@pytest.mark.parametrize(
    "word", ["./org/clip", "runs/clip/epoch_10.pt", "runs/epoch_10.pt", "epoch_10.pt", "a/b/c", "/nowhere/clip"]
)
def test_what_is_a_path_is_never_asked_of_the_hub(word, hub_cache, monkeypatch):
    monkeypatch.setattr("attention_collapse.models.hub.hf_hub_download", lambda *_a, **_k: pytest.fail("asked"))
    with pytest.raises(ModelError, match="no such file or folder"):
        resolve(word)


def test_a_repository_of_a_kind_that_there_is_not(hub_cache, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    put(hub_cache, "google/bert", tmp_path / "one")
    with pytest.raises(ModelError, match="model_type 'bert'"):
        resolve("google/bert")


# -- weights files -----------------------------------------------------------------------------


def training_checkpoint(model, path, prefix="", **extra):
    """What open_clip's training loop saves, after a step of its optimiser and with its scaler's state."""
    optimizer = torch.optim.AdamW(model.parameters())
    sum(parameter.square().sum() for parameter in model.parameters()).backward()
    optimizer.step()
    state = {prefix + key: value for key, value in model.state_dict().items()}
    saved = {"epoch": 10, "name": "run", "state_dict": state, "optimizer": optimizer.state_dict()}
    torch.save(saved | {"scaler": {"scale": 65536.0, "growth_factor": 2.0}} | extra, path)
    return {key: value.clone() for key, value in model.state_dict().items()}


@pytest.fixture
def fresh(tiny_openclip):
    return load("m", ModelSpec(kind="openclip", weights="checkpoint", path=str(tiny_openclip))).module.requires_grad_()


@pytest.mark.parametrize(
    "prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module._orig_mod."]
)
def test_an_open_clip_training_checkpoint_with_prefixes_in_any_order(prefix, fresh, tiny_openclip, tmp_path):
    path = tmp_path / "epoch_10.pt"
    state = training_checkpoint(fresh, path, prefix)
    assert read_state_dict(path).keys() == state.keys()
    model = resolve(str(path), Asked(architecture=str(tiny_openclip))).load("cpu")
    assert all(torch.equal(value, state[key]) for key, value in model.module.state_dict().items())
    assert model.provenance["weights"] == f"checkpoint {path} as {tiny_openclip}"


@pytest.mark.parametrize("save", ["plain.pt", "plain.pth", "plain.safetensors", "within.pt", "legacy.pt"])
def test_a_state_dict_however_it_is_saved(save, fresh, tmp_path):
    fresh.visual = torch.compile(fresh.visual, backend="eager")
    state = {key: value.contiguous().clone() for key, value in fresh.state_dict().items()}
    path = tmp_path / save
    if save.endswith("safetensors"):
        save_file(state, path)
    elif save == "within.pt":
        torch.save({"model": state, "optimizer": {"state": {}, "param_groups": []}, "args": {"lr": 1}}, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=save != "legacy.pt")
    found = read_state_dict(path)
    assert found.keys() == {key.replace("_orig_mod.", "") for key in state}
    assert all(torch.equal(found[key.replace("_orig_mod.", "")], value) for key, value in state.items())


def test_lightnings_owner_is_left_out_and_what_it_held_besides_is_said(fresh, tiny_openclip, tmp_path):
    class Lit(nn.Module):
        def __init__(self):
            super().__init__()
            self.clip, self.head = fresh, nn.Linear(2, 1)

    saved = {
        "state_dict": Lit().state_dict(),
        "pytorch-lightning_version": "2.6.6",
        "optimizer_states": [],
        "loops": {},
    }
    torch.save(saved, tmp_path / "last.ckpt")
    model = resolve(str(tmp_path / "last.ckpt"), Asked(architecture=str(tiny_openclip))).load("cpu")
    own = fresh.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in model.module.state_dict().items())
    assert "2 tensors beside the model's are not used: head.bias, head.weight" in model.provenance["notes"][0]
    two = {f"{name}.{key}": value for name in ("student", "teacher") for key, value in own.items()}
    torch.save({"state_dict": two}, tmp_path / "two.ckpt")
    with pytest.raises(ModelError, match="several models: student, teacher"):
        resolve(str(tmp_path / "two.ckpt"), Asked(architecture=str(tiny_openclip))).load("cpu")


def test_the_optimisers_tensors_are_not_read(fresh, tmp_path, monkeypatch):
    path, asked = tmp_path / "epoch_10.pt", []
    training_checkpoint(fresh, path)
    real = torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: asked.append(k) or real(*a, **k))
    read_state_dict(path)
    assert asked[0]["mmap"] and asked[0]["weights_only"]


@pytest.mark.parametrize(
    ("extra", "name"),
    [({"best": np.float64(0.3)}, "numpy"), ({"args": argparse.Namespace(lr=1)}, "argparse.Namespace")],
)
def test_what_is_no_plain_container_is_refused_with_the_way_to_convert(extra, name, fresh, tiny_openclip, tmp_path):
    path = tmp_path / "epoch_10.pt"
    training_checkpoint(fresh, path, **extra)
    with pytest.raises(ModelError, match=rf"cannot be read safely \(it holds {name}(.|\n)*torch.save") as caught:
        resolve(str(path), Asked(architecture=str(tiny_openclip))).load("cpu")
    assert "weights_only=False" not in str(caught.value)  # nobody is told to run the code of a file
    torch.save(fresh.state_dict(), tmp_path / "weights.pt")  # as it says
    save_file(fresh.state_dict(), tmp_path / "weights.safetensors")
    for file in ("weights.pt", "weights.safetensors"):
        assert read_state_dict(tmp_path / file).keys() == fresh.state_dict().keys()


def test_several_state_dicts_in_one_file_are_not_chosen_from(fresh, tmp_path):
    torch.save({"model": fresh.state_dict(), "model_ema": fresh.state_dict()}, tmp_path / "both.pt")
    with pytest.raises(ModelError, match="2 state dicts: model, model_ema"):
        read_state_dict(tmp_path / "both.pt")


def shapes_of(name):
    config = open_clip.get_model_config(name)
    config.pop("custom_text", None)
    with torch.device("meta"):
        module = (open_clip.CoCa if "multimodal_cfg" in config else open_clip.CLIP)(**config)
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("ViT-B-32", ["ViT-B-32", "ViT-B-32-quickgelu"]),
        ("ViT-L-14-336", ["ViT-L-14-336", "ViT-L-14-336-quickgelu"]),
        ("RN50", ["RN50", "RN50-quickgelu"]),
        ("ViT-B-32-256", ["ViT-B-32-256"]),
        ("coca_ViT-B-32", ["coca_ViT-B-32"]),
    ],
)
def test_the_shapes_tell_the_architecture_up_to_its_activation(name, names):
    assert candidates(shapes_of(name)) == names


def test_shapes_that_are_of_nothing_have_no_candidates():
    assert candidates({"weight": (3, 3)}) == []
    assert candidates(shapes_of("ViT-B-32") | {"token_embedding.weight": (999, 512)}) == []


def test_without_an_architecture_the_message_names_it_and_the_candidates(tmp_path, capsys):
    state = {f"module.{key}": torch.zeros(()).expand(shape) for key, shape in shapes_of("ViT-B-32").items()}
    torch.save({"epoch": 1, "state_dict": state}, tmp_path / "epoch_1.pt")
    assert main(["diagnose", "--model", str(tmp_path / "epoch_1.pt"), "--pairs", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "ViT-B-32, ViT-B-32-quickgelu" in said and "add --architecture ViT-B-32" in said and "trained as" in said


def test_a_near_architecture_is_named(fresh, tmp_path):
    torch.save(fresh.state_dict(), tmp_path / "a.pt")
    with pytest.raises(ModelError, match="did you mean 'ViT-B-32'"):
        resolve(str(tmp_path / "a.pt"), Asked(architecture="vit-b/32")).load("cpu")


def test_a_file_of_a_folder_and_files_of_others(clip, tmp_path):
    with pytest.raises(ModelError, match="one file of a checkpoint folder"):
        resolve(str(clip / "model.safetensors"))
    shutil.copy(clip / "model.safetensors", tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match="names of the transformers library"):
        resolve(str(tmp_path / "a.safetensors"))
    for name in ("a.gguf", "a.onnx", "a"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(ModelError, match="holds no model that is read here"):
            resolve(str(tmp_path / name))


# -- folders of trainers -----------------------------------------------------------------------


def test_a_checkpoint_of_the_transformers_trainer_loads_where_the_processor_lies_in_it(clip, tmp_path):
    from transformers import CLIPModel, Trainer, TrainingArguments

    trainer = Trainer(
        CLIPModel.from_pretrained(clip), TrainingArguments(str(tmp_path / "out"), report_to=[], use_cpu=True)
    )
    trainer.create_optimizer_and_scheduler(1)
    trainer._save_checkpoint(trainer.model, None)
    [folder] = (tmp_path / "out").glob("checkpoint-*")
    with pytest.raises(ModelError, match=r"the folder of a training(.|\n)*checkpoint-0"):
        resolve(str(tmp_path / "out"))
    with pytest.raises(ModelError, match=r"no tokenizer files in(.|\n)*copy the tokenizer's files from the base model"):
        resolve(str(folder)).load("cpu")
    for file in clip.iterdir():
        if not (folder / file.name).exists():
            shutil.copy(file, folder / file.name)
    model = resolve(str(folder)).load("cpu")
    state = load_file(clip / "model.safetensors")
    assert all(torch.equal(value, state[key]) for key, value in model.module.state_dict().items() if key in state)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["zero_to_fp32.py", "global_step5/mp_rank_00_model_states.pt"], "zero_to_fp32.py"),
        (["global_step5/zero_pp_rank_0_mp_rank_00_model_states.pt", "config.json"], "zero_to_fp32.py"),
        (["pytorch_model_fsdp_0/__0_0.distcp", "pytorch_model_fsdp_0/.metadata"], "dcp_to_torch"),
        (["__0_0.distcp", ".metadata", "config.json"], "dcp_to_torch"),
        (["checkpoints/epoch_9.pt", "checkpoints/epoch_10.pt", "params.txt"], "epoch_10.pt --architecture"),
        (["snapshots/abc/config.json", "refs/main"], "organisation/name"),
        (["checkpoint-9/config.json", "checkpoint-10/config.json"], "checkpoint-10"),
    ],
)
def test_folders_that_hold_no_model_yet_say_how_to_make_one(files, said, tmp_path):
    for name in files:
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_text("{}")
    with pytest.raises(ModelError) as caught:
        resolve(str(tmp_path / "run"))
    assert said in caught.value.remedy


@pytest.mark.parametrize("inner", ["a/global_step5/mp_rank_00_model_states.pt", "a/b/__0_0.distcp", "a/b/mp_rank_00/x"])
def test_what_lies_in_a_checkpoint_further_down_says_nothing_of_a_folder(inner, tmp_path):
    (tmp_path / inner).parent.mkdir(parents=True)
    (tmp_path / inner).write_text("")
    with pytest.raises(ModelError, match="config.json is absent"):
        resolve(str(tmp_path))


@pytest.mark.parametrize("word", ["m/clip", "./m/clip", "{}/m/clip", "m/clip/model.safetensors"])
def test_a_revision_does_not_go_with_what_lies_here(word, clip, hub_cache, tmp_path, monkeypatch):
    shutil.copytree(clip, tmp_path / "m/clip")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="a revision was given, which does not go with a folder or a file") as caught:
        resolve(word.format(tmp_path), Asked(revision=REVISION))
    assert "leave the revision out" in caught.value.remedy and "no folder or file here" not in str(caught.value)


@pytest.mark.parametrize("word", ["", "  "])
def test_an_empty_name_is_said_to_be_none(word):
    for kind in (None, "scorer"):
        with pytest.raises(ModelError, match="no model was named"):
            resolve(word, Asked(kind=kind))


@pytest.mark.parametrize(
    ("field", "value", "form"),
    [
        ("factory", "json", "a package.module:function, not 'json'"), ("repo", "a", "organisation/name, not 'a'"),
        ("revision", "main", "a commit, 40 hex digits, not 'main'"), ("sha256", "0", "64 hex digits, not '0'"),
    ],
)  # fmt: skip
def test_what_is_not_of_its_form_is_told_the_form_in_words(field, value, form):
    spec = {"kind": "clip", "weights": "hub", "repo": "org/clip"} | {field: value}
    if field == "factory":
        spec = {"kind": "scorer", "weights": "factory", "factory": value}
    with pytest.raises(ParamsError) as caught:
        diagnose(spec, "gone")
    assert form in str(caught.value) and not set("^$[\\") & set(str(caught.value))


def test_the_kinds_of_words_go_with_what_is_theirs_alone(clip, hub_cache):
    put(hub_cache, "org/clip", clip)
    for word, asked in (
        (str(clip), Asked(architecture="ViT-B-32")),
        ("org/clip", Asked(architecture="ViT-B-32")),
        ("openclip-scenes", Asked(architecture="ViT-B-32")),
        ("openclip-scenes", Asked(kind="clip")),
        (str(clip), Asked(kind="clpi")),
        ("openclip-scenes", Asked(adapter="folder")),
        ("openclip-scenes", Asked(revision=REVISION)),
    ):
        with pytest.raises(ModelError):
            resolve(word, asked)


def test_a_mapping_takes_the_same(fresh, tiny_openclip, tmp_path):
    path = tmp_path / "epoch_10.pt"
    training_checkpoint(fresh, path, "module.")
    spec = {"kind": "openclip", "weights": "checkpoint", "path": str(path), "architecture": str(tiny_openclip)}
    folder = coco_folder(tmp_path / "pairs", n=2, captions=1)
    assert diagnose(spec, folder, partners=0).weights["weights"] == f"checkpoint {path} as {tiny_openclip}"


# -- over the network --------------------------------------------------------------------------


@pytest.fixture
def command(clip, tiny_openclip, hub_cache, tmp_path, monkeypatch):
    """The command line, whose hub is a server on this machine and whose cache is empty."""
    from huggingface_hub import constants

    hub = HubServer(REVISION)
    hub.repositories = {"openai/clip-vit-base-patch32": clip, "timm/vit_tiny": tiny_openclip}
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.url)
    for name, value in (("HUGGINGFACE_CO_URL_TEMPLATE", template), ("ENDPOINT", hub.url), ("HF_HUB_OFFLINE", False)):
        monkeypatch.setattr(constants, name, value)
    folder, out = coco_folder(tmp_path / "pairs", n=2, captions=1), tmp_path / "out.json"
    options = ["--pairs", str(folder), "--partners", "0", "--max-unknown", "1", "--out", str(out)]

    def run(*arguments):
        status = main(["diagnose", *arguments, *options])
        return status, read_json(out)["weights"] if status == 0 else None

    yield run
    hub.http.shutdown()
    hub.http.server_close()


@pytest.mark.parametrize(
    ("word", "kind"), [("openai/clip-vit-base-patch32", "clip"), (f"hf-hub:timm/vit_tiny@{REVISION}", "openclip")]
)
def test_a_hub_id_is_fetched_and_its_commit_recorded(word, kind, command, hub_cache):
    status, weights = command("--model", word)
    assert status == 0 and [path.name for path in hub_cache.glob("models--*/snapshots/*")] == [REVISION]
    assert weights["revision"] == REVISION and weights["weights"].removeprefix("hub ") in word


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("openai/clip-vit-base-patch3", "no such repository, or it is private.*\n.*\n.*'openai/clip-vit-base-patch32'"),
        (f"openai/clip-vit-base-patch32@{OLDER}", "the repository has no such revision"),
    ],
)
def test_what_the_hub_does_not_have_is_said_in_words(word, message, command, capsys):
    status, _ = command("--model", word)
    assert status == 1 and re.search(message, capsys.readouterr().err)
