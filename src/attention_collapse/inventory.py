"""What `attention-collapse models` prints: each model's facts, and whether it can be had here without a network."""

from __future__ import annotations

from pathlib import Path

from attention_collapse.models.catalogue import ENTRIES, Entry
from attention_collapse.models.hub import count_parameters, is_cached
from attention_collapse.models.spec import BYTES_OF_DTYPE, ModelSpec
from attention_collapse.registry import kinds

HUB_OF_TAG = {  # as open_clip says, which takes seconds to import; a test compares them
    ("ViT-B-32", "openai"): "timm/vit_base_patch32_clip_224.openai/",
    ("ViT-B-32", "laion2b_s34b_b79k"): "laion/CLIP-ViT-B-32-laion2B-s34B-b79K/",
    ("ViT-B-16", "openai"): "timm/vit_base_patch16_clip_224.openai/",
    ("ViT-L-14", "openai"): "timm/vit_large_patch14_clip_224.openai/",
    ("ViT-B-16-SigLIP", "webli"): "timm/ViT-B-16-SigLIP/",
    ("coca_ViT-B-32", "laion2b_s13b_b90k"): "laion/CoCa-ViT-B-32-laion2B-s13B-b90k/",
}


def checkpoint(spec: ModelSpec) -> str:
    """Where the weights come from, in a word."""
    return spec.repo or spec.path or f"{spec.architecture} {spec.tag or f'seed {spec.seed}'}"


def available(spec: ModelSpec) -> bool:
    """True if the model can be loaded here without a network."""
    if spec.weights == "checkpoint":
        return Path(spec.path or "").exists()
    if spec.weights == "hub":
        return is_cached(spec.repo or "", spec.revision, kinds()[spec.kind].config)
    if spec.weights == "pretrained":
        repo, _, file = _hub_of_tag(str(spec.architecture), str(spec.tag)).rpartition("/")
        names = [file] if file else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
        return bool(repo) and any(is_cached(repo, spec.revision, name) for name in names)
    return True


def _hub_of_tag(architecture: str, tag: str) -> str:
    """Where open_clip has the weights of a tag: organisation/name/, and the file's name after it unless it is usual."""
    known = HUB_OF_TAG.get((architecture, tag))
    if known is None:
        import open_clip

        known = str((open_clip.get_pretrained_cfg(architecture, tag) or {}).get("hf_hub", ""))
    return known


def _millions(entry: Entry) -> float | None:
    if entry.millions is not None:
        return entry.millions
    files = sorted(Path(entry.spec.path or "").glob("*.safetensors"))
    count = count_parameters(files) if files else None
    return None if count is None else count / 1e6


def _memory(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 0.05 * 2**30 else f"{size / 2**20:.1f} MiB"


def listing() -> list[list[str]]:
    """Rows of name, kind, checkpoint, revision, licence, parameters, memory, available here; the first is the head."""
    rows = [["name", "kind", "checkpoint", "revision", "licence", "parameters", "memory", "offline here"]]
    for name, entry in ENTRIES.items():
        spec, millions = entry.spec, _millions(entry)
        dtype = spec.dtype or "float32"
        pinned = spec.revision[:10] if spec.revision else {"hub": "first run pins", "pretrained": "first run pins"}.get(
            spec.weights, "–"
        )  # fmt: skip
        rows.append(
            [
                name + (" (control: random weights)" if spec.is_control else ""),
                spec.kind,
                checkpoint(spec),
                pinned,
                entry.licence,
                "?" if millions is None else f"{millions:,.0f} M" if millions >= 10 else f"{millions:.2f} M",
                "?" if millions is None else f"{_memory(millions * 1e6 * BYTES_OF_DTYPE[dtype])} {dtype}",
                "yes" if available(spec) else "no",
            ]
        )
    return rows
