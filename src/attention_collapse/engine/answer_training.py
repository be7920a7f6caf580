"""Small models trained to answer the questions of easy-VQA, and what they answer.

No warm-up is needed: a question names what it asks for, so the answers themselves teach colours and shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from attention_collapse.data.entries import normal
from attention_collapse.data.images import load_rgb
from attention_collapse.data.questions import Asked
from attention_collapse.engine.planting import optimise
from attention_collapse.errors import ParamsError
from attention_collapse.models.answering import Answering, ByDecoder, asked, load_answering
from attention_collapse.models.interface import Batch
from attention_collapse.models.small import PICTURE, write_answering
from attention_collapse.monitor import Monitor
from attention_collapse.params import Way
from attention_collapse.prevention import ImageChoice, Method, Plain, ProductOfExperts


@dataclass(frozen=True)
class Posed:
    """Questions as numbers.

    Attributes
    ----------
    ids
        (question,) place in its file.
    image
        (question,) place of its image among `pixels`.
    wording
        (question,) place of its wording among the wordings.
    right
        (question,) place of its answer among the answers.
    pixels
        (image, side, side, 3) bytes.
    names
        (image,) ids of the images.
    """

    ids: np.ndarray
    image: np.ndarray
    wording: np.ndarray
    right: np.ndarray
    pixels: np.ndarray
    names: np.ndarray

    def of(self, chosen: np.ndarray) -> Posed:
        """Some of the questions, with the same images."""
        ids, image, wording, right = (part[chosen] for part in (self.ids, self.image, self.wording, self.right))
        return Posed(ids, image, wording, right, self.pixels, self.names)

    def counts(self, wordings: int, answers: int) -> np.ndarray:
        """(wording, answer) how often each answer is right."""
        found = np.zeros((wordings, answers), np.int64)
        np.add.at(found, (self.wording, self.right), 1)
        return found


def posed(questions: Sequence[Asked], wordings: Sequence[str], answers: Sequence[str], images: Path) -> Posed:
    """Questions of one answer each as numbers, with the pixels of their images, which are read from a folder."""
    names = list(dict.fromkeys(one.file_name for one in questions))
    place = {name: index for index, name in enumerate(names)}
    said, known = ({normal(text): index for index, text in enumerate(texts)} for texts in (wordings, answers))
    return Posed(
        np.array([int(one.id) for one in questions]),
        np.array([place[one.file_name] for one in questions]),
        np.array([said[normal(one.question)] for one in questions]),
        np.array([known[normal(one.right)] for one in questions]),
        np.stack([np.asarray(load_rgb(images / name)[0]) for name in names]),
        np.array([int(Path(name).stem) for name in names]),
    )


class Learner:
    """A small model in training: all answers to a question about an image in one pass.

    Parameters
    ----------
    model
        As `load_answering` loads it.
    wordings, answers
        Those that it is asked and that it may give; each answer is one token of a decoder.
    """

    def __init__(self, model: Answering, wordings: Sequence[str], answers: Sequence[str]) -> None:
        self.model, self.module = model, model.module
        blank = Image.new("RGB", (PICTURE, PICTURE))
        rows = [model.pairs([blank], [asked(wording, answers[0])]).inputs for wording in wordings]
        self.is_decoder = isinstance(model, ByDecoder)
        if self.is_decoder:
            rows = [row["parts"][0][1].inputs for row in rows]
            tokens = [model.tokenizer(answer, add_special_tokens=False)["input_ids"] for answer in answers]
            self.answer_ids = torch.tensor([one for (one,) in tokens])
        self.pixels = next(key for key, value in rows[0].items() if value.ndim >= 4)
        padding = int(model.tokenizer.pad_token_id)
        self.rows: dict[str, Tensor] = {}
        for key in rows[0].keys() - {self.pixels}:
            values = [row[key][0] for row in rows]
            fill = padding if values[0].dtype == torch.int64 and "mask" not in key else 0
            self.rows[key] = nn.utils.rnn.pad_sequence(values, batch_first=True, padding_value=fill) if (
                values[0].ndim == 1
            ) else torch.stack(values)  # fmt: skip

    def logits(self, pixels: Tensor, wording: Tensor) -> Tensor:
        """(pair, answer) of (pair, side, side, 3) bytes and (pair,) places of wordings."""
        picture = (pixels.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
        given = {key: rows[wording] for key, rows in self.rows.items()} | {self.pixels: picture}
        if not self.is_decoder:
            del given["answer"]
            found: Tensor = self.model.model.score(Batch(given, (), {}, ()))
            return found
        caption = given.pop("caption")
        logits = self.module(**given, use_cache=False).logits  # (pair, token, vocabulary)
        last = caption.int().argmax(1) - 1  # the answer's token is predicted there
        answers: Tensor = logits[torch.arange(len(last)), last][:, self.answer_ids]
        return answers


def learner(
    kind: str, folder: Path, wordings: Sequence[str], answers: Sequence[str], seed: int
) -> Learner:  # fmt: skip
    """A fresh one, through the loading code of any checkpoint."""
    words = sorted({word for text in (*wordings, *answers) for word in text.split()})
    model = load_answering(kind, write_answering(kind, folder, words, answers, seed))
    model.module.requires_grad_(True)
    return Learner(model, wordings, answers)


def method_of(way: Way, wordings: int, answers: int, seed: int) -> Method:
    """The method of an arm, for logits of answers; a branch sees the wording alone.

    Raises
    ------
    ParamsError
        There is no such method for answers.
    """
    options = dict(way.options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if way.method == Plain.name:
            return Plain(**options)
        if way.method == ImageChoice.name:
            return ImageChoice(seed=seed, **options)  # type: ignore[arg-type]
        if way.method == ProductOfExperts.name:
            gate = _Wordings(wordings, 1) if options.pop("gated", 0) else None
            return ProductOfExperts(_Wordings(wordings, answers), "text", gate=gate, **options)  # type: ignore[arg-type]
    known = (Plain, ImageChoice, ProductOfExperts)
    raise ParamsError(
        f"no method {way.method!r} for answers", expected=f"one of {', '.join(one.name for one in known)}",
        remedy="leave the arm out, or correct the name",
    )  # fmt: skip


class _Wordings(nn.Module):
    """Numbers for each wording of a question, without its image: 0 at first."""

    def __init__(self, wordings: int, outputs: int) -> None:
        super().__init__()
        self.weights = nn.Embedding(wordings, outputs)
        nn.init.zeros_(self.weights.weight)

    def forward(self, wording: Tensor) -> Tensor:
        """(pair, output) of (pair,) places; (pair,) of one output."""
        found: Tensor = self.weights(wording)
        return found[:, 0] if found.shape[1] == 1 else found


def teach(
    one: Learner, questions: Posed, method: Method, *, steps: int, batch_size: int, rate: float, weight_decay: float,
    seed: int, watch: Callable[[int], object] = lambda _: None,
) -> float:  # fmt: skip
    """Train in place by a method; the mean of its loss over the last tenth of the steps, in nats."""
    rng = np.random.default_rng([seed, 13])

    def loss_of() -> Tensor:
        some = questions.of(rng.choice(len(questions.ids), batch_size, replace=False))
        parts = some.pixels[some.image], some.wording, some.right
        return method.loss(one.logits, *map(torch.from_numpy, parts))

    own = [*one.module.parameters(), *method.parameters()]
    return optimise(
        own, steps, weight_decay, loss_of, label="answering", rate=rate, watch=watch,
        after_backward=method.after_backward,
    )  # fmt: skip


def monitor_of(one: Learner, held_out: Posed, every: int) -> Monitor:
    """Watches a model in training on held-out questions."""
    pairs = (
        torch.from_numpy(held_out.pixels[held_out.image]), torch.from_numpy(held_out.wording),
        torch.from_numpy(held_out.right),
    )  # fmt: skip
    return Monitor(one.logits, pairs, every=every, model=one.module, batch_size=200)


def seen(monitor: Monitor) -> dict[str, np.ndarray]:
    """watched.<value> (check,) of what a monitor's checks said, and of their steps; NaN: undefined."""
    names = monitor.history[0] if monitor.history else {}
    return {f"watched.{name}": np.array([one[name] for one in monitor.history], np.float32) for name in names}


@torch.inference_mode()
def answered(one: Learner, pixels: np.ndarray, image: np.ndarray, wording: np.ndarray) -> np.ndarray:
    """(…, answer) log-probabilities in float64, of places of images and wordings that broadcast."""
    shape = np.broadcast_shapes(image.shape, wording.shape)
    i, w = (np.broadcast_to(part, shape).flatten() for part in (image, wording))
    shown, asked_for = torch.from_numpy(pixels), torch.from_numpy(w)
    parts = [one.logits(shown[i[s : s + 200]], asked_for[s : s + 200]).double() for s in range(0, len(i), 200)]
    found: np.ndarray = torch.cat(parts).log_softmax(1).numpy().reshape(*shape, -1)
    return found
