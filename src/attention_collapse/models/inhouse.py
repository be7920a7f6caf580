"""What the in-house V1 and V2 share: a fusion module on features of an OpenCLIP image tower and a BERT-like text tower.

A checkpoint folder holds config.json (`{"model_type": "fusion-v2"}`), model.safetensors (the fusion module), and the
feature encoders `image_encoder/` (open_clip's layout, 512 wide) and `text_encoder/` (transformers' layout, 384 wide).
A smaller model of the same classes says its `sizes` in config.json (see `fusion.Sizes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from attention_collapse.errors import ModelError
from attention_collapse.files import sha256_bytes, sha256_file
from attention_collapse.models.boundary import boundary
from attention_collapse.models.checkpoint import load_exactly, read_state_dict, require_sha256
from attention_collapse.models.definition import read_object, require_objects
from attention_collapse.models.fusion import FusionV1, FusionV2, Sizes, picture_metadata
from attention_collapse.models.hub import definition_sha256, weights_sha256
from attention_collapse.models.interface import Batch, KindOfModel, Provenance, Without, special_ids
from attention_collapse.models.openclip_model import OpenClipModel
from attention_collapse.models.pretrained import read_weights, weight_files
from attention_collapse.models.spec import ModelSpec
from attention_collapse.models.vocabulary import (
    ROLES,
    embedding_rows,
    require_special_ids,
    require_tokenizer_files,
    require_vocabulary,
)

CONFIG, WEIGHTS = "config.json", "model.safetensors"


class _ImageTokens(nn.Module):
    """An OpenCLIP image tower that gives all its tokens in its output space."""

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, pixels: Tensor) -> Tensor:
        """(batch, token, 512): class token and patches."""
        kept: list[Tensor] = []
        visual: Any = self.visual
        hook = visual.ln_post.register_forward_hook(lambda _m, _a, tokens: kept.append(tokens))
        try:
            visual(pixels)
        finally:
            hook.remove()
        features: Tensor = kept[0] @ visual.proj
        return features


class _Whole(nn.Module):
    """The fusion module and its feature encoders, frozen, as one module."""

    def __init__(self, fusion: nn.Module, image_encoder: nn.Module, text_encoder: nn.Module) -> None:
        super().__init__()
        self.fusion, self.image_encoder, self.text_encoder = fusion, image_encoder, text_encoder


class InHouse(KindOfModel, base=True):
    """A `PairScorer`. A kind says which fusion module it has, and what its attention is."""

    fusion: ClassVar[type[FusionV1] | type[FusionV2]]
    ids: ClassVar[str] = "ids"
    mask: ClassVar[str] = "words"
    caption: ClassVar[str] = "words"
    is_likelihood: ClassVar[bool] = False
    token_embedding: ClassVar[None] = None  # the score is no likelihood
    mm_shap = Without("its score is one number: it has no class for no match")

    def __init__(
        self, name: str, images: OpenClipModel, text: tuple[Any, Any], fusion: nn.Module, provenance: Provenance
    ) -> None:
        self.name, self.provenance = name, asdict(provenance)
        self._images, (encoder, self._tokenizer) = images, text
        self.module = _Whole(fusion, _ImageTokens(images.module.visual), encoder)
        self._device = next(fusion.parameters()).device
        self._context = int(encoder.config.max_position_embeddings)

    @property
    def tokenizer(self) -> Any:
        """The text encoder's tokenizer."""
        return self._tokenizer

    def _inputs(self, pictures: Sequence[Image.Image], captions: Sequence[str]) -> tuple[Batch, Tensor, Batch]:
        """The batch without what is read from it; (batch, token) ids that are special; the image encoder's own batch.

        The metadata are those of the picture: its size and shape.
        """
        limit = self._context
        encoded = self._tokenizer(
            list(captions), padding=True, truncation=True, max_length=limit, padding_side="right", return_tensors="pt"
        )
        words = encoded["attention_mask"] > 0
        special = torch.isin(encoded["input_ids"], special_ids(self._tokenizer))
        prepared = self._images.images(pictures)
        inputs = {
            "pixels": prepared.inputs["image"],
            "ids": encoded["input_ids"].to(self._device),
            "words": words.to(self._device),
            "metadata": picture_metadata([image.size for image in pictures]).to(self._device),
        }
        return Batch(inputs, (), {}, self.truncated(captions)), special, prepared

    def truncated(self, captions: Sequence[str]) -> tuple[bool, ...]:
        """A flag per caption: it is longer than the model's context."""
        lengths = self._tokenizer(list(captions), return_length=True, truncation=False, verbose=False)["length"]
        return tuple(int(length) > self._context for length in lengths)

    def score(self, batch: Batch) -> Tensor:
        """(batch,) the fusion module's score."""
        inputs = batch.inputs
        text = self.module.text_encoder(input_ids=inputs["ids"], attention_mask=inputs["words"].long())
        image = self.module.image_encoder(inputs["pixels"])
        score: Tensor = self.module.fusion(image, text.last_hidden_state, inputs["metadata"], inputs["words"])
        return score

    @classmethod
    def load(cls, name: str, spec: ModelSpec, device: str = "cpu") -> Self:
        """Load the fusion module and its feature encoders from a folder."""
        if spec.weights == "hub":
            raise ModelError(
                f"{name}: kind {spec.kind} from a hub",
                expected="a folder",
                remedy="give its folder (--model FOLDER; in a params file, weights: checkpoint with its path)",
            )
        root = Path((spec.path if spec.weights == "checkpoint" else spec.architecture) or "")
        sizes = _sizes(name, spec.kind, root)
        picture = ModelSpec(kind="openclip", weights="checkpoint", path=str(root / "image_encoder"))
        images = OpenClipModel.load(name, picture, device)
        words = root / "text_encoder"
        encoder, tokenizer = _text_encoder(name, words, device)
        widths = {"image": images.module.visual.output_dim, "text": encoder.config.hidden_size}
        if wrong := {key: width for key, width in widths.items() if width != sizes.features[key]}:
            raise ModelError(
                f"{name}: features of width {wrong}",
                expected=f"{sizes.features}",
                remedy="use the encoders it was trained on",
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(spec.seed or 0)
            fusion = cls.fusion(sizes)
        digest = None
        if spec.weights == "checkpoint":
            load_exactly(fusion, read_state_dict(root / WEIGHTS), f"{name}: {root / WEIGHTS}")
            digest = sha256_file(root / WEIGHTS)
            require_sha256(name, root / WEIGHTS, digest, spec.sha256)
        for module in (fusion, encoder):
            module.eval().requires_grad_(False).to(device)
        parts = [
            definition_sha256(root),
            weights_sha256(weight_files(words)),
            definition_sha256(words),
            str(images.provenance["sha256"]),
        ]
        provenance = Provenance(
            weights=spec.origin,
            sha256=digest,
            definition_sha256=sha256_bytes("\n".join(parts).encode()),
            revision=None,
            parameters=sum(p.numel() for module in (fusion, encoder, images.module) for p in module.parameters()),
            untrained=spec.is_control,
            notes=tuple(images.provenance["notes"]),
            image_processor=images.provenance["image_processor"],
        )
        return cls(name, images, (encoder, tokenizer), fusion, provenance)


def _sizes(name: str, kind: str, root: Path) -> Sizes:
    config = read_object(root / CONFIG)
    try:
        found, sizes = config["model_type"], Sizes(**config.get("sizes", {}))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{name}: {root / CONFIG} names no model_type or has other sizes than these ({error!r})",
            expected=f'{CONFIG} ({{"model_type": "{kind}"}}), {WEIGHTS}, image_encoder/ and text_encoder/',
            remedy="check the path",
        ) from None
    if found != kind:
        raise ModelError(f"{name}: {root} holds a {found!r} model", expected=kind, remedy="correct the kind")
    return sizes


def _text_encoder(name: str, folder: Path, device: str) -> tuple[Any, Any]:
    """The encoder and its tokenizer."""
    require_objects(folder)
    require_tokenizer_files(name, folder)
    encoder, _ = read_weights(name, folder, AutoModel, "float32", device)
    with boundary(
        f"{name}: the tokenizer in {folder} cannot be loaded",
        expected="a tokenizer of the transformers library beside the text encoder",
        remedy="check the folder",
    ):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    rows = embedding_rows(encoder)
    if rows is not None:
        require_vocabulary(name, folder, tokenizer, rows)
    stated = read_object(folder / CONFIG)
    require_special_ids(name, folder, {role: stated.get(f"{role}_token_id") for role in ROLES}, tokenizer)
    return encoder, tokenizer
