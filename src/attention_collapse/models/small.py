"""Small models of the libraries' own classes, as checkpoint folders in the hub's layout, with a vocabulary of words.

They are what modality use is planted in: 64-pixel pictures in 16-pixel patches, 48 wide, 4 heads, one token a word.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn

from attention_collapse.files import json_text, read_json, write_text
from attention_collapse.models import load
from attention_collapse.models.fusion import FusionV2, FusionV2Answers, Sizes
from attention_collapse.models.scenes import write_restricted_merges
from attention_collapse.models.spec import ModelSpec

WIDTH, HEADS, PICTURE, PATCH, CONTEXT = 48, 4, 64, 16, 32
SPREAD = 0.1  # standard deviation of initial weights: the libraries' 0.02 is meant for models 768 wide
HALF = [0.5, 0.5, 0.5]
IMAGES = "image_encoder/open_clip_model.safetensors"
PROMPT = "caption:"  # a decoder's instruction
NEAREST = 0  # PIL's number: pictures have the models' size already


def _word_tokenizer(
    folder: Path, special: Sequence[str], words: Sequence[str], roles: dict[str, str], single: str
) -> int:
    """Write a tokenizer with one token a word; `single` is its template. Returns the size of the vocabulary."""
    vocabulary = {word: index for index, word in enumerate([*special, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=roles["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(list(special))
    used = [(token, vocabulary[token]) for token in special if token in single]
    tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=used)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": CONTEXT, **roles}
    write_text(folder / "tokenizer_config.json", json_text(settings))
    return len(vocabulary)


DECODERS = ("llava", "idefics")
BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
BERT_ROLES = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
LLAMA = ("<unk>", "<s>", "</s>", "<pad>", "<image>", "<fake_token_around_image>")
LLAMA_ROLES = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


def _bert_tokenizer(folder: Path, words: Sequence[str]) -> int:
    return _word_tokenizer(folder, BERT, words, BERT_ROLES, "[CLS] $A [SEP]")


def _preprocessor(folder: Path, kind: str, processor: str, **settings: Any) -> None:
    shared = {
        "do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": HALF,
        "image_std": HALF, "resample": NEAREST, "rescale_factor": 1 / 255, "image_processor_type": kind,
        "processor_class": processor,
    }  # fmt: skip
    write_text(folder / "preprocessor_config.json", json_text(shared | settings))


def _write(folder: Path, class_name: str, config: Any, seed: int) -> None:
    config.architectures = [class_name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        getattr(transformers, class_name)(config).save_pretrained(folder)


def _blip(folder: Path, words: Sequence[str], seed: int) -> None:
    size = _bert_tokenizer(folder, words)
    _preprocessor(folder, "BlipImageProcessor", "BlipProcessor", size={"height": PICTURE, "width": PICTURE})
    shared = {
        "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": HEADS, "initializer_range": SPREAD,
    }  # fmt: skip
    text = {
        "num_hidden_layers": 3, "vocab_size": size, "projection_dim": WIDTH, "max_position_embeddings": CONTEXT,
        "encoder_hidden_size": WIDTH, "bos_token_id": 2, "pad_token_id": 0, "sep_token_id": 3, "eos_token_id": 3,
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    }  # fmt: skip
    vision = {"num_hidden_layers": 2, "image_size": PICTURE, "patch_size": PATCH}
    config = transformers.BlipConfig(
        text_config=shared | text,
        vision_config=shared | vision,
        projection_dim=8,
        image_text_hidden_size=8,
        initializer_range=SPREAD,
    )
    _write(folder, "BlipForImageTextRetrieval", config, seed)


def _vilt(folder: Path, words: Sequence[str], seed: int) -> None:
    size = _bert_tokenizer(folder, words)
    _preprocessor(
        folder, "ViltImageProcessor", "ViltProcessor", size={"shortest_edge": PICTURE}, size_divisor=PATCH, do_pad=True
    )
    config = transformers.ViltConfig(
        vocab_size=size, hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=4,
        num_attention_heads=HEADS, image_size=PICTURE, patch_size=PATCH, max_position_embeddings=CONTEXT,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=SPREAD,
    )  # fmt: skip
    _write(folder, "ViltForImageAndTextRetrieval", config, seed)


def _llava(folder: Path, words: Sequence[str], seed: int) -> None:
    size = _word_tokenizer(folder, LLAMA, [PROMPT, *words], {**LLAMA_ROLES, "image_token": "<image>"}, "<s> $A")
    patches = (PICTURE // PATCH) ** 2
    _preprocessor(
        folder, "CLIPImageProcessor", "LlavaProcessor", size={"shortest_edge": PICTURE},
        crop_size={"height": PICTURE, "width": PICTURE}, do_center_crop=True,
    )  # fmt: skip
    write_text(folder / "processor_config.json", json_text({
        "image_token": "<image>", "num_additional_image_tokens": 1, "patch_size": PATCH,
        "processor_class": "LlavaProcessor", "vision_feature_select_strategy": "default",
    }))  # fmt: skip
    chat = (
        "{% for message in messages %}{% for part in message['content'] %}{% if part['type'] == 'image' %}<image> "
        "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
    )
    write_text(folder / "chat_template.jinja", chat)
    text = {
        "model_type": "llama", "vocab_size": size, "hidden_size": WIDTH, "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 4, "num_attention_heads": HEADS, "num_key_value_heads": HEADS,
        "max_position_embeddings": patches + CONTEXT + 8, "pad_token_id": 3, "initializer_range": SPREAD,
    }  # fmt: skip
    vision = {
        "model_type": "clip_vision_model", "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": 2, "num_attention_heads": HEADS, "image_size": PICTURE, "patch_size": PATCH,
        "projection_dim": WIDTH,
    }  # fmt: skip
    config = transformers.LlavaConfig(
        text_config=text, vision_config=vision, image_token_index=LLAMA.index("<image>"), image_seq_length=patches,
        vision_feature_layer=-1, vision_feature_select_strategy="default", tie_word_embeddings=False,
    )  # fmt: skip
    _write(folder, "LlavaForConditionalGeneration", config, seed)


def _idefics(folder: Path, words: Sequence[str], seed: int) -> None:
    roles = {**LLAMA_ROLES}
    size = _word_tokenizer(folder, LLAMA, [PROMPT, "Assistant:", *words], roles, "<s> $A")
    write_text(folder / "preprocessor_config.json", json_text({
        "image_mean": HALF, "image_num_channels": 3, "image_processor_type": "IdeficsImageProcessor",
        "image_size": PICTURE, "image_std": HALF, "processor_class": "IdeficsProcessor",
    }))  # fmt: skip
    config = transformers.IdeficsConfig(
        vocab_size=size, additional_vocab_size=0, hidden_size=WIDTH, intermediate_size=2 * WIDTH, num_hidden_layers=4,
        num_attention_heads=HEADS, cross_layer_interval=2, use_resampler=False, dropout=0.0, qk_layer_norms=True,
        alpha_type="float", alpha_initializer="ones", max_position_embeddings=CONTEXT + 16, pad_token_id=3,
        bos_token_id=1, eos_token_id=2, use_cache=False, initializer_range=SPREAD,
        freeze_vision_layers=False, freeze_text_layers=False,
        vision_config={
            "embed_dim": WIDTH, "image_size": PICTURE, "intermediate_size": 4 * WIDTH, "num_attention_heads": HEADS,
            "num_hidden_layers": 2, "patch_size": PATCH,
            "initializer_range": SPREAD,
        },
    )  # fmt: skip
    _write(folder, "IdeficsForVisionText2Text", config, seed)


def write_align(folder: Path, words: Sequence[str], seed: int) -> None:
    """ALIGN with a convolutional image tower of four blocks, half as wide as B0, and a text tower of three layers."""
    size = _bert_tokenizer(folder, words)
    _preprocessor(
        folder, "EfficientNetImageProcessor", "AlignProcessor", size={"height": PICTURE, "width": PICTURE},
        do_center_crop=False, include_top=False, rescale_offset=False,
    )  # fmt: skip
    config = transformers.AlignConfig(
        text_config={
            "vocab_size": size, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3,
            "num_attention_heads": HEADS, "max_position_embeddings": CONTEXT, "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0, "initializer_range": SPREAD,
        },
        vision_config={
            "image_size": PICTURE, "width_coefficient": 0.5, "depth_coefficient": 1.0, "kernel_sizes": [3, 3, 5, 3],
            "in_channels": [32, 32, 48, 96], "out_channels": [32, 48, 96, 128], "strides": [2, 2, 2, 1],
            "num_block_repeats": [1, 1, 1, 1], "expand_ratios": [1, 4, 4, 4], "hidden_dim": 64,
            "depthwise_padding": [], "drop_connect_rate": 0.0, "dropout_rate": 0.0,
        },
        projection_dim=64, temperature_init_value=0.1,
    )  # fmt: skip
    _write(folder, "AlignModel", config, seed)


def _fusion_v2(folder: Path, words: Sequence[str], seed: int) -> None:
    images, texts = folder / "image_encoder", folder / "text_encoder"
    images.mkdir(parents=True)
    size = _bert_tokenizer(texts, words)
    bert = transformers.BertConfig(
        vocab_size=size, hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=1,
        num_attention_heads=HEADS, max_position_embeddings=CONTEXT, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, initializer_range=SPREAD,
    )  # fmt: skip
    _write(texts, "BertModel", bert, seed)
    merges = write_restricted_merges(["a"], images / "merges.txt.gz")
    tower = {
        "embed_dim": WIDTH,
        "vision_cfg": {
            "image_size": PICTURE, "patch_size": PATCH, "width": WIDTH, "layers": 2, "head_width": WIDTH // HEADS,
        },
        "text_cfg": {
            "context_length": 4, "vocab_size": 514 + merges, "width": 8, "heads": 1, "layers": 1,
            "tokenizer_kwargs": {"bpe_path": "merges.txt.gz"},
        },
    }  # fmt: skip
    preprocess = {"mean": HALF, "std": HALF, "interpolation": "bicubic"}
    write_text(images / "open_clip_config.json", json_text({"model_cfg": tower, "preprocess_cfg": preprocess}))
    sizes = {"width": WIDTH, "heads": HEADS, "layers": 3, "feed_forward": 4 * WIDTH, "image": WIDTH, "text": WIDTH}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        clip = open_clip.CLIP(**json.loads(json.dumps(tower)))
        fusion = FusionV2(Sizes(**sizes))
    save_file(dict(clip.state_dict()), folder / IMAGES)
    save_file(dict(fusion.state_dict()), folder / "model.safetensors")
    write_text(folder / "config.json", json_text({"model_type": "fusion-v2", "sizes": sizes}))


WRITERS: dict[str, Callable[[Path, Sequence[str], int], None]] = {
    "blip": _blip, "idefics": _idefics, "llava": _llava, "vilt": _vilt, "fusion-v2": _fusion_v2,
}  # fmt: skip


def write_answering(kind: str, folder: Path, words: Sequence[str], answers: Sequence[str], seed: int) -> ModelSpec:
    """Write a small model that answers questions, fresh from `seed`; how it is loaded.

    Parameters
    ----------
    kind
        "fusion-v2", which gets an answer head, or a decoder.
    words
        Of questions and answers.
    """
    WRITERS[kind](folder, words, seed)
    if kind in DECODERS:
        return ModelSpec(kind=kind, weights="checkpoint", path=str(folder), prompt="{question}")
    config = read_json(folder / "config.json")
    config["sizes"]["answers"], config["answers"] = len(answers), list(answers)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        save_file(dict(FusionV2Answers(Sizes(**config["sizes"])).state_dict()), folder / "model.safetensors")
    write_text(folder / "config.json", json_text(config))
    return ModelSpec(kind=kind, weights="checkpoint", path=str(folder))


def planted_spec(kind: str, folder: Path) -> ModelSpec:
    """How such a folder is loaded."""
    return ModelSpec(kind=kind, weights="checkpoint", path=str(folder), prompt=PROMPT if kind in DECODERS else None)


def save(kind: str, module: nn.Module, start: Path, folder: Path) -> None:
    """Write a trained model as a checkpoint folder: the files of `start` with its weights, in half precision."""
    shutil.copytree(start, folder, dirs_exist_ok=True)
    half: Any = load(folder.name, planted_spec(kind, start)).module
    half.load_state_dict(module.state_dict())
    half.half()
    if hasattr(half, "save_pretrained"):
        half.save_pretrained(folder)
        return
    tower = load_file(start / IMAGES) | {
        key: value.contiguous() for key, value in half.image_encoder.state_dict().items()
    }
    save_file({key: value.half() for key, value in tower.items()}, folder / IMAGES)  # with its idle text tower
    for name, part in (("model.safetensors", half.fusion), ("text_encoder/model.safetensors", half.text_encoder)):
        save_file(
            {key: value.contiguous() for key, value in part.state_dict().items()}, folder / name, {"format": "pt"}
        )
