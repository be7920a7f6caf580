"""LoRA adapters, written by PEFT itself on tiny CLIP and LLaVA models, and merged by it."""

import json
import shutil

import pytest
import torch
from conftest import coco_folder
from hub_cache import REVISION, put
from peft import IA3Config, LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny.decoders import write_llava
from tiny.encoders import write_clip
from transformers import AutoProcessor, CLIPModel, LlavaForConditionalGeneration

from attention_collapse import diagnose
from attention_collapse.cli import main
from attention_collapse.errors import ModelError
from attention_collapse.files import read_json, sha256_file
from attention_collapse.models.naming import Asked, resolve
from attention_collapse.models.spec import ModelSpec

CLASSES = {"clip": (CLIPModel, write_clip), "llava": (LlavaForConditionalGeneration, write_llava)}
PAIR = [Image.new("RGB", (60, 40), (200, 60, 30))], ["A cat sits on a red table."]


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    root = tmp_path_factory.mktemp("bases")
    for name, (_, write) in CLASSES.items():
        write(root / name)
    return root


def adapted(base, folder, config=None, **options):
    """The wrapped model, in evaluation mode, and the folder that PEFT writes of it."""
    torch.manual_seed(0)
    default = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "init_lora_weights": False}
    cls = CLASSES[base.name][0]
    model = get_peft_model(cls.from_pretrained(base), config or LoraConfig(**default | options)).eval()
    for name, parameter in model.named_parameters():
        if "modules_to_save" in name:
            parameter.data.normal_()
    model.save_pretrained(folder)
    return model


def edit(folder, **fields):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def score(model):
    with torch.inference_mode():
        return float(model.score(model.pairs(*PAIR)))


LORAS = {
    "plain": {},
    "of a task": {"task_type": "FEATURE_EXTRACTION"},
    "rank-stabilised, with a rank of its own": {"use_rslora": True, "rank_pattern": {"q_proj": 2}},
    "decomposed": {"use_dora": True},
    "with biases": {"bias": "lora_only"},
}


@pytest.mark.parametrize("options", LORAS.values(), ids=LORAS)
def test_a_merged_clip_embeds_as_the_wrapped_one_does_and_not_as_the_base(options, bases, tmp_path):
    wrapped = adapted(bases / "clip", tmp_path / "lora", **options)
    model = resolve(str(tmp_path / "lora")).load("cpu")
    inputs = AutoProcessor.from_pretrained(bases / "clip")(images=PAIR[0], text=PAIR[1], return_tensors="pt")
    whole = wrapped.get_base_model()  # PEFT's wrapper of this task passes arguments that CLIP does not take
    with torch.inference_mode():
        own = whole(**inputs)
        with wrapped.disable_adapter():
            base = whole(**inputs)
        image = model.embed(model.images(PAIR[0])).embedding
    assert torch.allclose(image, own.image_embeds, atol=1e-5) and not torch.allclose(
        image, base.image_embeds, atol=1e-2
    )


def test_a_merged_llava_scores_as_the_wrapped_one_does(bases, tmp_path):
    wrapped = adapted(bases / "llava", tmp_path / "lora", task_type="CAUSAL_LM")
    model = resolve(str(tmp_path / "lora")).load("cpu")
    base = resolve(str(bases / "llava")).load("cpu")
    merged = score(model)
    model.module = wrapped.get_base_model()  # PEFT's own layers in place of the merged weights
    assert merged == pytest.approx(score(model), abs=1e-5) and abs(merged - score(base)) > 1e-2


def test_the_result_names_base_and_adapter_with_the_hashes_of_both(bases, tmp_path, capsys):
    adapted(bases / "clip", tmp_path / "lora")
    folder, out = coco_folder(tmp_path / "pairs", n=3, captions=1), tmp_path / "out.json"
    arguments = ["--pairs", str(folder), "--partners", "0", "--max-unknown", "1", "--out", str(out)]
    found = []
    for model in (["--model", str(tmp_path / "lora")],
                  ["--model", str(bases / "clip"), "--adapter", str(tmp_path / "lora")]):  # fmt: skip
        assert main(["diagnose", *model, *arguments]) == 0
        found.append(read_json(out))
    assert found[0]["weights"] == found[1]["weights"] and found[0]["estimates"] == found[1]["estimates"]
    weights = found[0]["weights"]
    assert weights["weights"] == f"checkpoint {bases / 'clip'} with the adapter {tmp_path / 'lora'}"
    assert weights["sha256"] == sha256_file(bases / "clip" / "model.safetensors")
    assert weights["adapter_sha256"] == sha256_file(tmp_path / "lora" / "adapter_model.safetensors")
    assert weights["adapter_definition_sha256"] == sha256_file(tmp_path / "lora" / "adapter_config.json")
    plain = diagnose(str(bases / "clip"), folder, partners=0, max_unknown=1)
    assert "adapter_sha256" not in plain.weights and plain["mcs"].mean != found[0]["estimates"]["mcs"]["mean"]


def test_base_and_adapter_may_lie_on_the_hub_each_at_its_revision(bases, hub_cache, tmp_path):
    adapted(bases / "clip", tmp_path / "lora")
    edit(tmp_path / "lora", base_model_name_or_path="openai/clip-vit-base-patch32", revision=REVISION)
    put(hub_cache, "openai/clip-vit-base-patch32", bases / "clip")
    put(hub_cache, "me/my-lora", tmp_path / "lora")
    found = resolve("me/my-lora")
    assert found.spec == ModelSpec(
        kind="clip",
        weights="hub",
        repo="openai/clip-vit-base-patch32",
        revision=REVISION,
        adapter=f"me/my-lora@{REVISION}",
    )
    about = found.load("cpu").provenance
    assert about["revision"] == about["adapter_revision"] == REVISION
    assert about["adapter_sha256"] == sha256_file(tmp_path / "lora" / "adapter_model.safetensors")


def test_modules_that_were_trained_whole_replace_the_models_own(bases, tmp_path):
    wrapped = adapted(bases / "clip", tmp_path / "lora", modules_to_save=["visual_projection"])
    model = resolve(str(tmp_path / "lora")).load("cpu")
    trained = wrapped.get_base_model().visual_projection.modules_to_save["default"].weight
    assert torch.equal(model.module.visual_projection.weight, trained)
    state = load_file(tmp_path / "lora" / "adapter_model.safetensors")
    del state["base_model.model.visual_projection.weight"]
    save_file(state, tmp_path / "lora" / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="does not fit the model"):
        resolve(str(tmp_path / "lora")).load("cpu")


def without_a_tensor(folder):
    state = load_file(folder / "adapter_model.safetensors")
    state.pop(sorted(state)[0])
    save_file(state, folder / "adapter_model.safetensors")


def with_another_tensor(folder):
    state = load_file(folder / "adapter_model.safetensors")
    state["base_model.model.nowhere.lora_A.weight"] = torch.zeros(4, 4)
    save_file(state, folder / "adapter_model.safetensors")


def with_a_tensor_by_another_name(folder):
    state = load_file(folder / "adapter_model.safetensors")
    state["base_model.model.nowhere.lora_A.weight"] = state.pop(sorted(state)[0])
    save_file(state, folder / "adapter_model.safetensors")


def not_finite(folder):
    state = load_file(folder / "adapter_model.safetensors")
    state[sorted(state)[0]][0] = torch.nan
    save_file(state, folder / "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda folder: edit(folder, target_modules=["wq", "wv"]),
            "does not fit the model(.|\n)*trained on this model",
        ),
        (lambda folder: edit(folder, r=2), "does not fit the model"),
        (without_a_tensor, "does not fit the model"),
        (with_another_tensor, "does not fit the model"),
        (with_a_tensor_by_another_name, "does not fit the model"),
        (not_finite, "does not fit the model|NaN"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "no weights in"),
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"x"), "cannot be read safely"),
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "not an adapter's configuration"),
        (lambda folder: edit(folder, base_model_name_or_path=None), "names no base model(.|\n)*--adapter"),
        (
            lambda folder: edit(folder, base_model_name_or_path="/home/someone/clip"),
            "no such file or folder(.|\n)*--adapter",
        ),
        (lambda folder: edit(folder, base_model_name_or_path="openclip-scenes"), "does not take adapter"),
    ],
)
def test_an_adapter_that_does_not_fit_is_one_clear_error(damage, message, bases, tmp_path):
    adapted(bases / "clip", tmp_path / "lora")
    damage(tmp_path / "lora")
    with pytest.raises(ModelError, match=message):
        resolve(str(tmp_path / "lora")).load("cpu")


def test_an_adapter_of_another_architecture_is_refused(bases, tmp_path):
    adapted(bases / "llava", tmp_path / "lora")
    with pytest.raises(ModelError, match="does not fit the model"):
        resolve(str(bases / "clip"), Asked(adapter=str(tmp_path / "lora"))).load("cpu")


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (IA3Config(target_modules=["q_proj"], feedforward_modules=[]), "IA3"),
        (PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM", token_dim=16, num_layers=1,
                            num_attention_heads=1), "PROMPT_TUNING"),
    ],
)  # fmt: skip
def test_adapters_that_are_no_lora_are_refused_by_name(config, name, bases, tmp_path):
    adapted(bases / "clip", tmp_path / "lora")
    edit(tmp_path / "lora", peft_type=str(config.peft_type.value))
    with pytest.raises(ModelError, match=f"an adapter of type {name}(.|\n)*merge"):
        resolve(str(tmp_path / "lora"))


def test_a_model_and_an_adapter_in_one_folder_are_never_mixed_unasked(bases, tmp_path):
    both = shutil.copytree(bases / "clip", tmp_path / "both")
    adapted(bases / "clip", tmp_path / "lora")
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(tmp_path / "lora" / file, both / file)
    with pytest.raises(ModelError, match="a model and an adapter"):
        resolve(str(both))
    with pytest.raises(ModelError, match="a model and an adapter"):
        resolve(str(both), Asked(kind="clip")).load("cpu")
    with pytest.raises(ModelError, match="a model and an adapter"):
        diagnose({"kind": "clip", "weights": "checkpoint", "path": str(both)}, coco_folder(tmp_path / "p", n=2))


def test_without_peft_it_is_said_how_to_merge(bases, tmp_path, monkeypatch):
    adapted(bases / "clip", tmp_path / "lora")
    monkeypatch.setattr("attention_collapse.models.adapter.find_spec", lambda _name: None)
    with pytest.raises(ModelError, match="PEFT is not installed(.|\n)*merge_and_unload"):
        resolve(str(tmp_path / "lora")).load("cpu")


def test_what_the_message_says_to_merge_by_hand_gives_the_same(bases, tmp_path):
    adapted(bases / "clip", tmp_path / "lora")
    merged = PeftModel.from_pretrained(CLIPModel.from_pretrained(bases / "clip"), tmp_path / "lora").merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    AutoProcessor.from_pretrained(bases / "clip").save_pretrained(tmp_path / "merged")
    one, other = (resolve(str(tmp_path / name)).load("cpu").module.state_dict() for name in ("lora", "merged"))
    assert one.keys() == other.keys() and all(torch.allclose(one[key], other[key], atol=1e-6) for key in one)
