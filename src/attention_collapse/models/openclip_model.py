"""What the kinds of the open_clip library share: their parts, and their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import torch
from open_clip.transformer import VisionTransformer
from PIL import Image
from torch import Tensor

from attention_collapse.errors import ModelError
from attention_collapse.models.interface import Batch, KindOfModel, Provenance, Read, even_weights, one_row, special_ids
from attention_collapse.models.openclip import load_parts
from attention_collapse.models.sites import matching_sites
from attention_collapse.models.spec import ModelSpec
from attention_collapse.models.vocabulary import embedding_rows, require_vocabulary
from attention_collapse.probe import IMAGE, OTHER


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


class OpenClipModel(KindOfModel, base=True):
    """An OpenCLIP model: its image tower, and the tokens of its text."""

    module: Any  # open_clip.CLIP, CustomTextCLIP or CoCa: their parts carry no types
    ids: ClassVar[str] = "text"

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
        if (rows := embedding_rows(self._text)) is not None:
            require_vocabulary(name, provenance.weights, self.tokenizer, rows)

    @classmethod
    def load(cls, name: str, spec: ModelSpec, device: str = "cpu") -> Self:
        """The model with exactly the weights that are asked for."""
        return cls(name, *load_parts(name, spec, device))

    @property
    def tokenizer(self) -> Any:
        """The tokenizer; of one that open_clip wraps, that of transformers."""
        return getattr(self._tokenizer, "tokenizer", self._tokenizer)

    def _pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """(batch, 3, height, width)."""
        return torch.stack([self._transform(image) for image in images]).to(self._device)

    def images(self, pictures: Sequence[Image.Image]) -> Batch:
        """Inputs of the image tower. Its tokens: the class token, where there is one, and then patches row by row."""
        inputs, none, vision = {"image": self._pixels(pictures)}, (False,) * len(pictures), self._vision
        if vision is None:
            return Batch(inputs, (), {}, none)
        groups = torch.full((1, vision.tokens), IMAGE)
        groups[:, : vision.special] = OTHER
        everything = even_weights(torch.ones(len(pictures), vision.tokens, dtype=torch.bool))
        first = torch.zeros(len(pictures), dtype=torch.long)
        readout = everything if vision.readout is None else one_row(first + vision.readout, vision.tokens)
        read = Read(
            "vision", vision.sites, {"all": everything, "readout": readout}, torch.full_like(first, vision.tokens)
        )
        return Batch(inputs, (read,), dict.fromkeys(vision.sites, groups), none)

    def _tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(batch, context) token ids, which are real (up to the end token), which are words; (batch,) end position."""
        ids = self._tokenizer(list(texts))
        inner = self.tokenizer
        special = special_ids(inner)
        pad = getattr(inner, "pad_token_id", None)
        # CLIP's own tokenizer pads with 0, which is also a word piece; its end token is the largest id.
        end = ids.argmax(-1) if pad is None else (ids != pad).sum(-1) - 1
        if pad is not None and pad == getattr(inner, "eos_token_id", None):
            end = (end + 1).clamp_max(ids.shape[1] - 1)  # the end token looks like padding
        real = torch.arange(ids.shape[1]) <= end[:, None]
        return ids, real, real & ~torch.isin(ids, special), end

    def cleaned(self, texts: Sequence[str]) -> list[str]:
        """Captions as the tokenizer cleans them (case, punctuation, spaces) before it looks for tokens."""
        return [self._tokenizer.clean_fn(text) for text in texts]

    def _truncated(self, texts: Sequence[str], context: int) -> tuple[bool, ...]:
        inner = getattr(self._tokenizer, "tokenizer", None)
        if inner is not None:
            return tuple(len(inner(text, verbose=False)["input_ids"]) > context for text in self.cleaned(texts))
        return tuple(len(self._tokenizer.encode(text)) > context - 2 for text in texts)
