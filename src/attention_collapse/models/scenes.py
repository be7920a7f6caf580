"""The architecture of the embedded study's OpenCLIP model, and a vocabulary of the words of its captions alone."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from open_clip.tokenizer import default_bpe

from attention_collapse.files import whole_file


def write_restricted_merges(words: Iterable[str], out: Path) -> int:
    """CLIP's BPE merges restricted to those that can apply inside `words`; returns their number.

    The words are tokenised exactly as by the full vocabulary, whose 49,408 embeddings would be far larger than the
    rest of a small model. Words outside fall apart into bytes.
    """
    with gzip.open(default_bpe(), "rt", encoding="utf-8") as stream:
        merges = stream.read().split("\n")[1 : 49152 - 256 - 2 + 1]  # as SimpleTokenizer reads them
    ended = [f"{word}</w>" for word in words]
    kept = [merge for merge in merges if merge and any(merge.replace(" ", "") in word for word in ended)]
    text = "\n".join(["#version: 0.2", *kept])
    # Stored, not deflated, and without a date: the same bytes on every machine.
    with (
        whole_file(out) as temporary,
        temporary.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=0, fileobj=raw, mtime=0) as stream,
    ):
        stream.write(text.encode("utf-8"))
    return len(kept)


def scenes_config(merges: int, merges_file: str) -> dict[str, Any]:
    """Architecture of the embedded study's OpenCLIP model: 64-pixel images in 8-pixel patches, two 4-layer towers."""
    return {
        "model_cfg": {
            "embed_dim": 64,
            "vision_cfg": {"image_size": 64, "patch_size": 8, "width": 64, "layers": 4, "head_width": 16},
            "text_cfg": {
                "context_length": 32,
                "vocab_size": 512 + merges + 2,
                "width": 64,
                "heads": 4,
                "layers": 4,
                "tokenizer_kwargs": {"bpe_path": merges_file},
            },
        },
        "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "interpolation": "bicubic"},
    }
