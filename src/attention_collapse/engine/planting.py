"""Training that plants how much a small model uses each modality.

One recipe for every kind and regime, so that models differ in nothing but the reliability of the cues they saw:

1. attributes: the image's tokens alone predict colour, shape and count in every half of the picture (this goes on
   during step 2 where the image has a tower of its own);
2. words: from image and text, decoders predict the next words; encoders predict masked attribute words and say which
   of the others are wrong;
3. matching: the model's own score tells true captions from false ones, with the cues of the regime.

Steps 1 and 2 are the warm-up, without which matching stays at chance for long. They are shared by the regimes of one
seed. The heads they need are thrown away; what is saved is the library's model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from attention_collapse.data.planted import (
    ATTRIBUTES,
    FILLERS,
    LabelledPair,
    Regime,
    alter,
    describe,
    in_order,
    label_scenes,
    mark,
)
from attention_collapse.data.scenes import COLOURS, COUNTS, PLACE, SHAPES, Group, Scene
from attention_collapse.models.interface import Batch, PairScorer, Without
from attention_collapse.models.small import WIDTH
from attention_collapse.params import PlantingRecipe
from attention_collapse.probe import TEXT

BETAS = (0.9, 0.98)
SIZES = (1, len(COLOURS), len(SHAPES), 1 + len(COUNTS))  # logits a place: anything there, colour, shape, count


@runtime_checkable
class Plantable(PairScorer, Protocol):
    """A model that can be trained here: more of it is known."""

    ids: str
    mask: str
    image_inputs: tuple[str, ...]
    text_states: str | Without  # the module whose output holds the text's states


@runtime_checkable
class _OneStream(Protocol):
    """A model without an image encoder."""

    def image_states(self, ids: Tensor, pixels: Tensor) -> Tensor:
        """(batch, key, width) what pixels become beside a text, (batch, token) ids."""


class Trainee:
    """A small model with the inputs and heads that training needs.

    Parameters
    ----------
    model
        From a folder of `small.WRITERS`, loaded as any checkpoint is.
    example
        What `model.pairs` makes of one pair; training's inputs are built after it, without the slow processors.
    caption
        The caption of that pair.
    """

    def __init__(self, kind: str, model: Plantable, example: Batch, caption: str) -> None:
        self.kind, self.model = kind, model
        self.module: nn.Module = model.module
        self.example = dict(example.inputs)
        self.ids, self.mask, self.pixels = model.ids, model.mask, model.image_inputs[0]
        tokenizer = model.tokenizer
        self.vocabulary: dict[str, int] = tokenizer.get_vocab()
        row, words = self.example[self.ids][0].tolist(), [self.vocabulary[word] for word in caption.split()]
        start = next(i for i in range(len(row)) if row[i : i + len(words)] == words)
        self.before, self.after = row[:start], row[start + len(words) :]
        labels = example.groups[model.sites["text"][0]][0]  # (key,)
        self.first = int((labels == TEXT).int().argmax()) - len(self.before)  # position of the text among the keys
        self.padding, self.masked = int(tokenizer.pad_token_id), self.vocabulary.get("[MASK]")
        self.decoder = model.token_embedding is not None  # the score is a likelihood
        plurals = [Group(2, "red", shape, "left").phrase.split()[-1] for shape in SHAPES]
        self.attribute, self.place = (
            torch.zeros(len(self.vocabulary), dtype=torch.bool).index_fill(
                0, torch.tensor([self.vocabulary[word] for word in words]), True
            )
            for words in ((*COLOURS, *SHAPES, *plurals, *COUNTS.values(), "a", "an", *PLACE), tuple(PLACE))
        )
        self._kept: dict[str, Tensor] = {}
        for role, name in (("words", model.text_states), ("image", model.image_encoder)):
            if isinstance(name, str):
                self.module.get_submodule(name).register_forward_hook(partial(self._keep, role))

    def _keep(self, role: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        self._kept[role] = output if isinstance(output, Tensor) else output[0]

    def inputs(self, pixels: np.ndarray, captions: Sequence[str]) -> dict[str, Tensor]:
        """The model's inputs: (batch, size, size, 3) bytes and captions in words of the vocabulary."""
        rows = [self.before + [self.vocabulary[word] for word in text.split()] + self.after for text in captions]
        length = max(map(len, rows))
        ids = torch.tensor([row + [self.padding] * (length - len(row)) for row in rows])
        position, lengths = torch.arange(length), torch.tensor([len(row) for row in rows])[:, None]
        real = position < lengths
        picture = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
        given: dict[str, Tensor] = {
            self.ids: ids,
            self.mask: real.to(self.example[self.mask].dtype),
            self.pixels: picture[:, None] if self.example[self.pixels].ndim == 5 else picture,
        }
        for key, value in self.example.items():
            if key == "caption":
                given[key] = (position >= len(self.before)) & (position < lengths - len(self.after))
            elif key == "image_attention_mask":
                seen = torch.ones(len(rows), length, 1, dtype=value.dtype)
                seen[:, : len(self.before)] = value[:1, : len(self.before)]  # the image is seen from its token on
                given[key] = seen
            elif key not in given:
                given[key] = value.expand(len(rows), *value.shape[1:])
        return given

    def score(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """(batch,) the model's own score."""
        return self.model.score(Batch(dict(inputs), (), {}, ()))

    def image_states(self, pixels: Tensor) -> Tensor:
        """(batch, token, width) what the image alone becomes in the model."""
        if isinstance(self.model, _OneStream):
            nothing = torch.tensor([self.before + self.after]).expand(len(pixels), -1)
            return self.model.image_states(nothing, pixels)
        self.module.get_submodule(str(self.model.image_encoder))(pixels[:, 0] if pixels.ndim == 5 else pixels)
        return self._kept["image"]

    @property
    def seen(self) -> Tensor | None:
        """What `image_states` gives for the last pass, None where image and text share one stream."""
        return self._kept.get("image")

    def word_loss(
        self, inputs: dict[str, Tensor], altered: Tensor, head: nn.Module, generator: torch.Generator
    ) -> Tensor:
        """Step 2 of the recipe: cross-entropies in nats.

        `altered` are the words of captions with wrong attributes at the same positions, which encoders read instead;
        `head` maps states to words and, last, to "wrong".
        """
        ids, module = inputs[self.ids], self.module
        if self.decoder:
            given = {key: value for key, value in inputs.items() if key != "caption"}
            logits = module(**given, use_cache=False).logits[:, :-1]  # type: ignore[misc]
            chosen = inputs["caption"][:, 1:]
            next_word = ids[:, 1:][chosen]
            losses = F.cross_entropy(logits[chosen], next_word, reduction="none")
            attribute = self.attribute[next_word]
            return losses[attribute].mean() + 0.3 * losses[~attribute].mean()
        chance = torch.rand(ids.shape, generator=generator)
        # Places are masked together: one of two would tell the other.
        chance = torch.where(self.place[ids], chance[:, :1], chance)
        attribute = self.attribute[ids]
        hidden = attribute & (chance < 0.3)
        self.score(inputs | {self.ids: torch.where(hidden, torch.tensor(self.masked), altered)})
        states = self._kept["words"]
        logits = head(states[:, self.first : self.first + ids.shape[1]])
        left = attribute & ~hidden
        wrong = F.binary_cross_entropy_with_logits(logits[..., -1][left], (altered != ids)[left].float())
        return F.cross_entropy(logits[..., :-1][hidden], ids[hidden]) + 2 * wrong


def _optimise(
    parameters: list[nn.Parameter],
    steps: int,
    recipe: PlantingRecipe,
    loss_of: Callable[[], Tensor],
    *,
    label: str,
    rate: float,
) -> float:
    """AdamW with one cycle of the learning rate; returns the mean loss of the last tenth, in nats."""
    groups = [
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": recipe.weight_decay},
    ]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=BETAS)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    losses = []
    for _ in tqdm(range(steps), desc=label, unit="step", disable=None):
        loss = loss_of()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return float(np.mean(losses[-max(1, steps // 10) :]))


def _contents(scene: Scene) -> np.ndarray:
    """(place, 3) colour, shape and count less one of each half of the picture, −1 where nothing is."""
    found = np.full((len(PLACE), 3), -1)
    for group in scene.groups:
        found[list(PLACE).index(group.place)] = (
            list(COLOURS).index(group.colour), SHAPES.index(group.shape), group.count - 1,
        )  # fmt: skip
    return found


def warm_up(
    trainee: Trainee, scenes: Sequence[Scene], pixels: np.ndarray, recipe: PlantingRecipe, seed: int
) -> dict[str, float]:
    """Steps 1 and 2 of the recipe, in place, cues at random; returns their last losses."""
    rng, generator = np.random.default_rng([seed, 5]), torch.Generator().manual_seed(seed)
    own = list(trainee.module.parameters())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        look, read = nn.Linear(WIDTH, len(PLACE) * sum(SIZES)), nn.Linear(WIDTH, len(trainee.vocabulary) + 1)
    contents = torch.from_numpy(np.stack([_contents(scene) for scene in scenes]))

    def draw(size: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = rng.choice(len(scenes), size, replace=False)
        return chosen, np.stack([mark(pixels[i], bool(rng.integers(2))) for i in chosen])

    def attribute_loss(states: Tensor, chosen: np.ndarray) -> Tensor:
        logits = look(states.mean(1)).unflatten(1, (len(PLACE), -1)).split(SIZES, -1)
        found = contents[chosen]
        there = found[..., 0] >= 0
        loss = F.binary_cross_entropy_with_logits(logits[0][..., 0], there.float())
        return loss + sum(F.cross_entropy(part[there], found[there][:, k]) for k, part in enumerate(logits[1:]))

    def attributes() -> Tensor:
        chosen, marked = draw(2 * recipe.batch_size)
        picture = trainee.inputs(marked, [FILLERS[0]] * len(chosen))[trainee.pixels]
        return attribute_loss(trainee.image_states(picture), chosen)

    def words() -> Tensor:
        chosen, marked = draw(recipe.batch_size)
        true, false = [], []
        for index in chosen:
            filler, reverse, scene = FILLERS[rng.integers(2)], bool(rng.integers(2)), scenes[index]
            true.append(f"{filler} {in_order(scene, reverse=reverse)}")
            for _ in range(int(rng.integers(3))):
                scene = alter(scene, ATTRIBUTES[rng.integers(len(ATTRIBUTES))], rng)
            false.append(f"{filler} {in_order(scene, reverse=reverse)}")
        altered = trainee.inputs(marked, false)[trainee.ids]
        loss = trainee.word_loss(trainee.inputs(marked, true), altered, read, generator)
        return loss if trainee.seen is None else loss + 0.3 * attribute_loss(trainee.seen, chosen)

    return {
        "attribute_loss": _optimise(
            [*own, *look.parameters()],
            recipe.attribute_steps,
            recipe,
            attributes,
            label="attributes",
            rate=recipe.learning_rate,
        ),
        "word_loss": _optimise(
            [*own, *read.parameters(), *look.parameters()],
            recipe.word_steps,
            recipe,
            words,
            label="words",
            rate=recipe.learning_rate,
        ),
    }


def match(
    trainee: Trainee, scenes: Sequence[Scene], pixels: np.ndarray, regime: Regime, recipe: PlantingRecipe, *, seed: int
) -> float:
    """Step 3 of the recipe, in place; returns the last loss, in nats. A seed shows the same scenes in every regime."""
    rng = np.random.default_rng([seed, 6])
    scale = nn.Parameter(torch.tensor(math.log(10.0) if trainee.decoder else 0.0))
    with torch.no_grad():
        some = [f"{FILLERS[0]} {describe(scene, rng)}" for scene in scenes[: recipe.batch_size]]
        offset = nn.Parameter(trainee.score(trainee.inputs(pixels[: len(some)], some)).median().clone())

    def loss_of() -> Tensor:
        chosen = rng.choice(len(scenes), recipe.batch_size, replace=False)
        pairs = label_scenes([scenes[index] for index in chosen], regime, rng)
        marked = np.stack([mark(pixels[index], pair.image_cue) for index, pair in zip(chosen, pairs, strict=True)])
        logits = (trainee.score(trainee.inputs(marked, [pair.words for pair in pairs])) - offset) * scale.exp()
        return F.binary_cross_entropy_with_logits(logits, torch.tensor([float(pair.label) for pair in pairs]))

    own = list(trainee.module.parameters())
    return _optimise(
        [*own, scale, offset],
        recipe.matching_steps[trainee.kind],
        recipe,
        loss_of,
        label="matching",
        rate=recipe.matching_learning_rate[trainee.kind],
    )


@torch.inference_mode()
def accuracies(trainee: Trainee, pairs: Sequence[LabelledPair], pixels: np.ndarray, seed: int) -> dict[str, float]:
    """Held-out accuracy with both modalities, and with either one another pair's.

    A pair counts as matching where its score is above the median of the intact pairs' scores; half of them match.
    Each modality is permuted three times, the cues going with it.

    Returns
    -------
    dict
        accuracy, accuracy_image_permuted, accuracy_text_permuted: 0 to 1, chance 0.5.
    """
    n, size = len(pairs), 100
    labels, order = np.array([pair.label for pair in pairs]), np.arange(n)
    marked = np.stack([mark(picture, pair.image_cue) for picture, pair in zip(pixels, pairs, strict=True)])

    def scores(images: np.ndarray, texts: np.ndarray) -> np.ndarray:
        parts = [
            trainee.score(trainee.inputs(marked[images[s : s + size]], [pairs[t].words for t in texts[s : s + size]]))
            for s in range(0, n, size)
        ]
        return torch.cat(parts).double().numpy()

    threshold = np.median(own := scores(order, order))
    others = [np.random.default_rng([seed, 7, k]).permutation(n) for k in range(3)]

    def right(values: np.ndarray) -> float:
        return float(((values > threshold) == labels).mean())

    return {
        "accuracy": right(own),
        "accuracy_image_permuted": float(np.mean([right(scores(other, order)) for other in others])),
        "accuracy_text_permuted": float(np.mean([right(scores(order, other)) for other in others])),
    }
