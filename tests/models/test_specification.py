"""What a result says of its model: all that its numbers follow from; and an activation that contradicts the weights."""

import json
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from conftest import coco_folder
from open_clip.pretrained import _PRETRAINED
from safetensors.torch import save_file
from tiny.decoders import write_llava, write_paligemma
from tiny.encoders import write_clip

from attention_collapse import diagnose
from attention_collapse.models import load
from attention_collapse.models.activation import activation_notes, origin_of
from attention_collapse.models.catalogue import named
from attention_collapse.models.spec import ModelSpec
from attention_collapse.models.specification import specification


def checkpoint(kind, path, **options):
    return ModelSpec(kind=kind, weights="checkpoint", path=str(path), **options)


def test_of_a_decoder(tmp_path):
    write_llava(tmp_path / "llava")
    spec = checkpoint("llava", tmp_path / "llava", dtype="bfloat16", prompt="What is it?")
    found = specification(load("m", spec), spec)
    assert found["asked"] == {"kind": "llava", "weights": "checkpoint", "path": str(tmp_path / "llava"),
                              "dtype": "bfloat16", "prompt": "What is it?"}  # fmt: skip
    assert (found["kind"], found["architecture"], found["model_type"]) == (
        "llava",
        "LlavaForConditionalGeneration",
        "llava",
    )
    assert (found["dtype"], found["device"], found["attention"]) == ("bfloat16", "cpu", "sdpa")
    assert (found["prompt"], found["score"]) == ("What is it?", "mean log-likelihood, nats per token")
    versions = found["versions"]
    assert (
        versions["torch"] == torch.__version__.partition("+")[0]
        and versions["transformers"]
        and versions["open_clip_torch"]
    )
    json.dumps(found, allow_nan=False)


def test_the_prompt_is_said_where_none_was_given(tmp_path):
    write_paligemma(tmp_path / "paligemma")
    spec = checkpoint("paligemma", tmp_path / "paligemma")
    assert specification(load("m", spec), spec)["prompt"] == "Describe the image."


def test_the_attention_is_as_it_ran_and_not_as_it_was_asked_for(tmp_path):
    write_clip(tmp_path / "clip")
    model = load("m", checkpoint("clip", tmp_path / "clip"))
    model.module.set_attn_implementation("eager")
    found = specification(model)
    assert (found["asked"], found["kind"], found["attention"]) == (None, "clip", "eager")
    assert found["activation"] == "QuickGELUActivation" and found["score"].startswith("cosine × ")


def test_of_a_users_function():
    spec = ModelSpec(kind="scorer", weights="factory", factory="examples.scorer:score")
    found = specification(load("m", spec), spec)
    assert found["asked"]["factory"] == "examples.scorer:score" and found["score"] == "matching score"
    assert found["architecture"] is found["dtype"] is found["device"] is found["attention"] is None


def test_a_diagnosis_names_it(tiny_openclip, tmp_path):
    pairs = coco_folder(tmp_path / "pairs", n=4)
    found = diagnose(str(tiny_openclip), pairs, partners=0, out=tmp_path / "out.json").to_dict()["settings"]
    assert found["specification"]["architecture"] == "CLIP" and found["specification"]["activation"] == "GELU"
    assert json.loads((tmp_path / "out.json").read_text())["settings"]["specification"]["dtype"] == "float32"


@pytest.fixture(scope="module")
def tiny_state(tiny_openclip):
    return load("m", named(str(tiny_openclip))).module


def quick(tiny_openclip, tmp_path, name, *, value):
    folder = shutil.copytree(tiny_openclip, tmp_path / name)
    file = folder / "open_clip_config.json"
    config = json.loads(file.read_text())
    config["model_cfg"]["quick_gelu"] = value
    file.write_text(json.dumps(config))
    return load("m", named(str(folder))).provenance["notes"], specification(load("m", named(str(folder))))["activation"]


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize("name", ["clip-openai", "mine"])
def test_an_activation_that_contradicts_openais_weights_is_said(name, value, tiny_openclip, tmp_path):
    notes, activation = quick(tiny_openclip, tmp_path, name, value=value)
    assert activation == ("QuickGELU" if value else "GELU")
    said = [note for note in notes if "were trained with quick GELU, and this architecture has GELU" in note]
    assert bool(said) == (name == "clip-openai" and not value)


@pytest.mark.parametrize(
    ("file", "digest", "expected"),
    [
        ("x/w.pt", "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af", ("ViT-B-32 openai", True)),
        ("x/w.pt", "46683a32" + "0" * 56, ("ViT-B-32 laion400m_e32", True)),
        ("x/w.pt", "af8dbd0c" + "0" * 56, ("ViT-B-32 laion2b_e16", False)),
        ("x/vit_b_32-quickgelu-laion400m_e32-46683a32.pt", "0" * 64, ("ViT-B-32 laion400m_e32", True)),
        ("x/b32_400m.pt", "0" * 64, ("ViT-B-32 metaclip_400m", True)),
        ("hub/models--laion--CLIP-ViT-B-32-laion2B-s34B-b79K/snapshots/1/open_clip_model.safetensors", None,
         ("ViT-B-32 laion2b_s34b_b79k", False)),
        ("timm/vit_base_patch32_clip_224.openai/open_clip_model.safetensors", None, ("ViT-B-32 openai", True)),
        ("clip-OpenAI/w.pt", None, ("OpenAI's, by its path", True)),
        ("x/ViT-B-32.pt", "0" * 64, None),  # anybody's name
        ("x/myopenaicopy.pt", "0" * 64, None),
        ("home/openai/models/mine/w.pt", "0" * 64, None),
    ],
)  # fmt: skip
def test_weights_are_known_by_hash_name_or_repository(file, digest, expected):
    assert origin_of(Path(file), digest) == expected


def test_open_clip_itself_agrees_that_its_quickgelu_architectures_have_quick_weights():
    for architecture, tags in _PRETRAINED.items():
        if architecture.endswith("-quickgelu"):
            assert all(settings.get("quick_gelu") for settings in tags.values()), architecture


@pytest.mark.parametrize(("architecture", "said"), [("RN50", True), ("RN50-quickgelu", False)])
def test_a_weights_file_with_the_plain_architecture(architecture, said, tmp_path, monkeypatch):
    small = {"embed_dim": 8, "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
             "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}}  # fmt: skip
    config = small | {"quick_gelu": architecture.endswith("quickgelu")}
    open_clip.add_model_config(tmp_path)
    name = f"tiny-{architecture}"
    (tmp_path / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path)
    file = tmp_path / "rn50-quickgelu-yfcc15m-455df137.safetensors"
    save_file(dict(open_clip.create_model(name).state_dict()), file)
    monkeypatch.setattr("attention_collapse.models.activation.PRETRAINED",
                        {"RN50": {"yfcc15m": {"url": f"https://x/{file.name}", "quick_gelu": True}}})  # fmt: skip
    notes = load("m", checkpoint("openclip", file, architecture=name)).provenance["notes"]
    assert any("RN50 yfcc15m" in note for note in notes) == said


def test_of_weights_of_unknown_origin_nothing_is_said(tiny_state, tmp_path):
    assert activation_notes(tiny_state, tmp_path / "w.safetensors", "0" * 64) == ()
    assert activation_notes(tiny_state, None, None) == ()


def test_pictures_of_another_scale_are_refused_in_open_clips_folders_too(tiny_openclip, tmp_path):
    from attention_collapse.errors import ModelError

    for name, change in (("a", {"std": [1e-6] * 3}), ("b", {"std": [100.0] * 3}), ("c", {"mean": [0.5]})):
        folder = shutil.copytree(tiny_openclip, tmp_path / name)
        file = folder / "open_clip_config.json"
        config = json.loads(file.read_text())
        config["preprocess_cfg"] = {**config.get("preprocess_cfg", {}), **change}
        file.write_text(json.dumps(config))
        if name == "c":  # one number for all channels is what PyTorch takes it for
            load("m", named(str(folder)))
            continue
        with pytest.raises(ModelError, match="black and white are(.|\n)*preprocess_cfg"):
            load("m", named(str(folder)))
