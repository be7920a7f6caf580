"""Fusion encoders of the transformers library: BLIP and BLIP-2 (cross-attention), ViLT and FLAVA (single stream)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from torch import Tensor

from attention_collapse.families import CROSS_ATTENTION, SINGLE_STREAM
from attention_collapse.models.interface import (
    Batch,
    Output,
    Pair,
    Provenance,
    Read,
    even_weights,
    one_row,
    special_ids,
)
from attention_collapse.models.pretrained import load_pretrained
from attention_collapse.models.sites import matching_sites
from attention_collapse.models.spec import ModelSpec
from attention_collapse.probe import IMAGE, OTHER, TEXT


class FusionEncoder(ABC):
    """See `interface.Model`. A kind says where its attention is, what its tokens are, and what its score is."""

    class_name: ClassVar[str]
    family: ClassVar[str]
    vision: ClassVar[str]  # attention modules read for vision, a regular expression
    text: ClassVar[str]
    notes: ClassVar[tuple[str, ...]] = ()  # what a reader of the numbers must know

    def __init__(self, name: str, module: Any, processor: Any, provenance: Provenance) -> None:
        self.name, self.module, self.provenance = name, module, asdict(provenance)
        self.provenance["notes"] = (*provenance.notes, *self.notes)
        self._processor = processor
        self.sites = {
            "vision": matching_sites(name, module, self.vision),
            "text": matching_sites(name, module, self.text),
        }
        self.missing: Mapping[str, str] = {}

    def batch(self, kind: str, contents: Sequence[Pair]) -> Batch:  # noqa: ARG002
        """Inputs of image–caption pairs."""
        images, texts = zip(*contents, strict=True)
        tokenizer = self._processor.tokenizer
        tokenizer.padding_side = "right"
        inputs = self._inputs(list(images), list(texts), self._context())
        lengths = tokenizer(list(texts), return_length=True, truncation=False, verbose=False)["length"]
        ids, mask = self._text_tokens(inputs)
        special = torch.isin(ids, special_ids(tokenizer))
        reads, groups = self._reads(inputs, mask, mask & ~special)
        inputs = inputs.to(self.module.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(self.module.dtype)
        return Batch(dict(inputs), reads, groups, tuple(int(length) > self._context() for length in lengths))

    def _context(self) -> int:
        """Longest caption in tokens."""
        config = self.module.config
        return int(getattr(config, "text_config", config).max_position_embeddings)

    def _inputs(self, images: list[Any], texts: list[str], context: int) -> Any:
        return self._processor(
            images=images, text=texts, padding=True, truncation=True, max_length=context, return_tensors="pt"
        )

    def _text_tokens(self, inputs: Any) -> tuple[Tensor, Tensor]:
        """(batch, token) ids of the caption with its special tokens, and which of them are real."""
        return inputs["input_ids"], inputs["attention_mask"] > 0

    def _groups(self, groups: Tensor, *towers: str) -> dict[str, Tensor]:
        return dict.fromkeys([site for tower in towers for site in self.sites[tower]], groups)

    def _first(self, batch: int, queries: int) -> Tensor:
        return one_row(torch.zeros(batch, dtype=torch.long), queries)

    @abstractmethod
    def _reads(self, inputs: Any, real: Tensor, words: Tensor) -> tuple[tuple[Read, ...], dict[str, Tensor]]:
        """What to read, and the key groups; `real` and `words`: (batch, token), with and without special tokens."""

    @abstractmethod
    def run(self, batch: Batch) -> Output:
        """The matching score of each pair."""


def _class_token_and_patches(patches: int) -> Tensor:
    groups = torch.full((1, 1 + patches), IMAGE)
    groups[:, 0] = OTHER
    return groups


class Blip(FusionEncoder):
    """BLIP with its image–text matching head: text queries cross-attend to the image in every layer."""

    class_name = "BlipForImageTextRetrieval"
    family = CROSS_ATTENTION
    vision = r"text_encoder\.encoder\.layer\.\d+\.crossattention\.self"
    text = r"text_encoder\.encoder\.layer\.\d+\.attention\.self"

    def _reads(self, _inputs: Any, real: Tensor, words: Tensor) -> tuple[tuple[Read, ...], dict[str, Tensor]]:
        config = self.module.config.vision_config
        image = _class_token_and_patches((config.image_size // config.patch_size) ** 2)
        rows = {"all": even_weights(real), "readout": self._first(*real.shape)}
        tokens = torch.full((len(real),), image.shape[1])
        reads = (
            Read("vision", self.sites["vision"], rows, tokens),
            Read("text", self.sites["text"], rows, real.sum(-1)),
        )
        text = self._groups(torch.where(words, TEXT, OTHER), "text")
        return reads, self._groups(image, "vision") | text

    def run(self, batch: Batch) -> Output:
        """Logit of "match"."""
        return Output(score=self.module(**batch.inputs).itm_score[:, 1])


class Blip2(FusionEncoder):
    """BLIP-2's Q-Former with its matching head: learned queries cross-attend to the image, and share self-attention
    with the text.

    The cross-attention's queries are the learned ones. The text's entropy is that within the caption, since its
    self-attention also sees the learned queries; its readout are the learned queries, whose outputs the score averages.
    """

    class_name = "Blip2ForImageTextRetrieval"
    family = CROSS_ATTENTION
    vision = r"qformer\.encoder\.layer\.\d+\.crossattention\.attention"
    text = r"qformer\.encoder\.layer\.\d+\.attention\.attention"
    notes = (
        "vision's entropy is that of the learned queries' cross-attention: no text query attends to the image",
        "text's entropy is that within the caption: the text's self-attention also sees the learned queries",
    )

    def __init__(self, name: str, module: Any, processor: Any, provenance: Provenance) -> None:
        super().__init__(name, module, processor, provenance)
        crossed = {site.split(".")[3] for site in self.sites["vision"]}
        self.sites["text"] = tuple(site for site in self.sites["text"] if site.split(".")[3] in crossed)

    @property
    def _queries(self) -> int:
        return int(self.module.config.num_query_tokens)

    def _context(self) -> int:
        return int(self.module.config.qformer_config.max_position_embeddings)

    def _inputs(self, images: list[Any], texts: list[str], context: int) -> Any:
        tokenizer = self._processor.tokenizer  # the processor's own truncation differs between its versions
        short = [
            tokenizer.decode(ids[1:-1][: context - 2]) if len(ids) > context else text
            for text, ids in zip(texts, tokenizer(texts, verbose=False)["input_ids"], strict=True)
        ]
        return self._processor(images=images, text=short, padding=True, return_tensors="pt")

    def _text_tokens(self, inputs: Any) -> tuple[Tensor, Tensor]:
        ids, mask = inputs["input_ids"], inputs["attention_mask"] > 0
        if (image := self.module.config.image_token_index) is not None and bool((ids == image).any()):
            ids, mask = ids[:, self._queries :], mask[:, self._queries :]  # placeholders that the model slices off
        return ids, mask

    def _reads(self, _inputs: Any, real: Tensor, words: Tensor) -> tuple[tuple[Read, ...], dict[str, Tensor]]:
        config, learned = self.module.config.vision_config, torch.ones(len(real), self._queries, dtype=torch.bool)
        image = _class_token_and_patches((config.image_size // config.patch_size) ** 2)
        cross = {"all": even_weights(learned), "readout": even_weights(learned)}
        none = torch.zeros_like(learned)
        joint = {
            "all": even_weights(torch.cat([none, words], 1)),
            "readout": even_weights(torch.cat([learned, torch.zeros_like(words)], 1)),
        }
        reads = (
            Read("vision", self.sites["vision"], cross, torch.full((len(real),), image.shape[1])),
            Read("text", self.sites["text"], joint, real.sum(-1), group=TEXT),
        )
        labels = torch.where(torch.cat([none, words], 1), TEXT, OTHER)
        return reads, self._groups(image, "vision") | self._groups(labels, "text")

    def run(self, batch: Batch) -> Output:
        """Logit of "match", averaged over the learned queries."""
        out = self.module(**batch.inputs, use_image_text_matching_head=True)
        return Output(score=out.logits_per_image[:, 1])


class _SingleStream(FusionEncoder):
    """Both modalities in one sequence: text queries are read, the entropy being taken within each group."""

    family = SINGLE_STREAM

    def _joint(self, labels: Tensor, words: Tensor, real: Tensor, patches: Tensor) -> tuple[Any, dict[str, Tensor]]:
        rows = {"all": even_weights(words), "readout": self._first(*words.shape)}
        reads = (
            Read("vision", self.sites["vision"], rows, patches, group=IMAGE),
            Read("text", self.sites["text"], rows, real.sum(-1), group=TEXT),
        )
        return reads, self._groups(labels, "vision")


class Vilt(_SingleStream):
    """ViLT's ranking head. Keys: text, then the image's class token and patches (in random order, padding masked)."""

    class_name = "ViltForImageAndTextRetrieval"
    vision = text = r"vilt\.encoder\.layer\.\d+\.attention\.attention"

    def _reads(self, inputs: Any, real: Tensor, words: Tensor) -> tuple[tuple[Read, ...], dict[str, Tensor]]:
        size = self.module.config.patch_size
        grid = inputs["pixel_mask"][:, ::size, ::size].flatten(1).sum(-1)  # patches of each image
        most = self.module.config.max_image_length
        patches = grid if most is None or most < 0 else grid.clamp(max=most)
        image = torch.full((len(real), 1 + int(patches.max())), IMAGE)
        image[:, 0] = OTHER
        labels = torch.cat([torch.where(words, TEXT, OTHER), image], 1)
        queries = torch.cat([words, torch.zeros_like(image, dtype=torch.bool)], 1)
        return self._joint(labels, queries, real, patches)

    def run(self, batch: Batch) -> Output:
        """The ranking head's logit."""
        with torch.random.fork_rng(devices=[]):  # ViLT shuffles patches at every pass, in evaluation too
            torch.manual_seed(0)
            return Output(score=self.module(**batch.inputs).logits[:, 0])


class Flava(_SingleStream):
    """FLAVA's multimodal encoder with its matching head. Keys: class token, image class token, patches, text."""

    class_name = "FlavaForPreTraining"
    vision = text = r"flava\.multimodal_model\.encoder\.layer\.\d+\.attention\.attention"

    def _reads(self, _inputs: Any, real: Tensor, words: Tensor) -> tuple[tuple[Read, ...], dict[str, Tensor]]:
        config = self.module.config.image_config
        patches = (config.image_size // config.patch_size) ** 2
        image = torch.full((len(real), 2 + patches), IMAGE)
        image[:, :2] = OTHER
        labels = torch.cat([image, torch.where(words, TEXT, OTHER)], 1)
        queries = torch.cat([torch.zeros_like(image, dtype=torch.bool), words], 1)
        return self._joint(labels, queries, real, torch.full((len(real),), patches))

    def run(self, batch: Batch) -> Output:
        """Logit of "match"."""
        embeddings = self.module.flava(**batch.inputs).multimodal_embeddings
        return Output(score=self.module.itm_head(embeddings)[:, 1])


KIND: dict[str, type[FusionEncoder]] = {"blip": Blip, "blip2": Blip2, "vilt": Vilt, "flava": Flava}


def load(name: str, spec: ModelSpec, device: str = "cpu") -> FusionEncoder:
    """Load a fusion encoder of the transformers library."""
    kind = KIND[spec.kind]
    return kind(name, *load_pretrained(name, spec, device, kind.class_name))
