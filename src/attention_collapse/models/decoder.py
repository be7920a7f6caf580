"""What the decoders of the transformers library that read images share.

Their score is the mean log-likelihood of the caption given the image and a short instruction. The caption is the
text; the instruction, the chat template and special tokens are other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from attention_collapse.errors import ModelError
from attention_collapse.families import SINGLE_STREAM
from attention_collapse.models.agreement import require_agreement
from attention_collapse.models.boundary import boundary
from attention_collapse.models.interface import Batch, Read, even_weights, one_row, special_ids
from attention_collapse.models.mm_shap import LIKELIHOOD
from attention_collapse.models.pretrained import TransformersModel
from attention_collapse.models.sites import matching_sites
from attention_collapse.models.spec import ModelSpec
from attention_collapse.probe import IMAGE, OTHER, TEXT

INSTRUCTION = "Describe the image."


class Decoder(TransformersModel, base=True):
    """A decoder over one sequence of image tokens and text, prompted by its chat template: a `PairScorer`.

    A kind says where its attention is: `layers`, a regular expression of modules' names.
    """

    family: ClassVar[str] = SINGLE_STREAM
    caption: ClassVar[str] = "caption"
    is_likelihood: ClassVar[bool] = True
    layers: ClassVar[str] = r"model\.language_model\.layers\.\d+\.self_attn"
    asks: ClassVar[str] = "{question}"  # the instruction that puts a question

    def __init__(self, name: str, spec: ModelSpec, device: str) -> None:
        super().__init__(name, spec, device)
        self.instruction = spec.prompt or INSTRUCTION
        self.sites = self._find_sites()
        if self.family == SINGLE_STREAM:  # else the picture has no tokens of its own in the text
            require_agreement(
                name, self.module, self._processor, lambda *pairs: self._encode(*pairs)[0], self._placeholders
            )

    mm_shap = LIKELIHOOD

    @contextmanager
    def instructed(self, instruction: str) -> Iterator[None]:
        """Within the context, the pairs' prompt holds this instruction."""
        own, self.instruction = self.instruction, instruction
        try:
            yield
        finally:
            self.instruction = own

    @property
    def token_embedding(self) -> Any:
        """The module that reads the caption's ids."""
        return self.module.get_input_embeddings()

    def _stated(self, config: dict[str, Any]) -> dict[str, Any]:
        """The start token alone: tuning for chats changes the others on purpose."""
        said = config.get("bos_token_id")
        default = getattr(type(self.module.config.get_text_config())(), "bos_token_id", None)  # Qwen3-VL's has none
        return {} if said == default else {"bos": said}

    def _find_sites(self) -> dict[str, tuple[str, ...]]:
        sites = matching_sites(self.name, self.module, self.layers)
        return {"vision": sites, "text": sites}

    # -- inputs --------------------------------------------------------------------------------

    def _prompt(self) -> str:
        """What stands before the caption, image token included."""
        content = [{"type": "image"}, {"type": "text", "text": self.instruction}]
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
        prompt, tokenizer = self._prompt(), self.tokenizer
        # A prompt that ends in a space would merge it with the caption's first word.
        gap = "" if prompt.endswith("\n") else " "
        special = not (tokenizer.bos_token and prompt.startswith(tokenizer.bos_token))
        inputs = self._processor(
            images=[[image] for image in images], text=[prompt + gap + text for text in texts], padding=True,
            padding_side="right", return_tensors="pt", add_special_tokens=special,
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

    def pairs(self, pictures: Sequence[Image.Image], captions: Sequence[str]) -> Batch:
        """Inputs of image–caption pairs; "caption" marks, (batch, token), the caption's tokens."""
        self.tokenizer.padding_side = "right"  # nothing before a real token, whatever the model does with positions
        texts = [text.strip() for text in captions]
        with boundary(
            f"{self.name}: the processor refuses the pairs",
            expected="pictures that it can cut up, and captions of plain words",
            remedy="leave out a picture that is too narrow for it, and check the captions for control tokens",
        ):
            inputs, caption = self._encode(list(pictures), texts)
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
        ids, control = inputs["input_ids"], special_ids(self.tokenizer)
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

    def _placeholders(self, inputs: Any) -> Tensor:
        """(batch, token) booleans: the tokens that the model puts the picture's features in place of."""
        image: Tensor = inputs["input_ids"] == self._image_token()
        return image

    def _image_keys(self, inputs: Any) -> Tensor:
        """(batch, token) booleans: the keys that hold the picture."""
        return self._placeholders(inputs)

    def _rows(self, caption: Tensor) -> dict[str, Tensor]:
        """All caption queries; readout: the last query whose output is scored, which predicts the last token."""
        last = caption.shape[1] - 1 - caption.flip(1).int().argmax(-1)
        return {"all": even_weights(caption), "readout": one_row(last - 1, caption.shape[1])}

    # -- the forward pass ----------------------------------------------------------------------

    def score(self, batch: Batch) -> Tensor:
        """(batch,) mean log-likelihood of the caption's tokens, in nats per token."""
        inputs = {key: value for key, value in batch.inputs.items() if key != "caption"}
        logits = self.module(**inputs, use_cache=False).logits  # (batch, token, vocabulary)
        caption = batch.inputs["caption"].to(logits.device)
        item, position = caption.nonzero(as_tuple=True)
        chosen = logits[item, position - 1].float().log_softmax(-1)  # (caption token, vocabulary)
        token = inputs["input_ids"].to(logits.device)[item, position]
        values = chosen.gather(1, token[:, None])[:, 0]
        total = torch.zeros(len(caption), device=logits.device).index_add_(0, item, values)
        scores: Tensor = total / caption.sum(-1)
        return scores
