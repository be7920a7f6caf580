"""Models that answer questions about images, each as a `PairScorer` whose text is a question with one answer.

The score of such a text is the log-likelihood of the answer given image and question, in nats, up to a constant that
image and question alone decide. So the differences between the answers to one question, and nothing else, mean
something: the engine that scores images with captions scores images with questions too, and what is read of the scores
is normalised over the candidates (`measures.answers`).

    decoders        the sum over the answer's tokens, after a prompt that holds the image and the question
    ViLT, V2        the head's logit of the answer
    BLIP            the sum over the answer's tokens and the end, by its answer decoder
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from attention_collapse.data.entries import normal
from attention_collapse.errors import ModelError
from attention_collapse.files import read_json
from attention_collapse.models import load
from attention_collapse.models.decoder import Decoder
from attention_collapse.models.device import usable_device
from attention_collapse.models.fusion import FusionV2Answers
from attention_collapse.models.interface import Batch, Without
from attention_collapse.models.kinds.blip import Blip
from attention_collapse.models.kinds.fusion_v2 import InHouseV2
from attention_collapse.models.kinds.vilt import Vilt
from attention_collapse.models.spec import ModelSpec
from attention_collapse.registry import kinds

BETWEEN = "\x1f"  # ASCII's unit separator: no question or answer holds it (`data.questions.is_line`)
PLACE = "{question}"  # in a decoder's prompt
TOGETHER = Without("the prompt is written for the image and the question together")


def asked(question: str, answer: str) -> str:
    """The text of a question with one answer."""
    return f"{question}{BETWEEN}{answer}"


def question_and_answer(text: str) -> tuple[str, str]:
    """What `asked` joined."""
    question, _, answer = text.partition(BETWEEN)
    return question, answer


class Answering(ABC):
    """What answers questions: a `PairScorer` of texts that `asked` makes.

    Attributes
    ----------
    answers
        Those that the model can give; None: any text.
    """

    is_likelihood = False  # of the whole text: the question's own probability is no part of it
    token_embedding: Any = None
    mm_shap = Without("its text is a question with an answer, and only the answer is scored")
    answers: tuple[str, ...] | None = None

    def __init__(self, model: Any, answers: Sequence[str] | None = None) -> None:
        self.model, self.name, self.module = model, model.name, model.module
        self.family, self.provenance, self.sites = model.family, model.provenance, model.sites
        self.missing: Mapping[str, str] = model.missing
        self.ids, self.caption, self.pixels, self.picture = model.ids, model.caption, model.pixels, model.picture
        self.image_encoder: str | Without = model.image_encoder
        self.image_inputs: tuple[str, ...] | Without = model.image_inputs
        if answers is not None:
            self.answers = tuple(answers)

    @property
    def tokenizer(self) -> Any:
        """The model's."""
        return self.model.tokenizer

    @abstractmethod
    def pairs(self, pictures: Sequence[Image.Image], captions: Sequence[str]) -> Batch:
        """Inputs of images with questions and answers, as many texts as pictures."""

    @abstractmethod
    def score(self, batch: Batch) -> Tensor:
        """(batch,) log-likelihood of each answer, in nats, up to a constant of image and question."""


class ByDecoder(Answering):
    """A decoder, prompted with the question."""

    def __init__(self, model: Decoder, prompt: str) -> None:
        super().__init__(model)
        self.prompt = prompt
        self.image_encoder = self.image_inputs = TOGETHER

    def pairs(self, pictures: Sequence[Image.Image], captions: Sequence[str]) -> Batch:
        """Inputs, question by question: "parts", each a list of rows and their batch."""
        rows: dict[str, list[int]] = {}
        said = [question_and_answer(text) for text in captions]
        for row, (question, _) in enumerate(said):
            rows.setdefault(question, []).append(row)
        parts = []
        for question, own in rows.items():
            with self.model.instructed(self.prompt.replace(PLACE, question)):
                parts.append((own, self.model.pairs([pictures[i] for i in own], [said[i][1] for i in own])))
        return Batch({"parts": parts}, (), {}, (False,) * len(captions))

    def score(self, batch: Batch) -> Tensor:
        """(batch,) sum over the answer's tokens of their log-likelihoods, in nats."""
        found: dict[int, Tensor] = {}
        for rows, part in batch.inputs["parts"]:
            tokens = part.inputs["caption"].sum(-1)
            mean = self.model.score(part)
            found |= dict(zip(rows, mean * tokens.to(mean.device), strict=True))
        return torch.stack([found[row] for row in sorted(found)])


class ByHead(Answering):
    """A model with a head that has one logit for each of its answers."""

    def __init__(self, model: Any, answers: Sequence[str]) -> None:
        super().__init__(model, answers)
        self._place = {normal(answer): index for index, answer in enumerate(answers)}
        self._place |= {answer: index for index, answer in enumerate(answers)}
        self.image_encoder = Without("pairs that differ in the answer alone are run once, all of them together")

    def pairs(self, pictures: Sequence[Image.Image], captions: Sequence[str]) -> Batch:
        """The model's own inputs of images and questions, and "answer", (batch,), which logit is the answer's."""
        said = [question_and_answer(text) for text in captions]
        said = [(question, answer if answer in self._place else normal(answer)) for question, answer in said]
        if absent := sorted({answer for _, answer in said} - self._place.keys()):
            raise ModelError(
                f"{self.name}: its head has no answer {', '.join(map(repr, absent[:3]))}",
                expected=f"one of its {len(self.answers or ())} answers ({', '.join((self.answers or ())[:5])}, …)",
                remedy="give candidates that the head knows",
            )
        batch = _whole(self.model, pictures, [question for question, _ in said])
        place = torch.tensor([self._place[answer] for _, answer in said])
        return replace(batch, inputs={**batch.inputs, "answer": place})

    def score(self, batch: Batch) -> Tensor:
        """(batch,) the head's logit of each answer; rows that differ in the answer alone are run once."""
        given = {key: value for key, value in batch.inputs.items() if key != "answer"}
        seen: dict[tuple[bytes, ...], int] = {}
        which: list[int] = []
        first: list[int] = []
        for row in range(len(batch.inputs["answer"])):
            key = tuple(_bytes(value[row]) for value in given.values())
            if key not in seen:
                seen[key] = len(first)
                first.append(row)
            which.append(seen[key])
        logits = self.logits({key: value[first] for key, value in given.items()})
        place = batch.inputs["answer"].to(logits.device)
        return logits[torch.tensor(which, device=logits.device), place]

    def logits(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """(batch, answer) of the model's own inputs."""
        found: Tensor = self.model.score(Batch(dict(inputs), (), {}, ()))
        return found


class V2Answers(InHouseV2, base=True):
    """The in-house V2 with an answer head; config.json lists the `answers` and says how many in its `sizes`."""

    fusion = FusionV2Answers


class ViltAnswers(Vilt, base=True):
    """ViLT's VQA head."""

    class_name = "ViltForQuestionAnswering"

    def score(self, batch: Batch) -> Tensor:
        """(batch, answer) logits of the head."""
        with torch.random.fork_rng(devices=[]):  # ViLT shuffles patches at every pass, in evaluation too
            torch.manual_seed(0)
            logits: Tensor = self.module(**batch.inputs).logits
            return logits


class BlipAnswers(Blip, base=True):
    """BLIP for questions: an encoder of the question that sees the image, and a decoder of the answer."""

    class_name = "BlipForQuestionAnswering"

    def answer_likelihood(self, inputs: Mapping[str, Tensor], ids: Tensor, real: Tensor) -> Tensor:
        """(batch,) sum of the log-likelihoods of an answer's tokens but the first, (batch, token) ids, in nats."""
        image = self.module.vision_model(pixel_values=inputs["pixel_values"])[0]
        seen = torch.ones(image.shape[:2], dtype=torch.long, device=image.device)
        question = self.module.text_encoder(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], encoder_hidden_states=image,
            encoder_attention_mask=seen, return_dict=True,
        )[0]  # fmt: skip
        logits = self.module.text_decoder(
            input_ids=ids, attention_mask=real.long(), encoder_hidden_states=question,
            encoder_attention_mask=inputs["attention_mask"], return_dict=True,
        ).logits  # fmt: skip  # (batch, token, vocabulary)
        said = logits[:, :-1].float().log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
        total: Tensor = (said * real[:, 1:]).sum(1)
        return total


class ByBlip(Answering):
    """BLIP's answer decoder: it starts with its start token and ends with [SEP], which is part of the answer."""

    def pairs(self, pictures: Sequence[Image.Image], captions: Sequence[str]) -> Batch:
        """The model's own inputs of images and questions, and "answer", "answer_real", (batch, token)."""
        said = [question_and_answer(text) for text in captions]
        batch = _whole(self.model, pictures, [question for question, _ in said])
        config, tokenizer = self.module.config.text_config, self.tokenizer
        rows = [
            [config.bos_token_id, *tokenizer(answer, add_special_tokens=False)["input_ids"], config.sep_token_id]
            for _, answer in said
        ]
        longest = max(map(len, rows))
        device = batch.inputs["pixel_values"].device
        ids = torch.tensor([row + [config.pad_token_id] * (longest - len(row)) for row in rows], device=device)
        real = torch.arange(longest, device=device) < torch.tensor([[len(row)] for row in rows], device=device)
        return replace(batch, inputs={**batch.inputs, "answer": ids, "answer_real": real})

    def score(self, batch: Batch) -> Tensor:
        """(batch,) log-likelihood of the answer with its end, in nats."""
        found: Tensor = self.model.answer_likelihood(batch.inputs, batch.inputs["answer"], batch.inputs["answer_real"])
        return found


def load_answering(name: str, spec: ModelSpec, device: str = "cpu") -> Answering:
    """Load a model that answers questions, with exactly the weights that are asked for.

    Parameters
    ----------
    spec
        As for any model. A decoder's `prompt` holds `{question}`, and where it has none the question stands alone (for
        PaliGemma after "answer en").

    Raises
    ------
    ModelError
        The kind answers no questions, or its checkpoint has another head.
    """
    device = usable_device(name, device, kinds()[spec.kind].library)
    if spec.kind == "fusion-v2":
        answers = _answers_of(name, spec)
        return ByHead(V2Answers.load(name, spec, device), answers)
    if spec.kind == "vilt":
        vilt = ViltAnswers.load(name, spec, device)
        labels = vilt.module.config.id2label
        return ByHead(vilt, _distinct(name, [str(labels[index]) for index in sorted(labels)]))
    if spec.kind == "blip":
        return ByBlip(BlipAnswers.load(name, spec, device))
    model = load(name, spec, device)
    if not isinstance(model, Decoder):
        raise ModelError(
            f"{name}: models of kind {spec.kind} score images with captions and answer no questions",
            expected="a decoder, ViLT with its VQA head, BLIP for questions, or V2 with an answer head",
            remedy="give such a model, or measure this one on captions",
        )
    prompt = spec.prompt or model.asks
    if PLACE not in prompt:
        raise ModelError(
            f"{name}: its prompt {prompt!r} has no place for the question",
            expected=f"a prompt with {PLACE}, such as '{PLACE} Answer in one word.'", remedy="correct the prompt",
        )  # fmt: skip
    return ByDecoder(model, prompt)


def _whole(model: Any, pictures: Sequence[Image.Image], questions: list[str]) -> Batch:
    """The model's own inputs, of questions that it reads to their end."""
    batch: Batch = model.pairs(pictures, questions)
    if any(batch.truncated):
        cut = questions[batch.truncated.index(True)]
        raise ModelError(
            f"{model.name}: the question {cut[:60]!r} … is longer than the model's context, and would be cut",
            expected="questions that fit; a cut question asks something else",
            remedy="leave it out, or shorten it",
        )
    return batch


def _bytes(tensor: Tensor) -> bytes:
    return tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _answers_of(name: str, spec: ModelSpec) -> list[str]:
    file = Path((spec.path if spec.weights == "checkpoint" else spec.architecture) or "") / "config.json"
    config = read_json(file)
    answers, heads = config.get("answers"), config.get("sizes", {}).get("answers", 0)
    listed = isinstance(answers, list) and all(isinstance(answer, str) for answer in answers)
    if not listed or len(answers) != heads or heads < 2:
        raise ModelError(
            f"{name}: {file} lists {len(answers) if listed else 'no'} answers, its head has {heads} logits",
            expected='"answers", a list with the answer of each logit, 2 or more', remedy="complete config.json",
        )  # fmt: skip
    return _distinct(name, answers)


def _distinct(name: str, answers: list[str]) -> list[str]:
    if len(set(answers)) < len(answers):
        twice = next(answer for answer in answers if answers.count(answer) > 1)
        raise ModelError(
            f"{name}: {twice!r} is the answer of two logits", expected="a different answer for each logit",
            remedy="correct id2label (or answers) in config.json",
        )  # fmt: skip
    return answers
