"""The in-house fusion models as checkpoint folders with feature encoders small inside."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel

from attention_collapse.models.fusion import FusionV1, FusionV2
from attention_collapse.models.scenes import write_restricted_merges
from tiny.encoders import _bert_tokenizer, _save_bert_tokenizer

WORDS = ["a", "cat", "sits", "on", "the", "red", "table", "two", "dogs", "run", "in", "street", "blue", "bus", "near"]


def _sharpen(module: torch.nn.Module) -> torch.nn.Module:
    """Larger query and key weights, so that attention is not near-uniform."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "in_proj_weight" in name:
                parameter[: 2 * parameter.shape[1]].mul_(3)
            elif name.endswith(("query.weight", "key.weight")):
                parameter.mul_(8)
    return module


def _write(folder: Path, kind: str, cls: type[torch.nn.Module]) -> None:
    images, texts = folder / "image_encoder", folder / "text_encoder"
    images.mkdir(parents=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        merges = write_restricted_merges(WORDS, images / "merges.txt.gz")
        config = {
            "embed_dim": 512,
            "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 8},
            "text_cfg": {
                "context_length": 16, "vocab_size": 514 + merges, "width": 16, "heads": 2, "layers": 1,
                "tokenizer_kwargs": {"bpe_path": "merges.txt.gz"},
            },
        }  # fmt: skip
        tower = open_clip.CLIP(**json.loads(json.dumps(config)))
        save_file(dict(tower.state_dict()), images / "open_clip_model.safetensors")
        (images / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
        tokenizer = _bert_tokenizer(48)
        bert = BertConfig(
            vocab_size=len(tokenizer), hidden_size=384, num_hidden_layers=2, num_attention_heads=8,
            intermediate_size=64, max_position_embeddings=48,
        )  # fmt: skip
        _sharpen(BertModel(bert)).save_pretrained(texts)
        _save_bert_tokenizer(tokenizer, texts)
        save_file(dict(_sharpen(cls()).state_dict()), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))


def write_fusion_v1(folder: Path) -> None:
    """The additive scorer."""
    _write(folder, "fusion-v1", FusionV1)


def write_fusion_v2(folder: Path) -> None:
    """Cross-attention and a joint encoder."""
    _write(folder, "fusion-v2", FusionV2)
