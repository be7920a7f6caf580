"""What an OpenCLIP model's tokens and scores are: two towers, and CoCa's captioning decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import open_clip
import torch
from open_clip.transformer import VisionTransformer
from PIL import Image
from torch import Tensor

from attention_collapse.errors import ModelError
from attention_collapse.families import CROSS_ATTENTION, DUAL_ENCODER
from attention_collapse.models.interface import Batch, Output, Provenance, Read, even_weights, one_row, special_ids
from attention_collapse.models.sites import matching_sites
from attention_collapse.probe import IMAGE, OTHER, TEXT


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

    @property
    def _pool_type(self) -> str:
        """Which query of the text tower feeds the embedding; open_clip's `CLIP` names it text_pool_type."""
        return str(getattr(self._text, "text_pool_type", getattr(self._text, "pool_type", "argmax")))

    @property
    def _trims(self) -> bool:
        """Whether what follows a text's end token cannot reach the embedding; most of the context is such padding."""
        tower = self._text
        if self._pool_type != "argmax" or tower.attn_mask is None or getattr(tower, "cls_emb", None) is not None:
            return False
        causal = torch.ones_like(tower.attn_mask, dtype=torch.bool).triu(1)
        return not getattr(tower, "use_pad_mask", False) and torch.isneginf(tower.attn_mask).equal(causal)

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
        truncated = self._truncated(texts, ids.shape[1])
        if self._trims:
            longest = int(end.max()) + 1
            ids, real, words = ids[:, :longest], real[:, :longest], words[:, :longest]
        readout = end  # the end token, as the model itself finds it
        if getattr(self._text, "cls_emb", None) is not None:
            one = torch.ones(len(ids), 1, dtype=torch.bool)
            real, words, readout = (
                torch.cat([real, one], 1),
                torch.cat([words, ~one], 1),
                torch.full_like(end, ids.shape[1]),
            )
        elif self._pool_type == "last":
            readout = torch.full_like(end, ids.shape[1] - 1)
        elif self._pool_type == "first":
            readout = torch.zeros_like(end)
        rows = {"all": even_weights(real), "readout": one_row(readout, real.shape[1])}
        read = Read("text", self.sites["text"], rows, real.sum(-1))
        groups = dict.fromkeys(self.sites["text"], torch.where(words, TEXT, OTHER))
        return Batch({"text": ids.to(self._device)}, (read,), groups, truncated)

    def _truncated(self, texts: Sequence[str], context: int) -> tuple[bool, ...]:
        inner = getattr(self._tokenizer, "tokenizer", None)
        if inner is not None:
            return tuple(len(inner(text, verbose=False)["input_ids"]) > context for text in texts)
        return tuple(len(self._tokenizer.encode(text)) > context - 2 for text in texts)

    def run(self, batch: Batch) -> Output:
        """Embeddings, and for images the patches where they are projected."""
        if "text" in batch.inputs:
            return Output(embedding=self._encode_text(batch.inputs["text"]))
        embedding = self.module.encode_image(batch.inputs["image"], normalize=True)
        patches, self._patches = self._patches, None
        return Output(
            embedding=embedding, patches=None if patches is None else torch.nn.functional.normalize(patches, dim=-1)
        )

    def _encode_text(self, ids: Tensor) -> Tensor:
        """(batch, width), unit length, of token ids of any length up to the context."""
        tower, length = self._text, ids.shape[1]
        if not self._trims:
            whole: Tensor = self.module.encode_text(ids, normalize=True)
            return whole
        prefix = "" if tower is self.module else "text."
        cut = {
            f"{prefix}positional_embedding": tower.positional_embedding[:length],
            f"{prefix}attn_mask": tower.attn_mask[:length, :length],
        }
        found: Any = torch.func.functional_call(self.module, cut, kwargs={"text": ids})  # image, text and scale
        embedding: Tensor = found["text_features"] if isinstance(found, dict) else found[1]
        return embedding


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
