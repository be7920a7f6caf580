"""The real loading code, on checkpoints written to disk in the hub's own layouts."""

import json
import os
import pickle
import shutil
from dataclasses import replace

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from attention_collapse.engine.probed_batch import probe_batch
from attention_collapse.errors import ModelError, ProbeError
from attention_collapse.models import load
from attention_collapse.models.catalogue import CATALOGUE, named
from attention_collapse.models.scenes import write_restricted_merges
from attention_collapse.models.spec import ModelSpec
from attention_collapse.probe import IMAGE, OTHER, TEXT
from attention_collapse.registry import kinds

REVISION = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = "open_clip_model.safetensors"


def checkpoint(path, **extra):
    return ModelSpec(kind="openclip", weights="checkpoint", path=str(path), **extra)


@pytest.fixture
def folder(tiny_openclip, tmp_path):
    return shutil.copytree(tiny_openclip, tmp_path / "model")


@pytest.fixture(scope="module")
def tiny(tiny_openclip):
    return load("tiny", checkpoint(tiny_openclip))


def images(n=3):
    return [Image.new("RGB", (80 + i, 64), (40 * i, 90, 200)) for i in range(n)]


def test_a_folder_loads_exactly_its_weights(tiny, tiny_openclip):
    state = load_file(tiny_openclip / WEIGHTS)
    own = tiny.module.state_dict()
    assert own.keys() == state.keys() and all(torch.equal(own[key], state[key]) for key in state)
    assert tiny.provenance["untrained"] is False and len(tiny.provenance["sha256"]) == 64
    assert not tiny.module.training


def test_the_end_token_and_padding_are_where_the_model_has_them(tiny):
    batch = tiny.texts(["a red circle", "a red circle on the left", "red " * 100])
    [read] = batch.reads
    assert read.lengths.tolist() == [5, 8, 32] and batch.truncated == (False, False, True)
    for weights, length in zip(read.rows["all"], read.lengths.tolist(), strict=True):
        assert weights[:length].tolist() == pytest.approx([1 / length] * length) and weights[length:].sum() == 0
    assert read.rows["readout"].argmax(-1).tolist() == [4, 7, 31]
    groups = batch.groups["transformer.resblocks.0.attn"]
    assert groups[0].tolist()[:6] == [OTHER, TEXT, TEXT, TEXT, OTHER, OTHER]


def test_the_class_token_comes_first(tiny):
    batch = tiny.images(images())
    [read] = batch.reads
    assert read.lengths.tolist() == [17] * 3
    assert batch.groups["visual.transformer.resblocks.0.attn"].tolist() == [[OTHER] + [IMAGE] * 16]
    assert read.rows["readout"].argmax(-1).tolist() == [0] * 3


def test_groups_are_true_pixels_and_words_move_their_own_keys(tiny):
    """Ask the model: perturb one patch, or one word, and see whose input to the first layer moves."""
    inputs = []
    hook = tiny.module.visual.transformer.register_forward_pre_hook(lambda m, a: inputs.append(a[0].detach().clone()))
    with torch.inference_mode():
        batch = tiny.images(images(1))
        tiny.embed(batch)
        changed = batch.inputs["image"].clone()
        changed[..., 16:32, 32:48] += 1.0  # second row of patches, third column
        tiny.embed(replace(batch, inputs={"image": changed}))
    hook.remove()
    moved = (inputs[0] != inputs[1]).any(-1)[0]
    assert moved.nonzero().flatten().tolist() == [1 + 4 + 2]
    one, other = (tiny.texts([t]).inputs["text"][0] for t in ("a red circle", "a red picture"))
    assert (one != other).nonzero().flatten().tolist() == [3]


def test_tokens_are_those_of_the_full_vocabulary(tiny):
    full = open_clip.SimpleTokenizer()
    for text in ("a red circle on the left", "picture"):
        restricted = tiny._tokenizer
        assert [restricted.decoder[i] for i in restricted.encode(text)] == [full.decoder[i] for i in full.encode(text)]


def test_restricted_merges_are_the_same_bytes_every_time(tmp_path):
    for name in ("a", "b"):
        write_restricted_merges(["red", "circle"], tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("tower", ["vision", "text"])
def test_statistics_equal_those_of_open_clips_own_attention_weights(tiny, tower):
    """Independent reference: nn.MultiheadAttention asked for its weights, reduced in float64."""
    batch = tiny.images(images()) if tower == "vision" else tiny.texts(["a red circle", "on the left the picture"])
    seen = probe_batch(tiny, batch, tiny.embed)[0][tower]
    prefix = "visual.transformer." if tower == "vision" else "transformer."
    patterns = {}

    def keep(name):
        def hook(module, args, kwargs):
            given = dict(zip(("query", "key", "value"), args, strict=False)) | kwargs
            q, k, v = (given[part].transpose(0, 1) for part in ("query", "key", "value"))
            _, weights = torch.nn.functional.multi_head_attention_forward(
                q, k, v, module.embed_dim, module.num_heads, module.in_proj_weight, module.in_proj_bias,
                None, None, False, 0.0, module.out_proj.weight, module.out_proj.bias, training=False,
                need_weights=True, attn_mask=given.get("attn_mask"), average_attn_weights=False,
            )  # fmt: skip
            patterns[name] = weights.double()

        return hook

    hooks = [
        module.register_forward_pre_hook(keep(name), with_kwargs=True)
        for name, module in tiny.module.named_modules()
        if name.startswith(prefix) and isinstance(module, torch.nn.MultiheadAttention)
    ]
    with torch.no_grad():
        tiny.embed(batch)
    for hook in hooks:
        hook.remove()
    assert patterns.keys() == seen.keys() and len(patterns) == (2 if tower == "vision" else 3)
    for name, p in patterns.items():  # (batch, head, query, key)
        entropy = torch.special.entr(p).sum(-1)
        support = (p > 0).sum(-1).double()
        for rows, weights in batch.reads[0].rows.items():
            w = weights[:, None]
            assert torch.allclose(torch.from_numpy(seen[name][f"entropy_{rows}"]), (entropy * w).sum(-1), atol=2e-6)
            assert torch.allclose(
                torch.from_numpy(seen[name][f"uniform_{rows}"]), (support.log() * w).sum(-1), atol=1e-12
            )
            mass = (p * (batch.groups[name] == (IMAGE if tower == "vision" else TEXT))[:, None, None]).sum(-1)
            key = f"mass_{'image' if tower == 'vision' else 'text'}_{rows}"
            assert torch.allclose(torch.from_numpy(seen[name][key]), (mass * w).sum(-1), atol=2e-6)


def test_padding_beyond_the_longest_text_is_not_run_and_changes_nothing(tiny):
    texts = ["a red ring", "two blue squares on the left"]
    batch = tiny.texts(texts)
    whole = tiny._tokenizer(texts)
    longest = int(whole.argmax(-1).max()) + 1
    assert batch.inputs["text"].shape == (2, longest) and longest < whole.shape[1] == tiny.module.context_length
    with torch.inference_mode():
        expected = tiny.module.encode_text(whole, normalize=True)
        assert torch.allclose(tiny.embed(batch).embedding, expected, atol=1e-6)
    assert tiny.module.positional_embedding.shape[0] == whole.shape[1] == tiny.module.attn_mask.shape[0]


def test_the_score_does_not_depend_on_padding_neighbours(tiny):
    alone = probe_batch(tiny, tiny.texts(["a red circle"]), tiny.embed)[0]["text"]
    together = probe_batch(tiny, tiny.texts(["a red circle", "a red circle on the left"]), tiny.embed)[0]["text"]
    for site in tiny.sites["text"]:
        assert alone[site]["entropy_all"][0] == pytest.approx(together[site]["entropy_all"][0], abs=1e-6)


# -- bad checkpoints -----------------------------------------------------------------------------------------------


def rewrite(folder, change):
    state = load_file(folder / WEIGHTS)
    change(state)
    save_file(state, folder / WEIGHTS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("ln_final.weight"), r"missing ln_final\.weight"),
        (lambda s: s.update(logit_scale=torch.zeros(2)), r"logit_scale \(2,\) where the model has"),
        (
            lambda s: s.update({"image_encoder.model.patch_emb.0.x": torch.zeros(2)}),
            "another architecture|unknown",
        ),
        (lambda s: s.update(extra=torch.zeros(2)), "unknown extra"),
        (
            lambda s: s.update({"ln_final.weight": torch.zeros(3)}),
            r"shape of ln_final\.weight \(3,\) where the model has \(32,\)",
        ),
        # open_clip's own loader resizes position embeddings silently; here another grid is another model
        (
            lambda s: s.update({"visual.positional_embedding": torch.zeros(26, 32)}),
            r"visual\.positional_embedding \(26, 32\)",
        ),
        (
            lambda s: s.update({"ln_final.weight": torch.full((32,), torch.nan)}),
            r"NaN or infinite values in ln_final\.weight",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(folder, change, message):
    rewrite(folder, change)
    with pytest.raises(ModelError, match=message):
        load("tiny", checkpoint(folder))


class Bomb:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def test_a_pickle_with_code_is_refused_and_not_run(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (folder / WEIGHTS).unlink()
    with (folder / "open_clip_pytorch_model.bin").open("wb") as stream:
        pickle.dump({"weight": Bomb()}, stream)
    with pytest.raises(ModelError, match="cannot be read safely"):
        load("tiny", checkpoint(folder))
    torch.save({"weight": Bomb()}, folder / "open_clip_pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot be read safely"):
        load("tiny", checkpoint(folder))
    assert not (tmp_path / "pwned").exists()


def test_a_pytorch_file_with_tensors_only_is_read(folder, tiny):
    state = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, folder / "open_clip_pytorch_model.bin")
    loaded = load("tiny", checkpoint(folder))
    assert all(torch.equal(a, b) for a, b in zip(loaded.module.parameters(), tiny.module.parameters(), strict=True))


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", b"\xff" * 100])
def test_a_broken_safetensors_file(folder, content):
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(ModelError, match="cannot be read safely"):
        load("tiny", checkpoint(folder))


@pytest.mark.parametrize("content", [b"", b"hello world", b"\x80\x04."])
def test_a_broken_pytorch_file(folder, content):
    (folder / WEIGHTS).unlink()
    (folder / "open_clip_pytorch_model.bin").write_bytes(content)
    with pytest.raises(ModelError, match="cannot be read safely|not tensors by name"):
        load("tiny", checkpoint(folder))


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["model_cfg"].pop("text_cfg"),
        lambda c: c["model_cfg"].update(nonsense=1),
        lambda c: c["preprocess_cfg"].update(nonsense=1),
        lambda c: c["model_cfg"]["text_cfg"]["tokenizer_kwargs"].update(bpe_path="gone.txt.gz"),
        lambda c: c["model_cfg"].update(vision_cfg=3),
    ],
)
def test_a_configuration_that_describes_no_model(folder, change):
    file = folder / "open_clip_config.json"
    config = json.loads(file.read_text())
    change(config)
    file.write_text(json.dumps(config))
    with pytest.raises(ModelError, match="does not describe a model"):
        load("tiny", checkpoint(folder))


def test_what_the_model_is_includes_its_configuration_and_tokenizer(folder):
    before = load("tiny", checkpoint(folder)).provenance
    file = folder / "open_clip_config.json"
    file.write_text(file.read_text().replace("0.25", "0.3"))
    after = load("tiny", checkpoint(folder)).provenance
    assert before["sha256"] == after["sha256"] and before["definition_sha256"] != after["definition_sha256"]


def test_missing_weights_are_an_error_never_random(folder):
    (folder / WEIGHTS).unlink()
    with pytest.raises(ModelError, match=r"no weights in(.|\n)*untrained if that is meant"):
        load("tiny", checkpoint(folder))
    with pytest.raises(ModelError, match="nowhere/open_clip_config.json is absent"):
        load("tiny", checkpoint(folder / "nowhere"))


def test_a_pinned_hash(folder):
    right = load("tiny", checkpoint(folder)).provenance["sha256"]
    load("tiny", checkpoint(folder, sha256=right))
    with pytest.raises(ModelError, match="pinned in the parameters"):
        load("tiny", checkpoint(folder, sha256="0" * 64))


def test_untrained_weights_follow_their_seed_and_say_so(folder):
    def fresh(seed):
        return load("u", ModelSpec(kind="openclip", weights="untrained", architecture=str(folder), seed=seed))

    state = torch.random.get_rng_state()
    a, b, c = fresh(0), fresh(0), fresh(1)
    assert torch.equal(torch.random.get_rng_state(), state)
    key = "visual.transformer.resblocks.0.attn.in_proj_weight"
    a_, b_, c_ = (m.module.state_dict()[key] for m in (a, b, c))
    assert torch.equal(a_, b_) and not torch.equal(a_, c_)
    assert a.provenance["untrained"] and a.provenance["weights"].startswith("UNTRAINED")


def test_nan_in_the_forward_pass_names_the_layer(folder):
    model = load("tiny", checkpoint(folder))
    with torch.no_grad():
        model.module.visual.transformer.resblocks[1].attn.in_proj_weight.fill_(torch.nan)
    with pytest.raises(ProbeError, match=r"visual\.transformer\.resblocks\.1\.attn: attention is not a finite"):
        probe_batch(model, model.images(images()), model.embed)


# -- the hub ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def offline_hub(tmp_path, monkeypatch):
    """An empty hub cache and no network, as huggingface_hub sees it."""
    from huggingface_hub import constants

    cache = tmp_path / "hub"
    for name, value in (("HF_HUB_CACHE", str(cache)), ("HF_HUB_OFFLINE", True)):
        monkeypatch.setattr(constants, name, value)
    return cache


def put(cache, repo, files):
    """A repository as the hub's cache holds it."""
    root = cache / f"models--{repo.replace('/', '--')}"
    snapshot = root / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(REVISION)
    for name, source in files.items():
        shutil.copy(source, snapshot / name)
    return snapshot


def test_a_hub_repository_by_revision(folder, offline_hub, tiny):
    put(offline_hub, "lab/tiny", {p.name: p for p in folder.iterdir()})
    model = load("m", ModelSpec(kind="openclip", weights="hub", repo="lab/tiny", revision=REVISION))
    assert model.provenance["revision"] == REVISION
    assert all(torch.equal(a, b) for a, b in zip(model.module.parameters(), tiny.module.parameters(), strict=True))


def test_a_hub_that_cannot_be_reached_names_the_files(offline_hub):
    with pytest.raises(
        ModelError, match=r"open_clip_config\.json and open_clip_model\.safetensors of lab/none(.|\n)*by hand"
    ):
        load("m", ModelSpec(kind="openclip", weights="hub", repo="lab/none", revision=REVISION))
    with pytest.raises(ModelError, match=r"open_clip_model\.safetensors of timm/vit_base_patch32_clip_224\.openai"):
        load("m", CATALOGUE["openclip-vit-b-32"])


@pytest.mark.slow
def test_the_openai_tag_uses_the_activation_it_was_trained_with(offline_hub, tmp_path):
    """A full-size ViT-B/32 in the cache of the hub: found by tag, with OpenAI's QuickGELU and preprocessing."""
    reference = open_clip.create_model("ViT-B-32-quickgelu")
    save_file({k: v.contiguous() for k, v in reference.state_dict().items()}, tmp_path / WEIGHTS)
    put(offline_hub, "timm/vit_base_patch32_clip_224.openai", {WEIGHTS: tmp_path / WEIGHTS})
    model = load("m", CATALOGUE["openclip-vit-b-32"])
    assert model.provenance["revision"] == REVISION and not model.provenance["untrained"]
    pixels = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        assert torch.allclose(model.module.encode_image(pixels), reference.eval().encode_image(pixels), atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"weights": "pretrained", "architecture": "ViT-B-32", "tag": "opnai"}, "no tag 'opnai'(.|\n)*openai"),
        ({"weights": "untrained", "architecture": "ViT-B-33", "seed": 0}, "no architecture 'ViT-B-33'"),
        ({"weights": "untrained", "architecture": "roberta-ViT-B-32", "seed": 0}, "roberta-ViT-B-32 cannot be built"),
    ],
)
def test_what_does_not_exist_is_named(spec, message, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # the same answer with and without a network
    with pytest.raises(ModelError, match=message):
        load("m", ModelSpec(kind="openclip", **spec))


def test_names_have_near_matches(tmp_path):
    with pytest.raises(ModelError, match="did you mean 'openclip-vit-b-32'"):
        named("openclip-vit-b-23")
    (tmp_path / "open_clip_config.json").write_text("{}")
    assert named(str(tmp_path)).path == str(tmp_path)


def test_no_cuda_is_said_plainly(tiny_openclip):
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    for device in ("cuda", "cuda:9", "mps", "nonsense"):
        with pytest.raises(ModelError, match=f"device '{device}' cannot be used"):
            load("tiny", checkpoint(tiny_openclip), device)


def test_the_catalogue_offers_random_weights_only_under_a_name_that_says_so():
    for name, spec in CATALOGUE.items():
        assert spec.is_control == name.endswith("-untrained")
        assert json.loads(spec.model_dump_json())["kind"] in kinds()
