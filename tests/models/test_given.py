"""Model objects in memory: measured as their checkpoint is, and left as they were found."""

import copy
import functools
import hashlib

import open_clip
import pytest
import torch
from conftest import coco_folder
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file
from tiny.decoders import write_llava
from tiny.encoders import write_blip, write_clip, write_siglip, write_vilt
from torch import nn
from transformers import (
    AutoProcessor,
    BlipForConditionalGeneration,
    BlipForImageTextRetrieval,
    CLIPModel,
    CLIPTextModel,
    LlavaForConditionalGeneration,
    SiglipModel,
    ViltForImageAndTextRetrieval,
)

import attention_collapse
from attention_collapse import AttentionCollapseError
from attention_collapse.errors import ModelError
from attention_collapse.models import load
from attention_collapse.models.given import Given
from attention_collapse.models.objects import state_sha256
from attention_collapse.models.spec import ModelSpec

# The small tokenizers know few of the words of the captions here.
diagnose = functools.partial(attention_collapse.diagnose, max_unknown=1)

KINDS = {
    "clip": (CLIPModel, write_clip),
    "siglip": (SiglipModel, write_siglip),
    "blip": (BlipForImageTextRetrieval, write_blip),
    "vilt": (ViltForImageAndTextRetrieval, write_vilt),
    "llava": (LlavaForConditionalGeneration, write_llava),
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    root = tmp_path_factory.mktemp("bases")
    for name, (_, write) in KINDS.items():
        write(root / name)
    return root


@pytest.fixture
def folder(tmp_path):
    return coco_folder(tmp_path / "pairs", n=4, captions=1)


@pytest.fixture
def clip(bases):
    return CLIPModel.from_pretrained(bases / "clip"), AutoProcessor.from_pretrained(bases / "clip")


def numbers(result):
    return {name: (one.mean, one.reason) for name, one in result.estimates.items()}


def same(one, other):
    """Equal up to the order in which a kernel adds."""
    assert one.keys() == other.keys()
    for name, (mean, reason) in one.items():
        assert reason == other[name][1] and mean == (None if mean is None else pytest.approx(other[name][0], abs=1e-5))


def as_found(module):
    """Everything of a module and its parts that a measurement might have touched."""
    parts = {
        name: (part.training, dict(part._forward_hooks), dict(part._forward_pre_hooks), sorted(vars(part)), id(part))
        for name, part in module.named_modules()
    }
    tensors = {
        name: (id(tensor), tensor.requires_grad, tensor.device, tensor.dtype, tensor.grad, tensor._version)
        for name, tensor in (*module.named_parameters(), *module.named_buffers())
    }
    config = getattr(module, "config", None)
    return parts, tensors, config and (config.to_dict(), config._attn_implementation)


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_is_measured_as_its_checkpoint_is(kind, bases, folder):
    model = KINDS[kind][0].from_pretrained(bases / kind)
    processor = AutoProcessor.from_pretrained(bases / kind)
    given = diagnose(model=model, processor=processor, pairs=folder, partners=2)
    same(numbers(given), numbers(diagnose(str(bases / kind), folder, partners=2)))
    assert (
        given.model == KINDS[kind][0].__name__ and f"transformers.{given.model} in memory" in given.weights["weights"]
    )
    assert given.settings["device"] == "cpu"


def test_the_hash_is_of_every_tensors_name_type_shape_and_bytes(clip, bases):
    model, _ = clip
    expected = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        expected.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode() + value.numpy().tobytes())
    assert state_sha256(model) == expected.hexdigest()
    assert state_sha256(copy.deepcopy(model)) == expected.hexdigest()
    with torch.no_grad():
        model.logit_scale += 1e-3
    assert state_sha256(model) != expected.hexdigest()


def test_what_was_measured_are_the_weights_as_they_stand(clip, folder):
    model, processor = clip
    first = diagnose(model, folder, processor=processor, partners=0)
    with torch.no_grad():
        model.text_model.encoder.layers[0].self_attn.q_proj.weight.mul_(3)
    second = diagnose(model, folder, processor=processor, partners=0)
    assert first.weights["sha256"] != second.weights["sha256"] and first["mcs"].mean != second["mcs"].mean


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("fails", [False, True])
def test_the_object_is_left_as_it_was_found_also_after_an_error(attention, fails, bases, folder):
    model = CLIPModel.from_pretrained(bases / "clip", attn_implementation=attention).train()
    processor = AutoProcessor.from_pretrained(bases / "clip")
    processor.tokenizer.padding_side = "left"
    model.vision_model.eval()  # as with a frozen tower
    model.vision_model.requires_grad_(False)
    model.text_projection.weight.grad = torch.ones_like(model.text_projection.weight)
    model.text_model.register_forward_hook(lambda *_: None)
    before = as_found(model)
    if fails:
        with pytest.raises(AttentionCollapseError):
            diagnose(model, folder / "nowhere", processor=processor)
        model.text_projection.weight.data[0] = torch.nan
        before = as_found(model)
        with pytest.raises(AttentionCollapseError, match="NaN"):
            diagnose(model, folder, processor=processor)
    else:
        diagnose(model, folder, processor=processor, partners=1)
    assert as_found(model) == before and processor.tokenizer.padding_side == "left"
    assert model.config._attn_implementation == attention


class MyClip(CLIPModel):
    """A user's own class."""


class Halved(CLIPModel):
    """A class whose own forward pass gives another score than its towers do."""

    def forward(self, **inputs):
        out = super().forward(**inputs)
        out.logits_per_image = out.logits_per_image / 2
        return out


def test_a_class_derived_from_a_kinds_class_is_of_the_kind(bases, clip, folder):
    mine = MyClip.from_pretrained(bases / "clip")
    result = diagnose(mine, folder, processor=clip[1], partners=0)
    same(numbers(result), numbers(diagnose(str(bases / "clip"), folder, partners=0)))
    assert result.model == "MyClip" and "MyClip, a transformers.CLIPModel" in result.weights["weights"]
    with pytest.raises(ModelError, match="its forward pass scores a pair"):
        diagnose(Halved.from_pretrained(bases / "clip"), folder, processor=clip[1])


def lora(model, **options):
    torch.manual_seed(0)
    return get_peft_model(model, LoraConfig(target_modules=["q_proj"], init_lora_weights=False, **options))


def distributed(module):
    """DistributedDataParallel over one process of this machine."""
    from torch import distributed as dist

    if not dist.is_initialized():
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    return nn.parallel.DistributedDataParallel(module)


WRAPPERS = {
    "compiled": torch.compile,
    "compiled in place": lambda model: model.compile() or model,
    "data parallel": nn.DataParallel,
    "distributed": distributed,
    "compiled and data parallel": lambda model: torch.compile(nn.DataParallel(model)),
    "distributed and compiled": lambda model: distributed(torch.compile(model)),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_wrappers_change_nothing(wrap, bases, clip, folder):
    model, processor = clip
    wrapped = wrap(model)
    result = diagnose(wrapped, folder, processor=processor, partners=0)
    same(numbers(result), numbers(diagnose(str(bases / "clip"), folder, partners=0)))
    assert result.model == "CLIPModel" and result.weights["sha256"] == state_sha256(model)


@pytest.mark.parametrize("wrap", [lambda model: model, torch.compile, nn.DataParallel], ids=["alone", "compiled", "dp"])
def test_a_peft_model_is_measured_with_its_adapter_which_stays(wrap, bases, clip, folder, tmp_path):
    model, processor = clip
    wrapped = lora(model)
    wrapped.save_pretrained(tmp_path / "lora")
    whole = wrap(wrapped)
    before = as_found(wrapped)
    result = diagnose(whole, folder, processor=processor, partners=0)
    assert as_found(wrapped) == before
    merged = diagnose(str(tmp_path / "lora"), folder, partners=0)
    same(numbers(result), numbers(merged))
    base = diagnose(str(bases / "clip"), folder, partners=0)
    assert abs(result["mcs"].mean - base["mcs"].mean) > 1e-4
    with wrapped.disable_adapter():
        same(numbers(diagnose(wrapped, folder, processor=processor, partners=0)), numbers(base))


def test_a_prompt_of_pefts_is_refused_for_it_would_be_lost(bases, folder):
    model = LlavaForConditionalGeneration.from_pretrained(bases / "llava")
    config = PromptTuningConfig(
        num_virtual_tokens=2, task_type="CAUSAL_LM", token_dim=32, num_layers=2, num_attention_heads=2,
        num_transformer_submodules=1,
    )  # fmt: skip
    with pytest.raises(ModelError, match="PROMPT_TUNING(.|\n)*kind: python"):
        diagnose(get_peft_model(model, config), folder, processor=AutoProcessor.from_pretrained(bases / "llava"))


# -- open_clip ---------------------------------------------------------------------------------


@pytest.fixture
def ours(tiny_openclip):
    """A model of open_clip's, its transform and its tokenizer, as its user has them."""
    model = load("m", ModelSpec(kind="openclip", weights="checkpoint", path=str(tiny_openclip)))
    module = copy.deepcopy(model.module)
    module.visual.ln_post._forward_hooks.clear()
    return module.train().requires_grad_(), model._transform, model._tokenizer


def test_an_open_clip_model_with_transform_and_tokenizer(ours, tiny_openclip, folder):
    model, transform, tokenizer = ours
    before = as_found(model)
    expected = numbers(diagnose(str(tiny_openclip), folder, partners=2))
    for pair in ((transform, tokenizer), (tokenizer, transform)):
        same(numbers(diagnose(model=model, processor=pair, pairs=folder, partners=2)), expected)
    assert as_found(model) == before
    state = {
        f"_orig_mod.{key}": value for key, value in load_file(tiny_openclip / "open_clip_model.safetensors").items()
    }
    assert state.keys() == torch.compile(model).state_dict().keys()
    same(numbers(diagnose(torch.compile(model), folder, processor=(transform, tokenizer), partners=2)), expected)


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        (lambda transform, tokenizer: None, "processor is NoneType(.|\n)*create_model_and_transforms"),
        (lambda transform, tokenizer: transform, "processor is Compose"),
        (lambda transform, tokenizer: (transform, transform), "processor is Compose, Compose"),
        (
            lambda transform, tokenizer: (transform, open_clip.tokenize),
            "processor is Compose, function|SimpleTokenizer",
        ),
        (lambda transform, tokenizer: (transform, open_clip.SimpleTokenizer()), "a tokenizer of 77 tokens"),
        (
            lambda transform, tokenizer: (open_clip.transform.image_transform(64, is_train=True), tokenizer),
            "other pixels",
        ),
        (
            lambda transform, tokenizer: (open_clip.transform.image_transform(32, is_train=False), tokenizer),
            "(3, 32, 32)",
        ),
        (lambda transform, tokenizer: (lambda image: 1, tokenizer), "the transform gives AttributeError"),
    ],
)
def test_what_goes_beside_an_open_clip_model(processor, message, ours, folder):
    model, transform, tokenizer = ours
    with pytest.raises(ModelError, match=message if "(3" not in message else r"pixels of \(3, 32, 32\)"):
        diagnose(model, folder, processor=processor(transform, tokenizer))


# -- a tower of another class ------------------------------------------------------------------


class Pooled(nn.Module):
    """A user's vision tower without attention: a convolution, and the mean of its cells."""

    def __init__(self, width):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, width, 8, 8)

    def forward(self, pixel_values, **_):
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        states = self.conv(pixel_values).flatten(2).transpose(1, 2)  # (batch, cell, width)
        return BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=states.mean(1))


def test_a_vision_tower_of_another_class_has_its_causal_measures_and_no_attention(clip, folder):
    model, processor = clip
    model.vision_model = Pooled(model.config.vision_config.hidden_size)
    before = as_found(model)
    result = diagnose(model, folder, processor=processor, partners=2)
    assert as_found(model) == before
    assert result["mcs"].mean is None and "vision_model is Pooled, where CLIPModel has" in result["mcs"].reason
    assert result["entropy_text"].mean is not None
    by_hand = processor(images=_picture(folder), text=["picture 1 of two red circles"], return_tensors="pt")
    model.eval()
    with torch.inference_mode():
        assert model(**by_hand).logits_per_image.isfinite().all()
    assert any("vision_model is Pooled" in note for note in result.weights["notes"])
    defined = [name for name, one in result.estimates.items() if one.mean is not None]
    assert {"choice_image", "accuracy"} & set(defined)


def _picture(folder):
    from PIL import Image

    return Image.open(folder / "val2017" / "000000000001.jpg")


def test_a_tower_whose_names_fit_but_whose_tokens_differ_is_seen_too(clip, bases, folder):
    """SigLIP's tower has CLIP's names and no class token: labelled as CLIP's, its first patch would be none."""
    from transformers import SiglipVisionConfig, SiglipVisionModel

    model, processor = clip
    own = model.config.vision_config
    config = SiglipVisionConfig(
        hidden_size=own.hidden_size, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        image_size=own.image_size, patch_size=own.patch_size,
    )  # fmt: skip
    model.vision_model = SiglipVisionModel(config)
    result = diagnose(model, folder, processor=processor, partners=0)
    assert "SiglipVisionModel" in result["mcs"].reason and result["entropy_text"].mean is not None


def no_pooler(model):
    model.vision_model = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Flatten())


def other_text(model):
    model.text_model = nn.Embedding(700, model.config.text_config.hidden_size)


def other_layer(model):
    model.text_model.encoder.layers[1] = nn.Identity()


def other_width(model):
    model.visual_projection = nn.Linear(999, 24, bias=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (no_pooler, "do not pass through it(.|\n)*TypeError|AttributeError"),
        (other_text, "text_model is Embedding, where CLIPModel has CLIPText"),
        (other_layer, r"text_model\.encoder\.layers\.1 is Identity"),
        (other_width, r"do not pass through it \(RuntimeError.*mat1"),
    ],
)
def test_a_part_that_does_not_fit_is_refused_by_its_name(change, message, clip, folder):
    model, processor = clip
    change(model)
    with pytest.raises(ModelError, match=message):
        diagnose(model, folder, processor=processor)


def test_fewer_layers_are_no_other_tower(clip, folder):
    model, processor = clip
    model.text_model.encoder.layers = model.text_model.encoder.layers[:1]
    result = diagnose(model, folder, processor=processor, partners=0)
    assert result["mcs"].mean is not None


# -- what is refused ---------------------------------------------------------------------------


class Linear4bit(nn.Linear):
    """As bitsandbytes names its own."""


def four_bit(model):
    model.text_projection = Linear4bit(32, 24, bias=False)
    return model


def packed(model):
    model.text_projection.weight = nn.Parameter(torch.zeros(24, 32, dtype=torch.int8), requires_grad=False)
    return model


def flagged(model):
    model.is_quantized = True
    return model


def dynamic(model):
    return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


@pytest.mark.parametrize("change", [four_bit, packed, flagged, dynamic])
@pytest.mark.filterwarnings("ignore")
def test_quantised_weights_are_refused(change, clip, folder):
    model, processor = clip
    with pytest.raises(ModelError, match="quantised weights(.|\n)*bfloat16"):
        diagnose(change(model), folder, processor=processor)


class Holder(nn.Module):
    """A user's module around a model."""

    def __init__(self, clip):
        super().__init__()
        self.backbone = clip


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda clip: nn.Linear(2, 2), "class torch.nn.modules.linear.Linear(.|\n)*docs/adding.md(.|\n)*kind python"),
        (Holder, "model.backbone"),
        (lambda clip: CLIPTextModel(clip.config.text_config), "CLIPTextModel, of no kind here"),
        (lambda clip: CLIPModel, "the class CLIPModel(.|\n)*from_pretrained"),
        (lambda clip: object(), "an object of class object"),
        (lambda clip: CLIPModel(clip.config).to("meta"), "meta device"),
    ],
)
def test_an_object_of_no_kind_is_refused_with_what_to_do(make, message, clip, folder):
    model, processor = clip
    with pytest.raises(ModelError, match=message):
        diagnose(make(model), folder, processor=processor)


def test_a_head_that_has_no_kind_names_the_class_that_has_one(bases, folder):
    model = BlipForConditionalGeneration.from_pretrained(bases / "blip")
    with pytest.raises(ModelError, match="BlipForConditionalGeneration(.|\n)*BlipForImageTextRetrieval, for kind blip"):
        diagnose(model, folder, processor=AutoProcessor.from_pretrained(bases / "blip"))


def test_processors_that_are_none(clip, bases, folder):
    model, processor = clip
    for wrong in (None, processor.tokenizer, processor.image_processor, "clip", (processor.image_processor, processor)):
        with pytest.raises(ModelError, match="processor is (.|\n)*AutoProcessor.from_pretrained"):
            diagnose(model, folder, processor=wrong)
    with pytest.raises(AttentionCollapseError, match="a processor was given with a model that is not in memory"):
        diagnose(str(bases / "clip"), folder, processor=processor)
    with pytest.raises(ModelError, match="lies on cpu, and device is 'cuda'"):
        diagnose(model, folder, processor=processor, device="cuda")


@pytest.mark.parametrize("other", ["siglip", "llava", "vilt"])
def test_the_processor_of_another_model_is_refused(other, clip, bases, folder):
    """CLIP finds no end token in what SigLIP's tokenizer gives, and reads every caption at its first token."""
    with pytest.raises(ModelError, match="processor is a (.|\n)*a CLIPProcessor"):
        diagnose(clip[0], folder, processor=AutoProcessor.from_pretrained(bases / other))


def test_a_declared_model_may_be_given_itself(folder):
    from examples.own_model import table

    given = Given(table(), None).load("cpu")
    by_name = load("m", ModelSpec(kind="python", weights="factory", factory="examples.own_model:table"))
    assert given.family == by_name.family and given.provenance["sha256"] == state_sha256(given.module)
