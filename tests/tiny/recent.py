"""Tiny checkpoint folders of the decoders that came after those of `tiny.decoders`, in the same manner."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from tiny.decoders import (
    CLIP_MEAN,
    CLIP_STD,
    LLAMA3_SPLIT,
    _add,
    _begin_with,
    _byte_tokenizer,
    _decoder,
    _pixels,
    _start,
    _tower,
    _word_tokenizer,
    _write_json,
    _write_model,
    _write_tokenizer,
    qwen_tokenizer,
)

HALF = [0.5, 0.5, 0.5]
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
CHATML = (
    "{%% for message in messages %%}<|im_start|>{{ message['role'] }}\n{%% if message['content'] is string %%}"
    "{{ message['content'] }}{%% else %%}{%% for content in message['content'] %%}"
    "{%% if content['type'] == 'image' %%}%s{%% elif 'text' in content %%}{{ content['text'] }}{%% endif %%}"
    "{%% endfor %%}{%% endif %%}<|im_end|>\n{%% endfor %%}"
    "{%% if add_generation_prompt %%}<|im_start|>assistant\n{%% endif %%}"
)
GEMMA3_CHAT = (
    "{{ bos_token }}{% for message in messages %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' }}{% if message['content'] is string %}{{ message['content'] | trim }}"
    "{% else %}{% for item in message['content'] %}{% if item['type'] == 'image' %}{{ '<start_of_image>' }}"
    "{% elif item['type'] == 'text' %}{{ item['text'] | trim }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
ONEVISION_CHAT = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ '\n' + content['text'] }}"
    "{% endfor %}{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MLLAMA_CHAT = (
    "{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}{{ '<|image|>' }}{% elif content['type'] == 'text' %}{{ content['text'] }}"
    "{% endif %}{% endfor %}{% endif %}{{ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)


def write_qwen3_vl(folder: Path) -> None:
    """Qwen3-VL (Qwen/Qwen3-VL-2B-Instruct): DeepStack from the first of two image layers; normalised queries."""
    half = {key: value for key, value in _pixels(HALF, HALF, 3).items() if key.startswith("image_")}
    sizes = {"merge_size": 2, "patch_size": 16, "temporal_patch_size": 2}
    own = {"processor_class": "Qwen3VLProcessor", "size": {"longest_edge": 16 * 32 * 32, "shortest_edge": 4 * 32 * 32}}
    image = CHATML % "<|vision_start|><|image_pad|><|vision_end|>"
    _start(folder, {**half, **sizes, **own, "image_processor_type": "Qwen2VLImageProcessor"}, None, image)
    video = {**half, **sizes, **own, "video_processor_type": "Qwen3VLVideoProcessor"}
    _write_json(folder / "video_preprocessor_config.json", video)
    marks = [f"<|{pair}_{end}|>" for pair in ("object_ref", "box", "quad", "vision") for end in ("start", "end")]
    tokenizer = qwen_tokenizer(folder, [*marks, "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"])
    _write_model(
        folder,
        {
            "architectures": ["Qwen3VLForConditionalGeneration"],
            "image_token_id": tokenizer.token_to_id("<|image_pad|>"),
            "model_type": "qwen3_vl",
            "text_config": {
                **_decoder(tokenizer.get_vocab_size() + 8),
                "attention_bias": False,
                "attention_dropout": 0.0,
                "bos_token_id": tokenizer.token_to_id("<|endoftext|>"),
                "dtype": "float32",
                "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
                "head_dim": 16,
                "hidden_act": "silu",
                "model_type": "qwen3_vl_text",
                "num_hidden_layers": 3,
                "rms_norm_eps": 1e-06,
                "rope_scaling": {"mrope_interleaved": True, "mrope_section": [4, 2, 2], "rope_type": "default"},
                "rope_theta": 5000000,
                "tie_word_embeddings": True,
            },
            "tie_word_embeddings": True,
            "video_token_id": tokenizer.token_to_id("<|video_pad|>"),
            "vision_config": {
                "deepstack_visual_indexes": [0],
                "depth": 2,
                "hidden_act": "gelu_pytorch_tanh",
                "hidden_size": 32,
                "in_channels": 3,
                "intermediate_size": 64,
                "model_type": "qwen3_vl",
                "num_heads": 4,
                "num_position_embeddings": 16,
                "out_hidden_size": 32,
                "patch_size": 16,
                "spatial_merge_size": 2,
                "temporal_patch_size": 2,
            },
            "vision_end_token_id": tokenizer.token_to_id("<|vision_end|>"),
            "vision_start_token_id": tokenizer.token_to_id("<|vision_start|>"),
        },
    )


def write_gemma3(folder: Path, window: int = 256) -> None:
    """Gemma 3 (google/gemma-3-4b-it): SigLIP, pooled to 4 tokens; the first and the last layer see a window of keys."""
    _start(
        folder,
        {
            **_pixels(HALF, HALF, 2),
            "do_convert_rgb": None,
            "do_pan_and_scan": None,
            "image_processor_type": "Gemma3ImageProcessor",
            "image_seq_length": 4,
            "pan_and_scan_max_num_crops": None,
            "pan_and_scan_min_crop_size": None,
            "pan_and_scan_min_ratio_to_activate": None,
            "processor_class": "Gemma3Processor",
            "size": {"height": 32, "width": 32},
        },
        {"image_seq_length": 4, "processor_class": "Gemma3Processor"},
        GEMMA3_CHAT,
    )
    turns = ["<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>", "<image_soft_token>"]
    tokenizer = _word_tokenizer(("<pad>", "<eos>", "<bos>", "<unk>", "<mask>"), turns, prefix=False)
    _begin_with(tokenizer, "<bos>")
    image = {
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
        "image_token": "<image_soft_token>",
    }
    _write_tokenizer(
        folder,
        tokenizer,
        "GemmaTokenizer",
        {
            "add_bos_token": True,
            "add_eos_token": False,
            "bos_token": "<bos>",
            "eos_token": "<eos>",
            "extra_special_tokens": image,
            "pad_token": "<pad>",
            "processor_class": "Gemma3Processor",
            "unk_token": "<unk>",
            **image,
        },
    )
    _write_model(
        folder,
        {
            "architectures": ["Gemma3ForConditionalGeneration"],
            "boi_token_index": tokenizer.token_to_id("<start_of_image>"),
            "eoi_token_index": tokenizer.token_to_id("<end_of_image>"),
            "eos_token_id": [1, tokenizer.token_to_id("<end_of_turn>")],
            "image_token_index": tokenizer.token_to_id("<image_soft_token>"),
            "initializer_range": 0.02,
            "mm_tokens_per_image": 4,
            "model_type": "gemma3",
            "text_config": {
                **_decoder(tokenizer.get_vocab_size() + 8),
                "head_dim": 8,
                "model_type": "gemma3_text",
                "num_hidden_layers": 3,
                "query_pre_attn_scalar": 8,
                "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
                "sliding_window": window,
                "sliding_window_pattern": 2,
            },
            "torch_dtype": "float32",
            "vision_config": {**_tower(), "model_type": "siglip_vision_model", "vision_use_head": False},
        },
    )


def write_mllama(folder: Path, cross: tuple[int, ...] = (1, 3), layers: int = 5) -> None:
    """Llama 3.2 Vision (meta-llama/Llama-3.2-11B-Vision-Instruct): up to four tiles of 16 patches and a class token."""
    _start(
        folder,
        {
            **_pixels(CLIP_MEAN, CLIP_STD, 2),
            "do_pad": True,
            "image_processor_type": "MllamaImageProcessor",
            "max_image_tiles": 4,
            "size": {"height": 64, "width": 64},
        },
        None,
        MLLAMA_CHAT,
    )
    turns = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|python_tag|>", "<|finetune_right_pad_id|>"]
    tokenizer = _byte_tokenizer(LLAMA3_SPLIT, ["<|begin_of_text|>", "<|end_of_text|>", *turns])
    vocab_size = tokenizer.get_vocab_size()  # the image's token lies outside of it
    _add(tokenizer, ["<|image|>"])
    _begin_with(tokenizer, "<|begin_of_text|>")
    _write_tokenizer(
        folder,
        tokenizer,
        "PreTrainedTokenizerFast",
        {
            "bos_token": "<|begin_of_text|>",
            "eos_token": "<|eot_id|>",
            "model_input_names": ["input_ids", "attention_mask"],
            "pad_token": "<|finetune_right_pad_id|>",
        },
    )
    _write_model(
        folder,
        {
            "architectures": ["MllamaForConditionalGeneration"],
            "image_token_index": tokenizer.token_to_id("<|image|>"),
            "model_type": "mllama",
            "text_config": {
                **_decoder(vocab_size),
                "bos_token_id": tokenizer.token_to_id("<|begin_of_text|>"),
                "cross_attention_layers": list(cross),
                "eos_token_id": tokenizer.token_to_id("<|eot_id|>"),
                "hidden_act": "silu",
                "model_type": "mllama_text_model",
                "num_hidden_layers": layers,
                "pad_token_id": tokenizer.token_to_id("<|finetune_right_pad_id|>"),
                "rms_norm_eps": 1e-05,
                "rope_theta": 500000.0,
            },
            "torch_dtype": "float32",
            "vision_config": {
                "attention_heads": 4,
                "hidden_act": "gelu",
                "hidden_size": 32,
                "image_size": 64,
                "intermediate_layers_indices": [0, 1],
                "intermediate_size": 64,
                "max_num_tiles": 4,
                "model_type": "mllama_vision_model",
                "norm_eps": 1e-05,
                "num_global_layers": 1,
                "num_hidden_layers": 2,
                "patch_size": 16,
                "supported_aspect_ratios": [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]],
                "vision_output_dim": 96,
            },
        },
    )


def write_llava_onevision(folder: Path, most_tiles: int = 9) -> None:
    """LLaVA-OneVision (llava-hf/llava-onevision-qwen2-0.5b-ov-hf): SigLIP and Qwen2; tiles of 4 × 4 patches."""
    grid = [[32, 32], [32, 64], [64, 32], [64, 64], [96, 32], [32, 96]]
    tiles = f"anyres_max_{most_tiles}"
    pixels = {
        **_pixels(HALF, HALF, 3),
        "processor_class": "LlavaOnevisionProcessor",
        "size": {"height": 32, "width": 32},
    }
    _start(
        folder,
        {
            **pixels,
            "do_pad": True,
            "image_grid_pinpoints": grid,
            "image_processor_type": "LlavaOnevisionImageProcessor",
        },
        {
            "image_token": "<image>",
            "num_image_tokens": 16,
            "processor_class": "LlavaOnevisionProcessor",
            "video_token": "<video>",
            "vision_aspect_ratio": tiles,
            "vision_feature_select_strategy": "full",
        },
        ONEVISION_CHAT,
    )
    video = {**pixels, "video_processor_type": "LlavaOnevisionVideoProcessor"}
    _write_json(folder / "video_preprocessor_config.json", video)
    tokenizer = qwen_tokenizer(folder, ["<image>", "<video>"], processor_class="LlavaOnevisionProcessor")
    vocab_size = tokenizer.get_vocab_size() + 8
    _write_model(
        folder,
        {
            "architectures": ["LlavaOnevisionForConditionalGeneration"],
            "image_grid_pinpoints": grid,
            "image_token_index": tokenizer.token_to_id("<image>"),
            "model_type": "llava_onevision",
            "projector_hidden_act": "gelu",
            "text_config": {**_qwen2(tokenizer, vocab_size), "tie_word_embeddings": True},
            "tie_word_embeddings": False,
            "torch_dtype": "float32",
            "use_image_newline_parameter": True,
            "video_token_index": tokenizer.token_to_id("<video>"),
            "vision_aspect_ratio": tiles,
            "vision_config": {**_tower(), "model_type": "siglip_vision_model", "vision_use_head": False},
            "vision_feature_layer": -1,
            "vision_feature_select_strategy": "full",
        },
    )


def write_internvl(folder: Path) -> None:
    """InternVL (OpenGVLab/InternVL3-1B-hf): InternViT and Qwen2; tiles of 4 × 4 patches, shuffled two by two."""
    pixels = {**_pixels(IMAGENET_MEAN, IMAGENET_STD, 3), "processor_class": "InternVLProcessor"}
    tiles = {"crop_to_patches": False, "max_patches": 6, "min_patches": 1, "size": {"height": 32, "width": 32}}
    image = CHATML % "<IMG_CONTEXT>\n"
    _start(
        folder,
        {**pixels, **tiles, "image_processor_type": "GotOcr2ImageProcessor"},
        {"image_seq_length": 4, "processor_class": "InternVLProcessor"},
        image,
    )
    size = {"size": {"height": 32, "width": 32}}
    video = {**pixels, **size, "video_processor_type": "InternVLVideoProcessor"}
    _write_json(folder / "video_preprocessor_config.json", video)
    extra = {
        "context_image_token": "<IMG_CONTEXT>",
        "end_image_token": "</img>",
        "start_image_token": "<img>",
        "video_token": "<video>",
    }
    tokenizer = qwen_tokenizer(
        folder, ["<img>", "</img>", "<IMG_CONTEXT>", "<video>"], extra_special_tokens=extra, **extra
    )
    _write_model(
        folder,
        {
            "architectures": ["InternVLForConditionalGeneration"],
            "downsample_ratio": 0.5,
            "image_seq_length": 4,
            "image_token_id": tokenizer.token_to_id("<IMG_CONTEXT>"),
            "model_type": "internvl",
            "projector_hidden_act": "gelu",
            "text_config": _qwen2(tokenizer, tokenizer.get_vocab_size() + 8),
            "tie_word_embeddings": False,
            "torch_dtype": "float32",
            "vision_config": {
                **_tower(),
                "architectures": ["InternVisionModel"],
                "attention_bias": True,
                "image_size": [32, 32],
                "model_type": "internvl_vision",
                "norm_type": "layer_norm",
                "patch_size": [8, 8],
                "use_absolute_position_embeddings": True,
                "use_mask_token": False,
                "use_mean_pooling": True,
                "use_qk_norm": False,
            },
            "vision_feature_layer": -1,
            "vision_feature_select_strategy": "default",
        },
    )


def _qwen2(tokenizer: Tokenizer, vocab_size: int) -> dict[str, Any]:
    """A Qwen2 of two layers."""
    return {
        **_decoder(vocab_size),
        "architectures": ["Qwen2ForCausalLM"],
        "bos_token_id": tokenizer.token_to_id("<|endoftext|>"),
        "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
        "model_type": "qwen2",
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "torch_dtype": "float32",
        "use_sliding_window": False,
    }


RECENT: dict[str, tuple[Callable[[Path], None], str]] = {
    "gemma3": (write_gemma3, "Gemma3ForConditionalGeneration"),
    "internvl": (write_internvl, "InternVLForConditionalGeneration"),
    "llava_onevision": (write_llava_onevision, "LlavaOnevisionForConditionalGeneration"),
    "mllama": (write_mllama, "MllamaForConditionalGeneration"),
    "qwen3_vl": (write_qwen3_vl, "Qwen3VLForConditionalGeneration"),
}
