"""OpenCLIP models: two towers, loaded by tag, by hub revision, from disk, or untrained."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict
from open_clip.transform import PreprocessCfg, image_transform_v2
from open_clip.transformer import VisionTransformer
from PIL import Image
from torch import Tensor

from attention_collapse.errors import ModelError
from attention_collapse.families import CROSS_ATTENTION, DUAL_ENCODER
from attention_collapse.files import sha256_file
from attention_collapse.models.checkpoint import load_exactly, read_state_dict
from attention_collapse.models.hub import definition_sha256, hub_file, hub_folder, snapshot_revision
from attention_collapse.models.interface import (
    Batch,
    Output,
    Provenance,
    Read,
    even_weights,
    one_row,
    require_device,
    special_ids,
)
from attention_collapse.models.sites import matching_sites
from attention_collapse.models.spec import ModelSpec
from attention_collapse.probe import IMAGE, OTHER, TEXT

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # in order of preference


@contextmanager
def _quiet() -> Iterator[None]:
    """open_clip warns of random weights on the root logger at every construction; ours are loaded right after."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


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
    return hub_file(name, repo, [filename] if filename else WEIGHTS, spec.revision), settings


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
        try:
            module = open_clip.create_model(
                architecture, force_quick_gelu=bool(settings.get("quick_gelu")), force_preprocess_cfg=preprocess
            )
        except OSError as error:  # a text tower that is itself on the hub
            raise ModelError(
                f"{name}: {architecture} cannot be built ({str(error).splitlines()[0]})",
                expected="an architecture that is whole in open_clip, or a connection to the hub",
                remedy="choose an architecture with open_clip's own text transformer",
            ) from None
        _initialise_decoder(module)
        transform = image_transform_v2(PreprocessCfg(**module.visual.preprocess_cfg), is_train=False)
        return module, transform, open_clip.get_tokenizer(architecture)


def _initialise_decoder(module: Any) -> None:
    """open_clip 3.3 leaves the projection of CoCa's decoder as uninitialised memory; its own rule, from the seed."""
    projection = getattr(getattr(module, "text_decoder", None), "text_projection", None)
    if projection is not None:
        torch.nn.init.normal_(projection, std=projection.shape[0] ** -0.5)


def _from_folder(name: str, folder: Path) -> tuple[Any, Any, Any]:
    """The architecture that a folder's configuration describes."""
    config = _folder_config(name, folder)
    model, text = config["model_cfg"], dict(config["model_cfg"]["text_cfg"])
    if merges := text.get("tokenizer_kwargs", {}).get("bpe_path"):
        text["tokenizer_kwargs"] = {**text["tokenizer_kwargs"], "bpe_path": str(folder / Path(merges).name)}
    cls = open_clip.CustomTextCLIP if model.pop("custom_text", False) else open_clip.CLIP
    cls = open_clip.CoCa if "multimodal_cfg" in model else cls
    module = cls(**model)
    _initialise_decoder(module)
    settings = PreprocessCfg(**{**config["preprocess_cfg"], "size": module.visual.image_size})
    if text.get("hf_tokenizer_name"):
        tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    else:
        tokenizer = open_clip.SimpleTokenizer(
            context_length=text.get("context_length", 77), **text.get("tokenizer_kwargs", {})
        )
    return module, image_transform_v2(settings, is_train=False), tokenizer


@dataclass(frozen=True)
class _Vision:
    """The image tower: its attention, its tokens, and the query that feeds the embedding."""

    sites: tuple[str, ...]
    tokens: int
    special: int  # class and register tokens, which come first
    readout: int | None  # None: all queries are pooled


def _vision(name: str, module: Any) -> _Vision | None:
    """None for a convolutional tower."""
    visual = module.visual
    if isinstance(visual, VisionTransformer):
        class_token = visual.pool_type == "tok" and visual.attn_pool is None
        sites = matching_sites(name, module, r"visual\.transformer\.resblocks\.\d+\.attn")
        return _Vision(sites, visual.positional_embedding.shape[0], 1, 0 if class_token else None)
    trunk = getattr(visual, "trunk", None)
    if trunk is not None and hasattr(trunk, "blocks") and hasattr(trunk, "patch_embed"):
        sites = matching_sites(name, module, r"visual\.trunk\.blocks\.\d+\.attn")
        tokens = trunk.num_prefix_tokens + trunk.patch_embed.num_patches
        return _Vision(sites, tokens, trunk.num_prefix_tokens, 0 if trunk.global_pool == "token" else None)
    return None


class OpenClip:
    """An OpenCLIP model as a dual encoder. See `interface.TwoTowers`."""

    family = DUAL_ENCODER
    module: Any  # open_clip.CLIP, CustomTextCLIP or CoCa: their parts carry no types

    def __init__(self, name: str, module: Any, transform: Any, tokenizer: Any, provenance: Provenance) -> None:
        self.name, self.module, self.provenance = name, module, asdict(provenance)
        self._transform, self._tokenizer = transform, tokenizer
        self._device = next(module.parameters()).device
        self._text = getattr(module, "text", module)
        if not hasattr(self._text, "attn_mask"):
            raise ModelError(
                f"{name}: {type(self._text).__name__} as the text tower",
                expected="open_clip's own text transformer",
                remedy="choose another OpenCLIP model, or describe this one with kind: python",
            )
        self._vision = _vision(name, module)
        prefix = r"text\." if self._text is not module else ""
        self.sites = {"text": matching_sites(name, module, prefix + r"transformer\.resblocks\.\d+\.attn")}
        self.missing: dict[str, str] = {}
        if self._vision is None:
            convolutional = f"the vision tower ({type(module.visual).__name__}) has no layers of attention"
            self.missing = {"vision": convolutional, "surrogate": convolutional}
        else:
            self.sites = {"vision": self._vision.sites, **self.sites}
            if not self._patches_are_projected():
                self.missing["surrogate"] = "patches are pooled by attention, not projected into the shared space"
        self._patches: Tensor | None = None
        if "surrogate" not in self.missing:
            module.visual.ln_post.register_forward_hook(self._keep_patches)

    def _patches_are_projected(self) -> bool:
        visual = self.module.visual
        own = isinstance(visual, VisionTransformer) and visual.attn_pool is None and not visual.final_ln_after_pool
        return own and isinstance(visual.proj, Tensor)

    def _keep_patches(self, _module: Any, _args: Any, tokens: Tensor) -> None:
        self._patches = tokens[:, 1:] @ self.module.visual.proj  # (batch, patch, width)

    @property
    def logit_scale(self) -> float:
        """Factor on the cosine, from the checkpoint."""
        return float(self.module.logit_scale.exp())

    @property
    def logit_bias(self) -> float:
        """Term beside the scaled cosine, from the checkpoint; 0 where there is none."""
        bias = getattr(self.module, "logit_bias", None)
        return 0.0 if bias is None else float(bias)

    def batch(self, kind: str, contents: Sequence[Any]) -> Batch:
        """Inputs of one tower: "image" or "text"."""
        return self._image_batch(contents) if kind == "image" else self._text_batch(contents)

    def _pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """(batch, 3, height, width)."""
        return torch.stack([self._transform(image) for image in images]).to(self._device)

    def _image_batch(self, images: Sequence[Image.Image]) -> Batch:
        """Tokens are the class token, where there is one, and then the patches, row by row."""
        inputs, none, vision = {"image": self._pixels(images)}, (False,) * len(images), self._vision
        if vision is None:
            return Batch(inputs, (), {}, none)
        groups = torch.full((1, vision.tokens), IMAGE)
        groups[:, : vision.special] = OTHER
        everything = even_weights(torch.ones(len(images), vision.tokens, dtype=torch.bool))
        first = torch.zeros(len(images), dtype=torch.long)
        readout = everything if vision.readout is None else one_row(first + vision.readout, vision.tokens)
        read = Read(
            "vision", vision.sites, {"all": everything, "readout": readout}, torch.full_like(first, vision.tokens)
        )
        return Batch(inputs, (read,), dict.fromkeys(vision.sites, groups), none)

    def _tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(batch, context) token ids, which are real (up to the end token), which are words; (batch,) end position."""
        ids = self._tokenizer(list(texts))
        inner = getattr(self._tokenizer, "tokenizer", self._tokenizer)
        special = special_ids(inner)
        pad = getattr(inner, "pad_token_id", None)
        # CLIP's own tokenizer pads with 0, which is also a word piece; its end token is the largest id.
        end = ids.argmax(-1) if pad is None else (ids != pad).sum(-1) - 1
        if pad is not None and pad == getattr(inner, "eos_token_id", None):
            end = (end + 1).clamp_max(ids.shape[1] - 1)  # the end token looks like padding
        real = torch.arange(ids.shape[1]) <= end[:, None]
        return ids, real, real & ~torch.isin(ids, special), end

    def _text_batch(self, texts: Sequence[str]) -> Batch:
        """Token ids (batch, context); CoCa's tower appends a class token."""
        ids, real, words, end = self._tokens(texts)
        readout = end  # the end token, as the model itself finds it
        if getattr(self._text, "cls_emb", None) is not None:
            one = torch.ones(len(ids), 1, dtype=torch.bool)
            real, words, readout = (
                torch.cat([real, one], 1),
                torch.cat([words, ~one], 1),
                torch.full_like(end, ids.shape[1]),
            )
        elif getattr(self._text, "pool_type", "argmax") == "last":
            readout = torch.full_like(end, ids.shape[1] - 1)
        elif getattr(self._text, "pool_type", "argmax") == "first":
            readout = torch.zeros_like(end)
        rows = {"all": even_weights(real), "readout": one_row(readout, real.shape[1])}
        read = Read("text", self.sites["text"], rows, real.sum(-1))
        groups = dict.fromkeys(self.sites["text"], torch.where(words, TEXT, OTHER))
        return Batch({"text": ids.to(self._device)}, (read,), groups, self._truncated(texts, ids.shape[1]))

    def _truncated(self, texts: Sequence[str], context: int) -> tuple[bool, ...]:
        inner = getattr(self._tokenizer, "tokenizer", None)
        if inner is not None:
            return tuple(len(inner(text, verbose=False)["input_ids"]) > context for text in texts)
        return tuple(len(self._tokenizer.encode(text)) > context - 2 for text in texts)

    def run(self, batch: Batch) -> Output:
        """Embeddings, and for images the patches where they are projected."""
        if "text" in batch.inputs:
            return Output(embedding=self.module.encode_text(batch.inputs["text"], normalize=True))
        embedding = self.module.encode_image(batch.inputs["image"], normalize=True)
        patches, self._patches = self._patches, None
        return Output(
            embedding=embedding, patches=None if patches is None else torch.nn.functional.normalize(patches, dim=-1)
        )


class CoCaDecoder(OpenClip):
    """CoCa's captioning decoder: text queries cross-attend to the pooled image tokens. See `interface.Model`."""

    family = CROSS_ATTENTION

    def __init__(self, name: str, module: Any, transform: Any, tokenizer: Any, provenance: Provenance) -> None:
        super().__init__(name, module, transform, tokenizer, provenance)
        if not isinstance(module, open_clip.CoCa):
            raise ModelError(f"{name}: {type(module).__name__}", expected="CoCa", remedy="use kind: openclip")
        self.sites = {
            "vision": matching_sites(name, module, r"text_decoder\.cross_attn\.\d+\.attn"),
            "text": matching_sites(name, module, r"text_decoder\.resblocks\.\d+\.attn"),
        }
        self.missing = {}
        self.provenance["notes"] = ("the image's keys in cross-attention are the pooled tokens, not patches",)

    def batch(self, kind: str, contents: Sequence[Any]) -> Batch:  # noqa: ARG002
        """Inputs of image–caption pairs."""
        images, texts = zip(*contents, strict=True)
        ids, _, words, end = self._tokens(texts)
        inside = words[:, :-1]  # the decoder predicts the next token, so the last has no query
        rows = {"all": even_weights(inside), "readout": one_row((end - 2).clamp_min(0), inside.shape[1])}
        pool = getattr(self.module.visual, "attn_pool", None)
        keys = self._vision.tokens - 1 if self._vision else 0
        if pool is not None:
            keys = pool.query.shape[0] - (0 if self.module.visual.attn_pool_type else 1)
        reads = (
            Read("vision", self.sites["vision"], rows, torch.full((len(ids),), keys)),
            Read("text", self.sites["text"], rows, words.sum(-1)),
        )
        groups = dict.fromkeys(self.sites["vision"], torch.full((1, keys), IMAGE))
        groups |= dict.fromkeys(self.sites["text"], torch.where(inside, TEXT, OTHER))
        inputs = {"image": self._pixels(images), "text": ids.to(self._device), "words": words.to(self._device)}
        return Batch(inputs, reads, groups, self._truncated(texts, ids.shape[1]))

    def run(self, batch: Batch) -> Output:
        """Mean log-likelihood of the caption's words, in nats a token."""
        logits = self.module(batch.inputs["image"], batch.inputs["text"])["logits"]
        labels, words = batch.inputs["text"][:, 1:], batch.inputs["words"][:, 1:]
        values = logits.float().log_softmax(-1).gather(-1, labels[..., None])[..., 0]
        return Output(score=(values * words).sum(-1) / words.sum(-1))


def load(name: str, spec: ModelSpec, device: str = "cpu") -> OpenClip:
    """Build the architecture, put exactly the named weights into it, and say where they came from."""
    require_device(name, device)
    settings: dict[str, Any] = {}
    revision, file, architecture = spec.revision, None, None
    if spec.weights == "pretrained":
        file, settings = _tagged_file(name, spec)
        revision = snapshot_revision(file) or revision
    elif spec.weights == "hub":
        architecture = hub_folder(name, spec.repo or "", spec.revision, CONFIG, WEIGHTS)
        revision = snapshot_revision(architecture) or revision
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
    definition = definition_sha256(architecture) if isinstance(architecture, Path) else None
    if broken := [key for key, value in module.named_parameters() if not bool(value.isfinite().all())]:
        raise ModelError(
            f"{name}: NaN or infinite values in {', '.join(broken[:3])}",
            expected="finite weights",
            remedy="restore the checkpoint; of untrained weights, report the architecture",
        )
    if file is not None and spec.weights == "pretrained":
        definition = _tokenizer_sha256(name, spec.architecture or "")
    module.eval().requires_grad_(False).to(device)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    cls = CoCaDecoder if spec.kind == "openclip-coca" else OpenClip
    return cls(
        name,
        module,
        transform,
        tokenizer,
        Provenance(spec.origin, digest, definition, revision, parameters, spec.is_control),
    )


def _tokenizer_sha256(name: str, architecture: str) -> str | None:
    """Hash of a tokenizer that open_clip takes from a hub repository of its own; None where it is part of open_clip."""
    repo = (open_clip.get_model_config(architecture) or {}).get("text_cfg", {}).get("hf_tokenizer_name")
    return definition_sha256(hub_folder(name, repo, None, "tokenizer", ["tokenizer*"])) if repo else None


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
