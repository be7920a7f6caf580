"""Loading from the transformers library: the hub's cache, and everything that must not pass."""

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny.decoders import write_llava, write_paligemma
from tiny.encoders import write_clip
from transformers import LlamaConfig, LlamaForCausalLM

from attention_collapse.engine.probed_batch import probe_batch
from attention_collapse.errors import ModelError, ProbeError
from attention_collapse.models import load
from attention_collapse.models.catalogue import named
from attention_collapse.models.hub import count_parameters
from attention_collapse.models.pretrained import memory_needed, weight_files
from attention_collapse.models.spec import ModelSpec

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    root = tmp_path_factory.mktemp("originals")
    for name, writer in (("clip", write_clip), ("llava", write_llava), ("paligemma", write_paligemma)):
        writer(root / name)
    return root


@pytest.fixture
def folder(originals, tmp_path):
    return lambda name: shutil.copytree(originals / name, tmp_path / name)


def checkpoint(path, kind="clip", **options):
    return ModelSpec(kind=kind, weights="checkpoint", path=str(path), **options)


def one_pair(text="A cat sits on a red table."):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)
    return [Image.fromarray(pixels)], [text]


@pytest.fixture
def hub(originals, tmp_path, monkeypatch):
    """The hub's cache as it lies on disk after a download; nothing else can be reached."""
    from huggingface_hub import constants

    cache = tmp_path / "hub"
    repo = cache / "models--org--clip"
    shutil.copytree(originals / "clip", repo / "snapshots" / REVISION)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(REVISION)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return cache


def cached(monkeypatch, hub):
    from attention_collapse.models import hub as code

    real = code.snapshot_download
    monkeypatch.setattr(code, "snapshot_download", lambda *a, **k: real(*a, cache_dir=hub, **k))


@pytest.mark.parametrize("revision", [REVISION, None])
def test_the_hubs_cache_loads_as_a_folder_does_and_says_its_revision(hub, revision, originals, monkeypatch):
    cached(monkeypatch, hub)
    model = load("m", ModelSpec(kind="clip", weights="hub", repo="org/clip", revision=revision))
    assert model.provenance["revision"] == REVISION
    other = load("m", checkpoint(originals / "clip"))
    assert model.provenance["sha256"] == other.provenance["sha256"]
    assert model.provenance["definition_sha256"] == other.provenance["definition_sha256"]
    own, state = model.module.state_dict(), load_file(originals / "clip" / "model.safetensors")
    assert all(torch.equal(own[key], state[key]) for key in state)


def test_a_hub_that_cannot_be_reached_names_the_files_and_the_way_by_hand(hub, monkeypatch):
    cached(monkeypatch, hub)
    with pytest.raises(
        ModelError, match=r"config.json and model\*.safetensors of org/other(.|\n)*by hand and give its folder"
    ):
        load("m", ModelSpec(kind="clip", weights="hub", repo="org/other", revision=REVISION))


def test_memory_is_told_from_the_headers_alone(originals):
    files = weight_files(originals / "clip")
    state = load_file(files[0])
    total = sum(value.numel() for value in state.values())
    assert count_parameters(files) == total
    assert memory_needed(files, "float32") == pytest.approx(4 * total / 2**30)
    assert memory_needed(files, "bfloat16") == pytest.approx(2 * total / 2**30)


def test_a_shard_that_an_index_names_and_that_is_not_there_is_named(originals, tmp_path):
    path = shutil.copytree(originals / "clip", tmp_path / "clip")
    (path / "model.safetensors").rename(path / "model-00001-of-00002.safetensors")
    shards = {"logit_scale": "model-00001-of-00002.safetensors", "x": "model-00002-of-00002.safetensors"}
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    said = r"model-00002-of-00002.safetensors, of the 2 shards in model.safetensors.index.json"
    with pytest.raises(ModelError, match=said):
        load("m", checkpoint(path))


def test_a_sha256_pin_is_insisted_on(originals):
    digest = load("m", checkpoint(originals / "clip")).provenance["sha256"]
    assert load("m", checkpoint(originals / "clip", sha256=digest)).provenance["sha256"] == digest
    with pytest.raises(ModelError, match="pinned in the parameters"):
        load("m", checkpoint(originals / "clip", sha256="0" * 64))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dtype_is_as_asked_for_whatever_the_file_says(folder, dtype):
    model = load("m", checkpoint(folder("llava"), kind="llava", dtype=dtype))
    assert model.module.dtype == getattr(torch, dtype)
    batch = model.pairs(*one_pair())
    seen, scores = probe_batch(model, batch, model.score)
    assert scores.isfinite().all()
    assert all(np.isfinite(v["entropy_all"]).all() for v in seen["vision"].values())


def test_accelerate_places_the_layers(folder):
    path = folder("llava")
    placed, plain = (load("m", checkpoint(path, kind="llava"), device) for device in ("auto", "cpu"))
    with torch.inference_mode():
        scores = [model.score(model.pairs(*one_pair())) for model in (placed, plain)]
    assert torch.allclose(*(score.cpu() for score in scores), atol=1e-4)


def broken_pickle(path):
    class Code:
        def __reduce__(self):
            return (print, ("this ran",))

    (path / "model.safetensors").unlink()
    (path / "pytorch_model.bin").write_bytes(pickle.dumps({"logit_scale": Code()}))


def not_finite(path):
    state = load_file(path / "model.safetensors")
    state["text_projection.weight"][0, 0] = torch.nan
    save_file(state, path / "model.safetensors", metadata={"format": "pt"})


def other_shape(path):
    state = load_file(path / "model.safetensors")
    state["text_projection.weight"] = torch.zeros(3, 3)
    save_file(state, path / "model.safetensors", metadata={"format": "pt"})


def remote_code(path):
    config = json.loads((path / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine"}}
    (path / "config.json").write_text(json.dumps(config))
    (path / "mine.py").write_text("raise SystemExit('this ran')")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (broken_pickle, "cannot be loaded(.|\n)*tensors only"),
        (not_finite, "NaN or infinite values in text_projection.weight"),
        (other_shape, r"is \(.*\), where config\.json makes it \("),
        (remote_code, "code from a repository is never run"),
        (lambda path: (path / "model.safetensors").unlink(), "no weights in"),
        (lambda path: (path / "model.safetensors").write_bytes(b"x" * 100), "cannot be loaded"),
        (
            lambda path: (path / "config.json").write_text('{"model_type": "clip", "vision_config": 3}'),
            "cannot be used",
        ),
        (lambda path: (path / "preprocessor_config.json").unlink(), "no processor in"),
        (shutil.rmtree, "no config.json in"),
    ],
)
def test_a_damaged_or_unsafe_folder_is_one_clear_error(damage, message, folder, capsys):
    path = folder("clip")
    damage(path)
    with pytest.raises(ModelError, match=message):
        load("m", checkpoint(path))
    assert "this ran" not in capsys.readouterr().out


def test_another_kind_of_model_is_refused(originals, tmp_path):
    with pytest.raises(ModelError, match="holds a 'clip' model(.|\n)*'llava'"):
        load("m", checkpoint(originals / "clip", kind="llava"))
    text_only = tmp_path / "llama"
    config = LlamaConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=9)
    LlamaForCausalLM(config).save_pretrained(text_only)
    with pytest.raises(ModelError, match="a model without an image input has no kind here"):
        load("m", checkpoint(text_only, kind="llava"))
    with pytest.raises(ModelError, match="model_type 'llama'(.|\n)*kind: python"):
        named(str(text_only))


def test_a_prompt_without_an_image_token(folder):
    path = folder("llava")
    for file in path.glob("chat_template*"):
        file.unlink()
    (path / "chat_template.jinja").write_text("USER: look. ASSISTANT:")
    with pytest.raises(ModelError, match="image token(.|\n)*check chat_template"):
        load("m", checkpoint(path, kind="llava"))


def test_no_chat_template(folder):
    path = folder("llava")
    for file in path.glob("chat_template*"):
        file.unlink()
    with pytest.raises(ModelError, match="no chat template"):
        load("m", checkpoint(path, kind="llava")).pairs(*one_pair())


@pytest.mark.parametrize(
    ("text", "message"), [("a cat <image> sits", "control token|image token"), ("   ", "has no tokens")]
)
def test_captions_that_are_no_plain_words(text, message, originals):
    model = load("m", checkpoint(originals / "llava", kind="llava"))
    with pytest.raises(ModelError, match=message):
        model.pairs(*one_pair(text))


def test_a_caption_longer_than_the_context(originals):
    llava = load("m", checkpoint(originals / "llava", kind="llava"))
    with pytest.raises(ModelError, match="tokens of prompt, image and caption(.|\n)*the model's context"):
        llava.pairs(*one_pair("a cat " * 3000))
    clip = load("m", checkpoint(originals / "clip"))
    batch = clip.texts(["a cat " * 300, "a cat"])
    assert batch.truncated == (True, False)  # a dual encoder cuts, and the result counts it


def test_a_prompt_of_ones_own(originals):
    plain, own = (
        load("m", checkpoint(originals / "llava", kind="llava", **options))
        for options in ({}, {"prompt": "What stands on the red table?"})
    )
    lengths = [model.pairs(*one_pair()).inputs["input_ids"].shape[1] for model in (plain, own)]
    assert lengths[0] != lengths[1]


def test_infinite_logits_name_the_layer(originals):
    model = load("m", checkpoint(originals / "clip"))
    with torch.no_grad():
        model.module.text_model.encoder.layers[1].self_attn.q_proj.weight.fill_(torch.inf)
    with pytest.raises(ProbeError, match=r"text_model\.encoder\.layers\.1\.self_attn: attention is not a finite"):
        probe_batch(model, model.texts(["a cat"]), model.embed)


def test_mixed_devices_are_named(originals):
    model = load("m", checkpoint(originals / "clip"))

    def elsewhere(*_):
        raise RuntimeError("Expected all tensors to be on the same device, but got index is on cuda:0, other is on cpu")

    model.module.text_model.register_forward_pre_hook(elsewhere)
    with pytest.raises(ModelError, match="different devices"):
        probe_batch(model, model.texts(["a cat"]), model.embed)


def test_attention_hidden_in_a_kernel_of_its_own_is_named(originals, monkeypatch):
    model = load("m", checkpoint(originals / "clip"))
    first = model.module.vision_model.encoder.layers[0].self_attn
    monkeypatch.setattr(first, "forward", lambda hidden_states, **_: (hidden_states, None))
    with pytest.raises(ProbeError, match=r"ran unseen: vision_model\.encoder\.layers\.0\.self_attn"):
        probe_batch(model, model.images(one_pair()[0]), model.embed)
