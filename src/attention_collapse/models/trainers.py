"""Folders that a training writes and that hold no model to load yet: how to make one of each."""

from __future__ import annotations

from pathlib import Path

from attention_collapse.errors import ModelError

ADAPTER, CONFIG = "adapter_config.json", ("config.json", "open_clip_config.json")
WHOLE = ("*.safetensors", "pytorch_model*.bin", "open_clip_pytorch_model.bin")


def _consolidated(made: str) -> str:
    return f"{made}, then put it in a folder with config.json, tokenizer and processor files"


def require_weights_of_one(folder: Path) -> None:
    """ModelError for a folder of parts of a model, of several models, or of a model and an adapter; else nothing."""
    described = any((folder / name).is_file() for name in CONFIG)
    whole = any(any(folder.glob(pattern)) for pattern in WHOLE)
    if described and (folder / ADAPTER).is_file():
        raise ModelError(
            f"{folder}: a model and an adapter ({ADAPTER}) in one folder",
            expected="a model's folder, and an adapter's beside it",
            remedy="move the adapter's two files into a folder of their own, and name it with --adapter",
        )
    if not whole and (said := _unfinished(folder)):
        raise ModelError(f"{folder}: {said[0]}", expected="a model's weights in one piece", remedy=said[1])
    if described:
        return
    steps = sorted(folder.glob("checkpoint-*/"), key=lambda path: (len(path.name), path.name))
    files = sorted((*folder.glob("*.pt"), *folder.glob("checkpoints/*.pt")), key=lambda path: (len(path.name), path))
    snapshots = sorted(folder.glob("snapshots/*/"))
    for inner, what, remedy in (
        (steps, "the folder of a training, with its checkpoints", "name one of them, such as {}"),
        (snapshots, "the hub's cache of a repository", "name the repository (organisation/name), or {}"),
        (files, "a folder of weights files without a configuration", "name one of them: {} --architecture NAME"),
    ):
        if inner:
            raise ModelError(
                f"{folder}: {what}", expected="one checkpoint", remedy=remedy.format(inner[-1].as_posix().rstrip("/"))
            )


def _near(folder: Path, pattern: str) -> list[Path]:
    """What lies in the folder or in one of its own, as frameworks write it: deeper lie others' checkpoints."""
    return sorted((*folder.glob(pattern), *folder.glob(f"*/{pattern}")))


def _unfinished(folder: Path) -> tuple[str, str] | None:
    """(what it is, what to do) of a folder that holds the parts of a distributed training."""
    deepspeed = [*_near(folder, "*_model_states.pt"), *folder.glob("zero_to_fp32.py")]
    if deepspeed:
        return "DeepSpeed's partitioned state", _consolidated(
            f"in it, `python zero_to_fp32.py . OUT --safe_serialization` makes one set of weights of {folder}"
        )
    if sharded := _near(folder, "*.distcp"):
        shards = sharded[0].parent
        return "a sharded state of FSDP or torch.distributed.checkpoint", _consolidated(
            f"`python -m torch.distributed.checkpoint.format_utils dcp_to_torch {shards} weights.pt` (or "
            f"`accelerate merge-weights {shards} OUT`) makes one set of weights"
        )
    if _near(folder, "mp_rank_*"):
        return "the parts of a model-parallel training", _consolidated("let its framework export one set of weights")
    return None
