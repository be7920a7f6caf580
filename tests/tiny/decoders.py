"""Tiny checkpoint folders of vision-language decoders, laid out like their Hugging Face hub repositories.

Every ``write_*`` function fills a folder with a randomly initialised model (fixed seed), its processor and its
tokenizer, so that ``AutoProcessor.from_pretrained(folder)`` and ``<class>.from_pretrained(folder)`` work offline.
``config.json``, ``preprocessor_config.json`` and the tokenizer files follow the form that the hub repository has.
"""

import json
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

if TYPE_CHECKING:
    import torch

CAPTIONS = (
    "A black cat sleeps on a wooden table.",
    "Two brown dogs run across a green field.",
    "A red bus waits at the corner of a busy street.",
    "A woman in a blue coat walks past a small shop.",
    "An old man sits on a bench in the park.",
    "A bowl of yellow bananas stands on the kitchen table.",
    "A white horse eats grass behind a wooden fence.",
    "Three children play with a ball on the beach.",
    "A yellow taxi drives down a wet city street at night.",
    "A gray cat looks out of an open window.",
    "A man rides a bicycle along the river.",
    "A plate with two slices of pizza and a glass of water.",
    "A small brown dog lies on a red sofa.",
    "People cross the street under green traffic lights.",
    "A vase of white flowers stands beside a lamp.",
    "A train passes over an old stone bridge.",
    "A girl holds a pink umbrella in the rain.",
    "Two cats sit next to each other on a blue chair.",
    "A boat with a white sail floats on the lake.",
    "A stop sign stands in front of a brick building.",
    "A dog catches a yellow frisbee in the air.",
    "A wooden table is set for four people.",
    "A man in a black hat plays the guitar.",
    "A group of sheep stands on a hill under a gray sky.",
    "A laptop and a cup of coffee are on the desk.",
    "A young boy throws a baseball in the sun.",
    "A red car is parked beside a tall tree.",
    "An orange cat drinks water from a bowl.",
    "A clock hangs on the wall above the door.",
    "A surfer rides a large blue wave.",
    "A street market sells fruit and vegetables.",
    "A bird sits on the branch of a tree.",
    "A woman reads a book at a round table.",
    "A fire truck stops in the middle of the road.",
    "A bear walks through shallow water.",
    "Two people ski down a snowy mountain.",
    "A purple bicycle leans against a white wall.",
    "A kitchen with a black stove and a silver sink.",
    "A brown cow looks at the camera.",
    "A child eats a piece of chocolate cake.",
    "A motorcycle is parked in front of a house.",
    "An airplane flies over the city.",
    "A green apple lies between two oranges.",
    "A dog and a cat sleep under the table.",
    "A man feeds pigeons in a crowded square.",
    "A bathroom with a white tub and blue tiles.",
    "An elephant stands near a pool of water.",
    "A bed with a striped blanket and two pillows.",
    "A street lamp shines on an empty bench.",
    "A giraffe eats leaves from a tall tree.",
    "A woman with a red bag talks on her phone.",
    "A truck full of hay drives along a country road.",
    "A zebra and its foal graze in the grass.",
    "A skateboarder jumps down a flight of stairs.",
    "A brown teddy bear sits on a child's bed.",
    "A tennis player in white hits the ball.",
    "A kite with a long tail flies above the beach.",
    "A pair of scissors lies on a sheet of green paper.",
    "The sign above the shop is written in gold letters.",
    "A cat with yellow eyes hides behind a curtain.",
    "USER: Describe the image. ASSISTANT: User: Assistant: caption en system You are a helpful assistant.",
)

CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
GPT2_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3_SPLIT = QWEN2_SPLIT.replace(r"|\p{N}| ?", r"|\p{N}{1,3}| ?")

LLAVA_CHAT = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
    "{# Render all images first #}{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\n' }}{% endfor %}{# Render all text next #}{% if message['role'] != 'assistant' %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' '}}"
    "{% endfor %}{% else %}{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% generation %}{{ content['text'] + ' '}}{% endgeneration %}{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
QWEN2_VL_CHAT = (
    "{% set image_count = namespace(value=0) %}{% set video_count = namespace(value=0) %}"
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}"
    "{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "{% set image_count.value = image_count.value + 1 %}{% if add_vision_id %}Picture {{ image_count.value }}: "
    "{% endif %}<|vision_start|><|image_pad|><|vision_end|>{% elif content['type'] == 'video' or 'video' in content %}"
    "{% set video_count.value = video_count.value + 1 %}{% if add_vision_id %}Video {{ video_count.value }}: "
    "{% endif %}<|vision_start|><|video_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}"
    "{% endif %}{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
IDEFICS3_TURNS = (
    "{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@cache
def _bpe(pieces: Literal["bytes", "words"], reserved: tuple[str, ...] = ()) -> tuple[dict[str, int], list[Any]]:
    """Vocabulary and merges trained on the captions, ``reserved`` first: GPT-2 bytes, or words marked with ▁."""
    trained = Tokenizer(models.BPE())
    if pieces == "bytes":
        trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
        alphabet = [chr(code) for code in range(0x21, 0x7F)]
    size = len(reserved) + len(alphabet) + 250
    trained.train_from_iterator(
        CAPTIONS,
        trainers.BpeTrainer(
            vocab_size=size, special_tokens=list(reserved), initial_alphabet=alphabet, show_progress=False
        ),
    )
    model = json.loads(trained.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def _add(tokenizer: Tokenizer, special: Iterable[str], plain: Iterable[str] = ()) -> Tokenizer:
    """Append control tokens to the vocabulary, in order."""
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in plain])
    return tokenizer


def _begin_with(tokenizer: Tokenizer, token: str) -> None:
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A {token} $B:1", special_tokens=[(token, tokenizer.token_to_id(token))]
    )


def _word_tokenizer(reserved: tuple[str, ...], special: Iterable[str], *, prefix: bool) -> Tokenizer:
    """SentencePiece-like BPE with byte fallback, as Llama (a space put before the text) and Gemma have it."""
    first = (*reserved, *(f"<0x{byte:02X}>" for byte in range(256)))
    vocab, merges = _bpe("words", first)
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))  # noqa: S106
    marks: list[Any] = [normalizers.Prepend("▁")] if prefix else []
    tokenizer.normalizer = normalizers.Sequence([*marks, normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prefix else steps)
    return _add(tokenizer, [*reserved, *special])


def _byte_tokenizer(split: str, special: Iterable[str]) -> Tokenizer:
    """Byte-level BPE, as GPT-2, Llama 3 and Qwen2 have it; they differ in ``split``, the pre-tokenizer's pattern."""
    vocab, merges = _bpe("bytes")
    tokenizer = Tokenizer(models.BPE(vocab, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return _add(tokenizer, special)


def _llama_tokenizer(special: Iterable[str]) -> Tokenizer:
    tokenizer = _word_tokenizer(("<unk>", "<s>", "</s>"), special, prefix=True)
    _begin_with(tokenizer, "<s>")
    return tokenizer


def _write_tokenizer(folder: Path, tokenizer: Tokenizer, tokenizer_class: str, settings: dict[str, Any]) -> None:
    """Write ``tokenizer.json``, ``tokenizer_config.json`` and ``special_tokens_map.json``."""
    tokenizer.save(str(folder / "tokenizer.json"))
    added = {
        str(index): {
            "content": token.content,
            "lstrip": token.lstrip,
            "normalized": token.normalized,
            "rstrip": token.rstrip,
            "single_word": token.single_word,
            "special": token.special,
        }
        for index, token in sorted(tokenizer.get_added_tokens_decoder().items())
    }
    config = {
        "added_tokens_decoder": added,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 2048,
        "tokenizer_class": tokenizer_class,
        **settings,
    }
    _write_json(folder / "tokenizer_config.json", config)
    roles = {key: value for key, value in settings.items() if "special" in key or key.endswith("_token")}
    _write_json(
        folder / "special_tokens_map.json",
        {key: value for key, value in roles.items() if isinstance(value, str | list)},
    )


def _enliven(model: "torch.nn.Module") -> None:
    """Scale weights, so that attention is far from uniform and the scores follow the image."""
    import torch

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.mul_(0.45 / (module.weight.std() * module.in_features**0.5))
        for name, parameter in model.named_parameters():
            if name.endswith(("q_proj.weight", "k_proj.weight")):
                parameter.mul_(3)
            elif name.endswith("qkv.weight"):
                parameter[: 2 * parameter.shape[0] // 3].mul_(3)
            elif name.endswith(("q_layer_norm.weight", "k_layer_norm.weight")):
                parameter.mul_(1.5)
            elif name.endswith("perceiver_resampler.latents"):
                parameter.mul_(0.1)
            elif name.endswith(".alpha_cross_attn"):
                parameter.fill_(1.0)
            elif name.endswith(".alpha_dense"):
                parameter.fill_(0.5)
            elif name.endswith(".mm_input_projection_weight"):  # fresh weights are 0, as are the gates
                parameter.normal_(std=1 / parameter.shape[0] ** 0.5, generator=torch.Generator().manual_seed(1))
            elif name.endswith((".cross_attn_attn_gate", ".cross_attn_mlp_gate", "_embedding.gate")):
                parameter.fill_(0.7)


def _write_model(folder: Path, config: dict[str, Any]) -> None:
    """Write the weights of the architecture that ``config`` names, and ``config`` itself word for word."""
    import torch
    import transformers

    _write_json(folder / "config.json", config)
    model_class = getattr(transformers, config["architectures"][0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = model_class(transformers.AutoConfig.from_pretrained(folder))
    _enliven(model)
    model.save_pretrained(folder)
    _write_json(folder / "config.json", config)


def _start(folder: Path, preprocessor: dict[str, Any], processor: dict[str, Any] | None, chat: str | None) -> None:
    """Create ``folder`` with the files of its processor."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "preprocessor_config.json", preprocessor)
    if processor is not None:
        _write_json(folder / "processor_config.json", processor)
    if chat is not None:
        (folder / "chat_template.jinja").write_text(chat, encoding="utf-8")


def _pixels(mean: list[float], std: list[float], resample: int) -> dict[str, Any]:
    """The part of ``preprocessor_config.json`` that most image processors share."""
    return {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": mean,
        "image_std": std,
        "resample": resample,
        "rescale_factor": 1 / 255,
    }


def _decoder(vocab_size: int) -> dict[str, Any]:
    """Sizes of a two-layer language model with grouped-query attention."""
    return {
        "hidden_size": 32,
        "intermediate_size": 64,
        "max_position_embeddings": 2048,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "vocab_size": vocab_size,
    }


def _tower(patch_size: int = 8) -> dict[str, Any]:
    """Sizes of a two-layer vision transformer for images of 32 by 32 pixels."""
    return {
        "hidden_size": 32,
        "image_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "patch_size": patch_size,
    }


def _write_llava_family(folder: Path, name: str, extra: dict[str, Any], preprocessor: dict[str, Any]) -> None:
    """CLIP, a projector and Llama; the two LLaVA versions differ in how they cut an image up."""
    _start(
        folder,
        {
            **_pixels(CLIP_MEAN, CLIP_STD, 3),
            "crop_size": {"height": 32, "width": 32},
            "do_center_crop": True,
            "processor_class": f"{name}Processor",
            "size": {"shortest_edge": 32},
            **preprocessor,
        },
        {
            "image_token": "<image>",
            "num_additional_image_tokens": 1,
            "patch_size": 8,
            "processor_class": f"{name}Processor",
            "vision_feature_select_strategy": "default",
        },
        LLAVA_CHAT,
    )
    tokenizer = _llama_tokenizer(["<image>", "<pad>"])
    vocab_size = tokenizer.get_vocab_size() + 8
    _write_tokenizer(
        folder,
        tokenizer,
        "LlamaTokenizer",
        {
            "add_bos_token": True,
            "add_eos_token": False,
            "bos_token": "<s>",
            "eos_token": "</s>",
            "image_token": "<image>",
            "legacy": False,
            "pad_token": "<pad>",
            "padding_side": "left",
            "processor_class": f"{name}Processor",
            "unk_token": "<unk>",
        },
    )
    _write_model(
        folder,
        {
            "architectures": [f"{name}ForConditionalGeneration"],
            "ignore_index": -100,
            "image_seq_length": 16,
            "image_token_index": tokenizer.token_to_id("<image>"),
            "pad_token_id": tokenizer.token_to_id("<pad>"),
            "projector_hidden_act": "gelu",
            "text_config": {
                "architectures": ["LlamaForCausalLM"],
                **_decoder(vocab_size),
                "model_type": "llama",
                "rms_norm_eps": 1e-05,
                "torch_dtype": "float32",
            },
            "tie_word_embeddings": False,
            "torch_dtype": "float32",
            "vision_config": {
                **_tower(),
                "model_type": "clip_vision_model",
                "projection_dim": 32,
                "vocab_size": vocab_size,
            },
            "vision_feature_layer": -2,
            "vision_feature_select_strategy": "default",
            "vocab_size": vocab_size,
            **extra,
        },
    )


def write_llava(folder: Path) -> None:
    """LLaVA 1.5 (llava-hf/llava-1.5-7b-hf)."""
    _write_llava_family(folder, "Llava", {"model_type": "llava"}, {"image_processor_type": "CLIPImageProcessor"})


def write_llava_next(folder: Path) -> None:
    """LLaVA 1.6 (llava-hf/llava-v1.6-vicuna-7b-hf): the image beside crops of it, chosen by its shape."""
    grid = [[32, 64], [64, 32], [64, 64], [96, 32], [32, 96]]
    _write_llava_family(
        folder,
        "LlavaNext",
        {"image_grid_pinpoints": grid, "model_type": "llava_next", "use_image_newline_parameter": True},
        {
            "aspect_ratio_setting": "anyres",
            "do_pad": True,
            "image_grid_pinpoints": grid,
            "image_processor_type": "LlavaNextImageProcessor",
        },
    )


def qwen_tokenizer(folder: Path, special: Iterable[str], **settings: Any) -> Tokenizer:
    """Qwen's tokenizer with its control tokens and those of a kind."""
    control = ["<|im_start|>", "<|im_end|>", *special]
    tokenizer = _byte_tokenizer(QWEN2_SPLIT, ["<|endoftext|>", *control])
    tokenizer.normalizer = normalizers.NFC()
    _write_tokenizer(
        folder,
        tokenizer,
        "Qwen2Tokenizer",
        {
            "add_prefix_space": False,
            "additional_special_tokens": control,
            "bos_token": None,
            "eos_token": "<|im_end|>",
            "errors": "replace",
            "pad_token": "<|endoftext|>",
            "split_special_tokens": False,
            "unk_token": None,
            **settings,
        },
    )
    return tokenizer


def _write_qwen(folder: Path, name: str, model_type: str, vision: dict[str, Any], preprocessor: dict[str, Any]) -> None:
    """A vision transformer with rotary positions and Qwen2; an image becomes as many tokens as it is large."""
    _start(
        folder,
        {
            **{key: value for key, value in _pixels(CLIP_MEAN, CLIP_STD, 3).items() if key.startswith("image_")},
            "max_pixels": 28 * 28 * 16,
            "merge_size": 2,
            "min_pixels": 56 * 56,
            "patch_size": 14,
            "processor_class": f"{name}Processor",
            "temporal_patch_size": 2,
            **preprocessor,
        },
        None,
        QWEN2_VL_CHAT,
    )
    pairs = ("object_ref", "box", "quad", "vision")
    marks = [f"<|{pair}_{end}|>" for pair in pairs for end in ("start", "end")]
    tokenizer = qwen_tokenizer(
        folder, [*marks, "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"], padding_side="left"
    )
    _write_model(
        folder,
        {
            "architectures": [f"{name}ForConditionalGeneration"],
            "attention_dropout": 0.0,
            "bos_token_id": tokenizer.token_to_id("<|endoftext|>"),
            "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
            "hidden_act": "silu",
            "image_token_id": tokenizer.token_to_id("<|image_pad|>"),
            "initializer_range": 0.02,
            **_decoder(tokenizer.get_vocab_size() + 8),
            "max_window_layers": 2,
            "model_type": model_type,
            "rms_norm_eps": 1e-06,
            "rope_scaling": {"mrope_section": [2, 1, 1], "type": "mrope"},
            "rope_theta": 1000000.0,
            "sliding_window": 2048,
            "tie_word_embeddings": True,
            "torch_dtype": "float32",
            "use_cache": True,
            "use_sliding_window": False,
            "video_token_id": tokenizer.token_to_id("<|video_pad|>"),
            "vision_config": {
                "depth": 2,
                "hidden_size": 32,
                "in_chans": 3,
                "num_heads": 4,
                "patch_size": 14,
                "spatial_merge_size": 2,
                "spatial_patch_size": 14,
                "temporal_patch_size": 2,
                **vision,
            },
            "vision_end_token_id": tokenizer.token_to_id("<|vision_end|>"),
            "vision_start_token_id": tokenizer.token_to_id("<|vision_start|>"),
            "vision_token_id": tokenizer.token_to_id("<|vision_pad|>"),
        },
    )


def write_qwen2_vl(folder: Path) -> None:
    """Qwen2-VL (Qwen/Qwen2-VL-2B-Instruct)."""
    _write_qwen(
        folder,
        "Qwen2VL",
        "qwen2_vl",
        {"embed_dim": 32, "mlp_ratio": 2},
        {"image_processor_type": "Qwen2VLImageProcessor"},
    )


def write_qwen2_5_vl(folder: Path) -> None:
    """Qwen2.5-VL (Qwen/Qwen2.5-VL-3B-Instruct): attention within windows of the image in the first vision layer."""
    _write_qwen(
        folder,
        "Qwen2_5_VL",
        "qwen2_5_vl",
        {
            "fullatt_block_indexes": [1],
            "hidden_act": "silu",
            "intermediate_size": 64,
            "out_hidden_size": 32,
            "tokens_per_second": 2,
            "window_size": 56,
        },
        {"image_processor_type": "Qwen2VLImageProcessor"},
    )


def write_paligemma(folder: Path) -> None:
    """PaliGemma (google/paligemma-3b-pt-224): SigLIP, a linear layer and Gemma, which reads the prompt both ways."""
    _start(
        folder,
        {
            **_pixels([0.5, 0.5, 0.5], [0.5, 0.5, 0.5], 3),
            "do_convert_rgb": None,
            "image_processor_type": "SiglipImageProcessor",
            "image_seq_length": 16,
            "processor_class": "PaliGemmaProcessor",
            "size": {"height": 32, "width": 32},
        },
        None,
        None,
    )
    tokenizer = _word_tokenizer(("<pad>", "<eos>", "<bos>", "<unk>", "<mask>"), (), prefix=False)
    _add(tokenizer, (), [*(f"<loc{place:04}>" for place in range(1024)), *(f"<seg{code:03}>" for code in range(128))])
    _add(tokenizer, ["<image>"])
    _begin_with(tokenizer, "<bos>")
    vocab_size = tokenizer.get_vocab_size() + 8
    _write_tokenizer(
        folder,
        tokenizer,
        "GemmaTokenizer",
        {
            "add_bos_token": True,
            "add_eos_token": False,
            "additional_special_tokens": ["<image>"],
            "bos_token": "<bos>",
            "eos_token": "<eos>",
            "pad_token": "<pad>",
            "processor_class": "PaliGemmaProcessor",
            "unk_token": "<unk>",
        },
    )
    _write_model(
        folder,
        {
            "architectures": ["PaliGemmaForConditionalGeneration"],
            "bos_token_id": 2,
            "eos_token_id": 1,
            "hidden_size": 32,
            "ignore_index": -100,
            "image_token_index": tokenizer.token_to_id("<image>"),
            "model_type": "paligemma",
            "pad_token_id": 0,
            "projection_dim": 32,
            "text_config": {
                **_decoder(vocab_size),
                "head_dim": 8,
                "model_type": "gemma",
                "num_image_tokens": 16,
                "torch_dtype": "float32",
            },
            "torch_dtype": "float32",
            "vision_config": {
                **_tower(),
                "model_type": "siglip_vision_model",
                "num_image_tokens": 16,
                "projection_dim": 32,
                "projector_hidden_act": "gelu_fast",
                "vision_use_head": False,
            },
            "vocab_size": vocab_size,
        },
    )


def _tiles(name: str) -> dict[str, Any]:
    """``preprocessor_config.json`` of Idefics3 and SmolVLM: an image cut into at most two by two tiles."""
    return {
        **_pixels([0.5, 0.5, 0.5], [0.5, 0.5, 0.5], 1),
        "do_image_splitting": True,
        "do_pad": True,
        "image_processor_type": f"{name}ImageProcessor",
        "max_image_size": {"longest_edge": 32},
        "processor_class": f"{name}Processor",
        "size": {"longest_edge": 64},
    }


def write_smolvlm(folder: Path) -> None:
    """SmolVLM2 (HuggingFaceTB/SmolVLM2-500M-Video-Instruct): the image in tiles, patches merged four by four."""
    sampling = {"fps": 1, "max_frames": 64, "video_size": {"longest_edge": 32}}
    processor = {"image_seq_len": 4, "processor_class": "SmolVLMProcessor"}
    _start(folder, {**_tiles("SmolVLM"), "video_sampling": sampling}, processor, "<|im_start|>" + IDEFICS3_TURNS)
    tags = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    media = ["<fake_token_around_image>", "<image>", "<end_of_utterance>"]
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<global-img>", *tags, *media]
    tokenizer = _byte_tokenizer(GPT2_SPLIT, special)
    _write_tokenizer(
        folder,
        tokenizer,
        "GPT2Tokenizer",
        {
            "add_prefix_space": False,
            "additional_special_tokens": media,
            "bos_token": "<|im_start|>",
            "end_of_utterance_token": "<end_of_utterance>",
            "eos_token": "<end_of_utterance>",
            "extra_special_tokens": {
                "end_of_utterance_token": "<end_of_utterance>",
                "fake_image_token": "<fake_token_around_image>",
                "global_image_token": "<global-img>",
                "image_token": "<image>",
            },
            "fake_image_token": "<fake_token_around_image>",
            "global_image_token": "<global-img>",
            "image_token": "<image>",
            "pad_token": "<|im_end|>",
            "processor_class": "SmolVLMProcessor",
            "truncation_side": "left",
            "unk_token": "<|endoftext|>",
        },
    )
    _write_model(
        folder,
        {
            "architectures": ["SmolVLMForConditionalGeneration"],
            "image_token_id": tokenizer.token_to_id("<image>"),
            "model_type": "smolvlm",
            "pad_token_id": tokenizer.token_to_id("<|im_end|>"),
            "scale_factor": 4,
            "text_config": {
                "architectures": ["VLlama3ForCausalLM"],
                **_decoder(tokenizer.get_vocab_size() + 8),
                "head_dim": 8,
                "model_type": "llama",
                "pad_token_id": tokenizer.token_to_id("<|im_end|>"),
                "rms_norm_eps": 1e-05,
                "rope_theta": 100000,
                "torch_dtype": "float32",
            },
            "tie_word_embeddings": False,
            "torch_dtype": "float32",
            "vision_config": {**_tower(patch_size=4), "model_type": "smolvlm_vision"},
        },
    )


def write_idefics3(folder: Path) -> None:
    """Idefics3 (HuggingFaceM4/Idefics3-8B-Llama3): the image in tiles, patches merged two by two."""
    processor = {"image_seq_len": 4, "processor_class": "Idefics3Processor"}
    _start(folder, _tiles("Idefics3"), processor, "<|begin_of_text|>" + IDEFICS3_TURNS)
    tags = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    media = ["<fake_token_around_image>", "<image>", "<end_of_utterance>"]
    text = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|eot_id|>"]
    tokenizer = _byte_tokenizer(LLAMA3_SPLIT, [*text, "<global-img>", *tags, *media])
    _begin_with(tokenizer, "<|begin_of_text|>")
    _write_tokenizer(
        folder,
        tokenizer,
        "PreTrainedTokenizerFast",
        {
            "additional_special_tokens": media,
            "bos_token": "<|begin_of_text|>",
            "eos_token": "<|end_of_text|>",
            "model_input_names": ["input_ids", "attention_mask"],
            "pad_token": "<|reserved_special_token_0|>",
            "processor_class": "Idefics3Processor",
        },
    )
    _write_model(
        folder,
        {
            "architectures": ["Idefics3ForConditionalGeneration"],
            "image_token_id": tokenizer.token_to_id("<image>"),
            "model_type": "idefics3",
            "pad_token_id": tokenizer.token_to_id("<|reserved_special_token_0|>"),
            "scale_factor": 2,
            "text_config": {
                "architectures": ["VLlama3ForCausalLM"],
                **_decoder(tokenizer.get_vocab_size() + 8),
                "bos_token_id": tokenizer.token_to_id("<|begin_of_text|>"),
                "eos_token_id": tokenizer.token_to_id("<|end_of_text|>"),
                "model_type": "llama",
                "pad_token_id": tokenizer.token_to_id("<|reserved_special_token_0|>"),
                "rms_norm_eps": 1e-05,
                "rope_theta": 500000.0,
                "torch_dtype": "float32",
            },
            "tie_word_embeddings": False,
            "torch_dtype": "float32",
            "vision_config": {**_tower(), "model_type": "idefics3_vision"},
        },
    )


def write_idefics(folder: Path) -> None:
    """IDEFICS (HuggingFaceM4/idefics-9b): gated cross-attention to latents resampled from the image."""
    _start(
        folder,
        {
            "image_mean": CLIP_MEAN,
            "image_num_channels": 3,
            "image_processor_type": "IdeficsImageProcessor",
            "image_size": 32,
            "image_std": CLIP_STD,
            "processor_class": "IdeficsProcessor",
        },
        None,
        None,
    )
    media = ["<fake_token_around_image>", "<image>"]
    tokenizer = _llama_tokenizer(media)
    _write_tokenizer(
        folder,
        tokenizer,
        "LlamaTokenizer",
        {
            "add_bos_token": True,
            "add_eos_token": False,
            "additional_special_tokens": media,
            "bos_token": "<s>",
            "eos_token": "</s>",
            "legacy": False,
            "pad_token": "<unk>",
            "padding_side": "left",
            "processor_class": "IdeficsProcessor",
            "unk_token": "<unk>",
        },
    )
    _write_model(
        folder,
        {
            "additional_vocab_size": len(media),
            "alpha_initializer": "zeros",
            "alpha_type": "float",
            "alphas_initializer_range": 0.0,
            "architectures": ["IdeficsForVisionText2Text"],
            "bos_token_id": 1,
            "cross_layer_interval": 2,
            "dropout": 0.0,
            "eos_token_id": 2,
            "freeze_lm_head": False,
            "freeze_text_layers": False,
            "freeze_vision_layers": False,
            "hidden_act": "silu",
            "hidden_size": 32,
            "initializer_range": 0.02,
            "intermediate_size": 64,
            "max_position_embeddings": 2048,
            "model_type": "idefics",
            "num_attention_heads": 4,
            "num_hidden_layers": 4,
            "pad_token_id": 0,
            "perceiver_config": {
                "model_type": "idefics",
                "qk_layer_norms_perceiver": True,
                "resampler_depth": 2,
                "resampler_head_dim": 8,
                "resampler_n_heads": 4,
                "resampler_n_latents": 6,
                "use_resampler": True,
            },
            "qk_layer_norms": True,
            "rms_norm_eps": 1e-06,
            "tie_word_embeddings": False,
            "torch_dtype": "float32",
            "use_cache": True,
            "use_resampler": True,
            "vision_config": {
                "embed_dim": 32,
                "hidden_act": "gelu",
                "image_size": 32,
                "intermediate_size": 64,
                "layer_norm_eps": 1e-05,
                "model_type": "idefics",
                "num_attention_heads": 4,
                "num_channels": 3,
                "num_hidden_layers": 2,
                "patch_size": 8,
            },
            "vocab_size": tokenizer.get_vocab_size() - len(media),
        },
    )


DECODERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "idefics": (write_idefics, "IdeficsForVisionText2Text"),
    "idefics3": (write_idefics3, "Idefics3ForConditionalGeneration"),
    "llava": (write_llava, "LlavaForConditionalGeneration"),
    "llava_next": (write_llava_next, "LlavaNextForConditionalGeneration"),
    "paligemma": (write_paligemma, "PaliGemmaForConditionalGeneration"),
    "qwen2_5_vl": (write_qwen2_5_vl, "Qwen2_5_VLForConditionalGeneration"),
    "qwen2_vl": (write_qwen2_vl, "Qwen2VLForConditionalGeneration"),
    "smolvlm": (write_smolvlm, "SmolVLMForConditionalGeneration"),
}
