"""Decoders of the transformers library that read images: LLaVA and its kin (single stream), IDEFICS (cross-attention).

Their score is the mean log-likelihood of the caption given the image and a short instruction. The caption is the
text; the instruction, the chat template and special tokens are other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers.image_processing_utils import select_best_resolution

from attention_collapse.errors import ModelError
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

INSTRUCTION = "Describe the image."


class Decoder:
    """A decoder over one sequence of image tokens and text, prompted by its chat template. See `interface.Model`."""

    family: ClassVar[str] = SINGLE_STREAM
    class_name: ClassVar[str]
    notes: ClassVar[tuple[str, ...]] = ()
    layers: ClassVar[str] = r"model\.language_model\.layers\.\d+\.self_attn"

    def __init__(self, name: str, module: Any, processor: Any, provenance: Provenance, prompt: str | None) -> None:
        self.name, self.module, self.provenance = name, module, asdict(provenance)
        self._processor, self._instruction = processor, prompt or INSTRUCTION
        self.provenance["notes"] = (*provenance.notes, *self.notes)
        self.sites = self._find_sites()
        self.missing: Mapping[str, str] = {}

    def _find_sites(self) -> dict[str, tuple[str, ...]]:
        sites = matching_sites(self.name, self.module, self.layers)
        return {"vision": sites, "text": sites}

    # -- inputs --------------------------------------------------------------------------------

    def _prompt(self) -> str:
        """What stands before the caption, image token included."""
        content = [{"type": "image"}, {"type": "text", "text": self._instruction}]
        try:
            text = self._processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
            )
        except (ValueError, TypeError, AttributeError) as error:
            raise ModelError(
                f"{self.name}: the processor has no chat template ({str(error).splitlines()[0]})",
                expected="chat_template.jinja (or chat_template.json) beside config.json",
                remedy="download it from the model's repository",
            ) from None
        return str(text).rstrip(" ")

    def _encode(self, images: list[Any], texts: list[str]) -> tuple[Any, Tensor]:
        """The model's inputs, right-padded, and (batch, token) booleans: the caption."""
        prompt, tokenizer = self._prompt(), self._processor.tokenizer
        # A prompt that ends in a space would merge it with the caption's first word.
        gap = "" if prompt.endswith("\n") else " "
        special = not (tokenizer.bos_token and prompt.startswith(tokenizer.bos_token))
        inputs = self._processor(
            images=[[image] for image in images], text=[prompt + gap + text for text in texts], padding=True,
            return_tensors="pt", add_special_tokens=special,
        )  # fmt: skip
        before = tokenizer(prompt, add_special_tokens=special)["input_ids"]
        lengths = []
        for text in texts:
            ids = tokenizer(prompt + gap + text, add_special_tokens=special)["input_ids"]
            if ids[: len(before)] != before:
                raise ModelError(
                    f"{self.name}: the prompt's last token merges with the caption {text[:40]!r}",
                    expected="a tokeniser that keeps the prompt's tokens whatever follows",
                    remedy="end the prompt with punctuation",
                )
            lengths.append(len(ids) - len(before))
        end = (inputs["attention_mask"] > 0).sum(-1, keepdim=True)  # right-padded
        position = torch.arange(inputs["input_ids"].shape[1])
        return inputs, (position < end) & (position >= end - torch.tensor(lengths)[:, None])

    def batch(self, kind: str, contents: Sequence[Pair]) -> Batch:  # noqa: ARG002
        """Inputs of image–caption pairs."""
        images, texts = (list(part) for part in zip(*contents, strict=True))
        tokenizer = self._processor.tokenizer
        tokenizer.padding_side = "right"  # nothing before a real token, whatever the model does with positions
        texts = [text.strip() for text in texts]
        try:
            inputs, caption = self._encode(images, texts)
        except (ValueError, TypeError, RuntimeError, IndexError) as error:
            raise ModelError(
                f"{self.name}: the processor refuses the pairs ({str(error).splitlines()[0]})",
                expected="a chat template that places one image token for each image, and captions of plain words",
                remedy="check the chat template beside config.json, and the captions for control tokens",
            ) from None
        self._require_caption(inputs, caption, texts)
        context = int(self.module.config.get_text_config().max_position_embeddings)
        if (length := inputs["input_ids"].shape[1]) > context:
            raise ModelError(
                f"{self.name}: {length} tokens of prompt, image and caption",
                expected=f"at most {context}, the model's context",
                remedy="shorten the caption; a cut caption would have another likelihood",
            )
        reads, groups = self._reads(inputs, caption)
        inputs = inputs.to(self.module.device)
        for key, value in inputs.items():
            if isinstance(value, Tensor) and value.is_floating_point():
                inputs[key] = value.to(self.module.dtype)
        return Batch({**inputs, "caption": caption}, reads, groups, (False,) * len(texts))

    def _require_caption(self, inputs: Any, caption: Tensor, texts: list[str]) -> None:
        ids, control = inputs["input_ids"], special_ids(self._processor.tokenizer)
        for text, tokens in zip(texts, caption.any(-1).tolist(), strict=True):
            if not text or not tokens:
                raise ModelError(f"{self.name}: caption {text!r} has no tokens", expected="words", remedy="drop it")
        if bool((bad := (torch.isin(ids, control) & caption).any(-1)).any()):
            index = int(bad.nonzero()[0])
            raise ModelError(
                f"{self.name}: caption {texts[index][:60]!r} holds one of the model's control tokens",
                expected="plain words",
                remedy="remove the token from the caption",
            )

    def _reads(self, inputs: Any, caption: Tensor) -> tuple[tuple[Read, ...], dict[str, Tensor]]:
        image = self._image_keys(inputs)
        if not bool(image.any(-1).all()):
            raise ModelError(
                f"{self.name}: a prompt without an image token",
                expected=f"the image's tokens (id {self._image_token()}) in every prompt",
                remedy="check the chat template: its user message must place the image",
            )
        labels = torch.full_like(inputs["input_ids"], OTHER)
        labels[image], labels[caption] = IMAGE, TEXT
        rows = self._rows(caption)
        reads = (
            Read("vision", self.sites["vision"], rows, image.sum(-1), group=IMAGE),
            Read("text", self.sites["text"], rows, caption.sum(-1), group=TEXT),
        )
        return reads, dict.fromkeys(self.sites["text"], labels)

    def _image_token(self) -> int:
        return int(self.module.config.image_token_id)

    def _image_keys(self, inputs: Any) -> Tensor:
        """(batch, token) booleans: the keys that hold the picture."""
        image: Tensor = inputs["input_ids"] == self._image_token()
        return image

    def _rows(self, caption: Tensor) -> dict[str, Tensor]:
        """All caption queries; readout: the last query whose output is scored, which predicts the last token."""
        last = caption.shape[1] - 1 - caption.flip(1).int().argmax(-1)
        return {"all": even_weights(caption), "readout": one_row(last - 1, caption.shape[1])}

    # -- the forward pass ----------------------------------------------------------------------

    def run(self, batch: Batch) -> Output:
        """Mean log-likelihood of the caption's tokens, in nats a token."""
        inputs = {key: value for key, value in batch.inputs.items() if key != "caption"}
        logits = self.module(**inputs, use_cache=False).logits  # (batch, token, vocabulary)
        caption = batch.inputs["caption"].to(logits.device)
        item, position = caption.nonzero(as_tuple=True)
        chosen = logits[item, position - 1].float().log_softmax(-1)  # (caption token, vocabulary)
        token = inputs["input_ids"].to(logits.device)[item, position]
        values = chosen.gather(1, token[:, None])[:, 0]
        total = torch.zeros(len(caption), device=logits.device).index_add_(0, item, values)
        return Output(score=total / caption.sum(-1))


class Llava(Decoder):
    """LLaVA 1.5: CLIP's patches as tokens of a Llama."""

    class_name = "LlavaForConditionalGeneration"


class LlavaNext(Decoder):
    """LLaVA-NeXT: the whole image, then its tiles row by row, each row closed by a learned token (other)."""

    class_name = "LlavaNextForConditionalGeneration"

    def _image_keys(self, inputs: Any) -> Tensor:
        image, config = super()._image_keys(inputs), self.module.config.vision_config
        side = config.image_size // config.patch_size
        tile = inputs["pixel_values"].shape[-1]
        for row, size in zip(image, inputs["image_sizes"].tolist(), strict=True):
            pinpoints = self.module.config.image_grid_pinpoints
            height, width = select_best_resolution(size, pinpoints)
            patches, rows = self._processor._get_unpadded_features(
                *size, side, side, height // tile, width // tile
            )  # patches of the tiles without padding, and their rows
            positions = row.nonzero()[:, 0]
            last_of_row = side * side + (patches // rows + 1) * torch.arange(1, rows + 1) - 1
            row[positions[last_of_row]] = False
        return image


class Qwen2Vl(Decoder):
    """Qwen2-VL: as many image tokens as the picture's size asks for."""

    class_name = "Qwen2VLForConditionalGeneration"


class Qwen25Vl(Decoder):
    """Qwen2.5-VL."""

    class_name = "Qwen2_5_VLForConditionalGeneration"


class SmolVlm(Decoder):
    """SmolVLM: the image and its tiles, between row and column markers."""

    class_name = "SmolVLMForConditionalGeneration"
    layers = r"model\.text_model\.layers\.\d+\.self_attn"


class Idefics3(SmolVlm):
    """Idefics3, of which SmolVLM is the small kin."""

    class_name = "Idefics3ForConditionalGeneration"


class PaliGemma(Decoder):
    """PaliGemma: image and instruction see each other; the caption, given as suffix, is causal."""

    class_name = "PaliGemmaForConditionalGeneration"

    def _encode(self, images: list[Any], texts: list[str]) -> tuple[Any, Tensor]:
        prompt = "<image>" + ("caption en" if self._instruction == INSTRUCTION else self._instruction)
        inputs = self._processor(
            images=images, text=[prompt] * len(texts), suffix=texts, padding=True, return_tensors="pt"
        )
        inputs.pop("labels", None)
        end = self._processor.tokenizer.eos_token_id
        suffix = (inputs["token_type_ids"] == 1) & (inputs["attention_mask"] > 0)
        return inputs, suffix & (inputs["input_ids"] != end)


class Idefics(Decoder):
    """IDEFICS (Flamingo): gated cross-attention from the text to the image's resampled latents, every few layers."""

    class_name = "IdeficsForVisionText2Text"
    family = CROSS_ATTENTION
    layers = r"model\.layers\.\d+\.self_attn"
    notes = ("the image's keys in cross-attention are the resampler's latents, where there is one, not patches",)

    def _find_sites(self) -> dict[str, tuple[str, ...]]:
        text = matching_sites(self.name, self.module, self.layers)
        cross = matching_sites(self.name, self.module, r"model\.gated_cross_attn_layers\.\d+\.cross_attn")
        interval = self.module.config.cross_layer_interval
        return {"vision": cross, "text": tuple(text[index * interval] for index in range(len(cross)))}

    def _encode(self, images: list[Any], texts: list[str]) -> tuple[Any, Tensor]:
        prompt, tokenizer = f"{self._instruction} Assistant:", self._processor.tokenizer
        inputs = self._processor(
            text=[[image, f"{prompt} {text}"] for image, text in zip(images, texts, strict=True)], padding=True,
            return_tensors="pt",
        )  # fmt: skip
        before = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        lengths = [len(tokenizer(f"{prompt} {text}", add_special_tokens=False)["input_ids"]) - before for text in texts]
        ids, real = inputs["input_ids"], inputs["attention_mask"] > 0
        end = real.sum(-1, keepdim=True)
        # The processor closes the text with an end token: it is no part of the caption.
        end = end - (ids.gather(1, end - 1) == tokenizer.eos_token_id).long()
        position = torch.arange(ids.shape[1])
        return inputs, (position < end) & (position >= end - torch.tensor(lengths)[:, None])

    def _reads(self, inputs: Any, caption: Tensor) -> tuple[tuple[Read, ...], dict[str, Tensor]]:
        config, pictures = self.module.config, inputs["pixel_values"].shape[1]
        if config.use_resampler:
            one = torch.full((config.perceiver_config.resampler_n_latents,), IMAGE)
        else:
            patches = (config.vision_config.image_size // config.vision_config.patch_size) ** 2
            one = torch.cat([torch.tensor([OTHER]), torch.full((patches,), IMAGE)])
        keys = one.repeat(pictures)[None]
        rows = self._rows(caption)
        reads = (
            Read("vision", self.sites["vision"], rows, torch.full((len(caption),), len(one))),
            Read("text", self.sites["text"], rows, caption.sum(-1)),
        )
        labels = torch.where(caption, TEXT, OTHER)
        return reads, dict.fromkeys(self.sites["vision"], keys) | dict.fromkeys(self.sites["text"], labels)


KIND: dict[str, type[Decoder]] = {
    "idefics": Idefics,
    "idefics3": Idefics3,
    "llava": Llava,
    "llava-next": LlavaNext,
    "paligemma": PaliGemma,
    "qwen2-vl": Qwen2Vl,
    "qwen2.5-vl": Qwen25Vl,
    "smolvlm": SmolVlm,
}


def load(name: str, spec: ModelSpec, device: str = "cpu") -> Decoder:
    """Load an image-reading decoder of the transformers library."""
    kind = KIND[spec.kind]
    return kind(name, *load_pretrained(name, spec, device, kind.class_name), spec.prompt)
