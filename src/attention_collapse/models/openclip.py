"""OpenCLIP models: two transformer towers, loaded by tag, by hub revision, from disk, or untrained."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import open_clip
import torch
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor, nn

from attention_collapse.errors import ModelError
from attention_collapse.files import sha256_bytes, sha256_file
from attention_collapse.models.checkpoint import load_exactly, read_state_dict
from attention_collapse.models.dual_encoder import Batch, Provenance, Tower
from attention_collapse.models.spec import ModelSpec
from attention_collapse.probe import IMAGE, OTHER, TEXT

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # in order of preference
TOKENIZER_FILES = ("*.txt", "*.txt.gz", "tokenizer*", "vocab*", "merges*", "special_tokens_map.json", "*.model")


@contextmanager
def _quiet() -> Iterator[None]:
    """open_clip warns of random weights on the root logger at every construction; ours are loaded right after."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _unreachable(name: str, repo: str, files: str, error: Exception) -> ModelError:
    return ModelError(
        f"{name}: {files} of {repo} cannot be had ({str(error).splitlines()[0]})",
        expected="the file in the local hub cache, or a connection to the hub",
        remedy=f"connect once, or download {repo} by hand into a folder and use weights: checkpoint with its path",
    )


def _hub_folder(name: str, repo: str, revision: str) -> Path:
    """The repository's snapshot in the local hub cache, fetched if it is not there."""
    for weights in WEIGHTS:
        try:
            folder = Path(
                snapshot_download(repo, revision=revision, allow_patterns=[CONFIG, weights, *TOKENIZER_FILES])
            )
        except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
            raise _unreachable(name, repo, f"{CONFIG} and {weights}", error) from None
        if (folder / weights).is_file():
            return folder
    raise ModelError(
        f"{name}: {repo} at {revision} holds none of {', '.join(WEIGHTS)}",
        expected="a repository in open_clip's layout",
        remedy="check repo and revision",
    )


def _tagged_file(name: str, spec: ModelSpec) -> tuple[Path, dict[str, Any]]:
    """The weights file of a `pretrained` tag, and open_clip's settings for it."""
    settings = open_clip.get_pretrained_cfg(spec.architecture, spec.tag)
    if not settings:
        tags = open_clip.list_pretrained_tags_by_model(spec.architecture)
        raise ModelError(
            f"{name}: open_clip has no tag {spec.tag!r} for {spec.architecture}",
            expected=f"one of {', '.join(tags) or 'none: the architecture has no pretrained weights'}",
            remedy="correct architecture or tag",
        )
    repo, _, filename = settings.get("hf_hub", "").rpartition("/")
    if not repo:
        raise ModelError(
            f"{name}: tag {spec.tag} is not on the hub",
            expected="weights that can be pinned by revision",
            remedy="download the file by hand and use weights: checkpoint",
        )
    problem: Exception | None = None
    for candidate in [filename] if filename else WEIGHTS:
        try:
            return Path(hf_hub_download(repo, candidate, revision=spec.revision)), settings
        except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
            problem = problem or error
    raise _unreachable(name, repo, filename or WEIGHTS[0], problem or OSError("unknown"))


def _folder_config(name: str, folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text("utf-8"))
        return {"model_cfg": dict(config["model_cfg"]), "preprocess_cfg": dict(config.get("preprocess_cfg", {}))}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{name}: {folder / CONFIG} is absent or not an open_clip configuration ({error!r})",
            expected=f'a folder with {CONFIG} ({{"model_cfg": …, "preprocess_cfg": …}}) and {WEIGHTS[0]}',
            remedy="check the path; `openclip-scenes` needs the repository's root as the working folder",
        ) from None


def _folder_weights(name: str, folder: Path) -> Path:
    for file in WEIGHTS:
        if (folder / file).is_file():
            return folder / file
    raise ModelError(
        f"{name}: no weights in {folder}",
        expected=f"{' or '.join(WEIGHTS)}",
        remedy="put the weights there, or say weights: untrained if that is meant",
    )


def _build(name: str, architecture: str | Path, seed: int, settings: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Freshly initialised model, evaluation transform and tokenizer of an architecture (a name or a folder)."""
    known = isinstance(architecture, Path) or open_clip.get_model_config(architecture) is not None
    if not known:
        raise ModelError(
            f"{name}: open_clip knows no architecture {architecture!r}",
            expected="one of open_clip.list_models(), or a folder with an open_clip_config.json",
            remedy="correct the architecture",
        )
    preprocess = {key: settings[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in settings}
    with torch.random.fork_rng(devices=[]), _quiet():
        torch.manual_seed(seed)
        if isinstance(architecture, Path):
            try:
                return _from_folder(name, architecture)
            except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
                raise ModelError(
                    f"{name}: {architecture / CONFIG} does not describe a model ({error!r})",
                    expected="an open_clip configuration whose tokenizer files lie beside it",
                    remedy="compare the file with open_clip's own model_configs",
                ) from None
        module = open_clip.create_model(
            architecture, force_quick_gelu=bool(settings.get("quick_gelu")), force_preprocess_cfg=preprocess
        )
        transform = image_transform_v2(PreprocessCfg(**module.visual.preprocess_cfg), is_train=False)
        return module, transform, open_clip.get_tokenizer(architecture)


def _from_folder(name: str, folder: Path) -> tuple[Any, Any, Any]:
    """The architecture that a folder's configuration describes."""
    config = _folder_config(name, folder)
    model, text = config["model_cfg"], dict(config["model_cfg"]["text_cfg"])
    if merges := text.get("tokenizer_kwargs", {}).get("bpe_path"):
        text["tokenizer_kwargs"] = {**text["tokenizer_kwargs"], "bpe_path": str(folder / Path(merges).name)}
    cls = open_clip.CustomTextCLIP if model.pop("custom_text", False) else open_clip.CLIP
    module = cls(**model)
    settings = PreprocessCfg(**{**config["preprocess_cfg"], "size": module.visual.image_size})
    if text.get("hf_tokenizer_name"):
        tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    else:
        tokenizer = open_clip.SimpleTokenizer(
            context_length=text.get("context_length", 77), **text.get("tokenizer_kwargs", {})
        )
    return module, image_transform_v2(settings, is_train=False), tokenizer


class OpenClip:
    """An OpenCLIP model with a ViT and a causal text transformer. See `DualEncoder`."""

    module: Any  # open_clip.CLIP or CustomTextCLIP: their parts carry no types

    def __init__(self, name: str, module: Any, transform: Any, tokenizer: Any, provenance: Provenance) -> None:
        self.name, self.module, self.provenance = name, module, asdict(provenance)
        self._transform, self._tokenizer = transform, tokenizer
        self._device = next(module.parameters()).device
        text = getattr(module, "text", module)
        visual = module.visual
        pooling = (
            getattr(visual, "pool_type", None),
            getattr(module, "text_pool_type", getattr(text, "pool_type", None)),
        )
        mask = getattr(text, "attn_mask", None)
        plain = not getattr(visual, "attn_pool", None) and mask is not None
        if pooling != ("tok", "argmax") or not plain:
            raise ModelError(
                f"{name}: image pooling {pooling[0]!r}, text pooling {pooling[1]!r}, "
                f"{type(visual).__name__} as the image tower",
                expected="a ViT read out at its class token and a causal text tower read out at its end token",
                remedy="choose an OpenCLIP ViT; other towers are not supported yet",
            )
        self._context = int(text.attn_mask.shape[0])
        prefix = "text.transformer." if text is not module else "transformer."
        self.towers = (Tower("vision", self._sites("visual.")), Tower("text", self._sites(prefix)))

    def _sites(self, prefix: str) -> tuple[str, ...]:
        return tuple(
            name
            for name, module in self.module.named_modules()
            if name.startswith(prefix) and isinstance(module, nn.MultiheadAttention)
        )

    @property
    def logit_scale(self) -> float:
        """Factor on the cosine, from the checkpoint."""
        return float(self.module.logit_scale.exp())

    def image_batch(self, images: Sequence[Image.Image]) -> Batch:
        """Pixels (batch, 3, size, size); tokens are the class token and then the patches, row by row."""
        pixels = torch.stack([self._transform(image) for image in images]).to(self._device)
        tokens = self.module.visual.positional_embedding.shape[0]
        groups = torch.full((1, tokens), IMAGE)
        groups[:, 0] = OTHER
        readout = torch.zeros(len(images), tokens, dtype=torch.float64)
        readout[:, 0] = 1.0
        everything = torch.full((len(images), tokens), 1.0 / tokens, dtype=torch.float64)
        lengths = torch.full((len(images),), tokens)
        return Batch(pixels, {"all": everything, "readout": readout}, groups, lengths, (False,) * len(images))

    def text_batch(self, texts: Sequence[str]) -> Batch:
        """Token ids (batch, context); real tokens run from the start token to the end token."""
        ids = self._tokenizer(list(texts))
        end = ids.argmax(-1)  # as the model itself finds the end token
        position = torch.arange(ids.shape[1])
        real = position <= end[:, None]
        groups = torch.where((position > 0) & (position < end[:, None]), TEXT, OTHER)
        rows = {
            "all": real.double() / real.sum(-1, keepdim=True),
            "readout": (position == end[:, None]).double(),
        }
        truncated = tuple(self._is_truncated(text) for text in texts)
        return Batch(ids.to(self._device), rows, groups, end + 1, truncated)

    def _is_truncated(self, text: str) -> bool:
        encode = getattr(self._tokenizer, "encode", None) or self._tokenizer.tokenizer.tokenize
        return len(encode(text)) > self._context - 2

    def encode(self, tower: str, batch: Batch) -> Tensor:
        """(batch, width) L2-normalised embeddings."""
        run = self.module.encode_image if tower == "vision" else self.module.encode_text
        features: Tensor = run(batch.inputs, normalize=True)
        return features


def load(name: str, spec: ModelSpec, device: str = "cpu") -> OpenClip:
    """Build the architecture, put exactly the named weights into it, and say where they came from."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(
            f"{name}: device {device!r} cannot be used ({str(error).splitlines()[0]})",
            expected="cpu, or a device that PyTorch finds on this machine",
            remedy="use cpu, or install a driver",
        ) from None
    settings: dict[str, Any] = {}
    revision, file, architecture = spec.revision, None, None
    if spec.weights == "pretrained":
        file, settings = _tagged_file(name, spec)
        revision = file.parent.name if file.parent.parent.name == "snapshots" else revision
    elif spec.weights == "hub":
        architecture = _hub_folder(name, spec.repo or "", spec.revision or "")
    elif spec.weights == "checkpoint":
        path = Path(spec.path or "")
        architecture, file = (None, path) if spec.architecture else (path, None)
    elif Path(spec.architecture or "").is_dir():
        architecture = Path(spec.architecture or "")
    if isinstance(architecture, Path) and spec.weights != "untrained":
        _folder_config(name, architecture)
        file = _folder_weights(name, architecture)
    module, transform, tokenizer = _build(name, architecture or spec.architecture or "", spec.seed or 0, settings)
    digest = None
    if file is not None:
        state = _in_own_names(name, module, read_state_dict(file))
        digest = sha256_file(file)
        if spec.sha256 and digest != spec.sha256:
            raise ModelError(
                f"{name}: {file} has sha256 {digest}",
                expected=f"{spec.sha256}, pinned in the parameters",
                remedy="restore the file; change the pin only if new weights are meant",
            )
        load_exactly(module, state, f"{name}: {file}")
    definition = None
    if isinstance(architecture, Path):  # configuration and tokenizer are part of what the model is
        others = sorted(path for path in architecture.iterdir() if path.is_file() and path.name not in WEIGHTS)
        definition = sha256_bytes("".join(f"{path.name} {sha256_file(path)}\n" for path in others).encode())
    module.eval().requires_grad_(False).to(device)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    origin = {
        "pretrained": f"open_clip {spec.architecture} {spec.tag}",
        "hub": f"hub {spec.repo}",
        "checkpoint": f"checkpoint {spec.path}",
        "untrained": f"UNTRAINED {spec.architecture}, seed {spec.seed}",
    }[spec.weights]
    return OpenClip(
        name,
        module,
        transform,
        tokenizer,
        Provenance(origin, digest, definition, revision, parameters, spec.weights == "untrained"),
    )


def _in_own_names(name: str, module: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names and scalar shapes of older or foreign checkpoints as this open_clip version has them."""
    try:
        converted: dict[str, Tensor] = convert_state_dict(module, state)
        if "positional_embedding" in converted and not hasattr(module, "positional_embedding"):
            converted = convert_to_custom_text_state_dict(converted)
    except (KeyError, AttributeError, IndexError, RuntimeError) as error:
        raise ModelError(
            f"{name}: the tensors' names are of another architecture ({error!r})",
            expected="a checkpoint of the architecture",
            remedy="check that the checkpoint and the architecture belong together",
        ) from None
    for scalar in ("logit_scale", "logit_bias"):
        own = getattr(module, scalar, None)
        if scalar in converted and own is not None and converted[scalar].numel() == own.numel():
            converted[scalar] = converted[scalar].reshape(own.shape)
    return converted
