"""OpenCLIP models as dual encoders, CoCa's two towers among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from attention_collapse.families import DUAL_ENCODER
from attention_collapse.models.interface import (
    Batch,
    Embedded,
    Read,
    Without,
    even_weights,
    one_row,
    special_ids,
    unit_length,
)
from attention_collapse.models.mm_shap import CLIP
from attention_collapse.models.openclip_model import OpenClipModel
from attention_collapse.models.sites import matching_sites
from attention_collapse.models.vocabulary import end_token, require_end
from attention_collapse.probe import OTHER, TEXT

LABEL = "OpenCLIP"
LIBRARY = "open_clip"
MODEL_TYPES = ()  # its folders hold an open_clip_config.json, which has none
CATALOGUE = {
    "openclip-scenes": {"weights": "checkpoint", "path": "data/controls/openclip-scenes",
        "licence": "MIT", "millions": None},
    "openclip-vit-b-32": {"weights": "pretrained", "architecture": "ViT-B-32", "tag": "openai",
        "licence": "MIT", "millions": 151},
    "openclip-vit-b-32-laion2b": {"weights": "pretrained", "architecture": "ViT-B-32", "tag": "laion2b_s34b_b79k",
        "licence": "MIT", "millions": 151},
    "openclip-vit-b-16": {"weights": "pretrained", "architecture": "ViT-B-16", "tag": "openai",
        "licence": "MIT", "millions": 150},
    "openclip-vit-l-14": {"weights": "pretrained", "architecture": "ViT-L-14", "tag": "openai",
        "licence": "MIT", "millions": 428},
    "openclip-siglip-b-16": {"weights": "pretrained", "architecture": "ViT-B-16-SigLIP", "tag": "webli",
        "licence": "Apache-2.0", "millions": 203},
    "openclip-coca-b-32": {"weights": "pretrained", "architecture": "coca_ViT-B-32", "tag": "laion2b_s13b_b90k",
        "licence": "MIT", "millions": 254},
    "openclip-vit-b-32-untrained": {"weights": "untrained", "architecture": "ViT-B-32", "seed": 0,
        "licence": "none: random weights", "millions": 151},
}  # fmt: skip


class OpenClip(OpenClipModel):
    """An OpenCLIP model as a `DualEncoder`."""

    own = ("pixels", "picture")
    family = DUAL_ENCODER
    pixels = picture = "image"
    caption = Without("the text tower takes no mask")

    def __init__(self, name: str, module: Any, *parts: Any) -> None:
        super().__init__(name, module, *parts)
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
        self.texts(["a"])  # an end token that is not found is an error now, not after the images

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

    @property
    def mm_shap(self) -> str | Without:
        """As CLIP, where the text tower is CLIP's: causal, with start and end tokens, read out at the end token."""
        ids, _, _, end = self._tokens(["a"])
        if self._trims and bool(torch.isin(ids[0, [0, int(end)]], special_ids(self.tokenizer)).all()):
            return CLIP
        return Without("its text tower is not CLIP's: id 0 is padding to it, or it has no start and end tokens")

    def _patches_are_projected(self) -> bool:
        visual = self.module.visual
        own = isinstance(visual, VisionTransformer) and visual.attn_pool is None and not visual.final_ln_after_pool
        return own and isinstance(visual.proj, Tensor)

    def _keep_patches(self, _module: Any, _args: Any, tokens: Tensor) -> None:
        self._patches = tokens[:, 1:] @ self.module.visual.proj  # (batch, patch, width)

    @property
    def logit_scale(self) -> float:
        """Factor on the cosine, from the checkpoint."""
        return float(self.module.logit_scale.float().exp())

    @property
    def logit_bias(self) -> float:
        """Term beside the scaled cosine, from the checkpoint; 0 where there is none."""
        bias = getattr(self.module, "logit_bias", None)
        return 0.0 if bias is None else float(bias)

    def texts(self, captions: Sequence[str]) -> Batch:
        """Inputs of the text tower, (batch, token) ids; CoCa's tower appends a class token."""
        ids, real, words, end = self._tokens(captions)
        truncated = self._truncated(captions, ids.shape[1])
        self._require_end(ids, captions)
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

    def _require_end(self, ids: Tensor, captions: Sequence[str]) -> None:
        """ModelError unless the query that feeds the embedding is the end token's, where the tower looks for one."""
        tower = self._text
        if self._pool_type not in ("argmax", "eos") or getattr(tower, "cls_emb", None) is not None:
            return
        wanted: Any = getattr(tower, "text_eos_id", getattr(tower, "eos_id", -1))
        place = ids.argmax(-1) if self._pool_type == "argmax" else ids.eq(wanted).int().argmax(-1)
        require_end(self.name, ids, place, end_token(self.tokenizer), captions)

    def embed(self, batch: Batch) -> Embedded:
        """Embeddings, and for images the patches where they are projected."""
        if "text" in batch.inputs:
            return Embedded(unit_length(self._encode_text(batch.inputs["text"])))
        embedding = unit_length(self.module.encode_image(batch.inputs["image"], normalize=False))
        patches, self._patches = self._patches, None
        return Embedded(embedding, None if patches is None else unit_length(patches))

    def _encode_text(self, ids: Tensor) -> Tensor:
        """(batch, width) of token ids of any length up to the context."""
        tower, length = self._text, ids.shape[1]
        if not self._trims:
            whole: Tensor = self.module.encode_text(ids, normalize=False)
            return whole
        prefix = "whole." if tower is self.module else "whole.text."
        cut = {
            f"{prefix}positional_embedding": tower.positional_embedding[:length],
            f"{prefix}attn_mask": tower.attn_mask[:length, :length],
        }
        embedding: Tensor = torch.func.functional_call(_TextAlone(self.module), cut, (ids,))
        return embedding


class _TextAlone(nn.Module):
    """A model whose forward pass encodes texts, which the model's own normalises in its own dtype."""

    def __init__(self, whole: Any) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, ids: Tensor) -> Tensor:
        """(batch, width) of (batch, token) ids."""
        embedding: Tensor = self.whole.encode_text(ids, normalize=False)
        return embedding


load = OpenClip.load
