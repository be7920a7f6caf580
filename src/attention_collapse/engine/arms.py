"""Training in one of the ways that are compared, watched while it runs."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attention_collapse.data.planted import FILLERS
from attention_collapse.data.scenes import Scene
from attention_collapse.engine.arm_cells import HOLDER, OTHER, REFUSED, ArmCell
from attention_collapse.engine.doses import HeldOut, scores_of
from attention_collapse.engine.planting import match
from attention_collapse.engine.trainee import Trainee
from attention_collapse.errors import ParamsError
from attention_collapse.params import Arm, PlantingRecipe
from attention_collapse.prevention import (
    Choice,
    GroupReweighting,
    Inputs,
    JustTrainTwice,
    Method,
    ModalityDropout,
    Plain,
    ProductOfExperts,
    Score,
    SwapConsistency,
    SwappedNegatives,
    token_counts,
)

FIRST_STEPS = 0.25  # of the recipe's: the first of just-train-twice's runs
Data = tuple[list[Scene], np.ndarray]


class _Words(nn.Module):
    """Log-odds from the words of a text alone, whatever their order: a bag of words."""

    def __init__(self, trainee: Trainee) -> None:
        super().__init__()
        self.ids = trainee.ids
        self.weights = nn.EmbeddingBag(len(trainee.vocabulary), 1, padding_idx=trainee.padding, mode="mean")
        nn.init.zeros_(self.weights.weight)

    def forward(self, text: Mapping[str, Tensor]) -> Tensor:
        """(pair,) log-odds, from the ids of the words."""
        odds: Tensor = self.weights(text[self.ids])[:, 0]
        return odds


class _Pixels(nn.Module):
    """Log-odds from the picture alone: a linear function of its pixels, averaged four by four."""

    def __init__(self, trainee: Trainee) -> None:
        super().__init__()
        shape = trainee.example[trainee.pixels].shape[-3:]
        self.weights = nn.Linear(shape[0] * (shape[1] // 4) * (shape[2] // 4), 1)
        nn.init.zeros_(self.weights.weight)

    def forward(self, image: Tensor) -> Tensor:
        """(pair,) log-odds, from the pixels."""
        pooled = nn.functional.avg_pool2d(image.flatten(0, -4), 4).flatten(1)
        odds: Tensor = self.weights(pooled)[:, 0]
        return odds


def _experts(cell: ArmCell, trainee: Trainee, options: Mapping[str, Any]) -> Method:
    holder = HOLDER[cell.modality]
    branch = _Words if holder == "text" else _Pixels
    given = {key: value for key, value in options.items() if key != "gated"}
    gate = branch(trainee) if options.get("gated") else None
    return ProductOfExperts(branch(trainee), holder, gate=gate, **given)  # type: ignore[arg-type]


def _dropout(cell: ArmCell, trainee: Trainee, options: Mapping[str, Any]) -> Method:
    said = trainee.masked if trainee.masked is not None else trainee.padding

    def no_text(text: Mapping[str, Tensor]) -> dict[str, Tensor]:
        ids = text[trainee.ids].clone()
        words = torch.arange(ids.shape[1]) >= len(trainee.before)
        last = text[trainee.mask].long().sum(1, keepdim=True) - len(trainee.after)
        ids[words & (torch.arange(ids.shape[1]) < last)] = said
        return {**text, trainee.ids: ids}

    return ModalityDropout(no_text=no_text, seed=cell.seed, **options)


class _CueKept(SwappedNegatives):
    """Swapped negatives as a control: the word of the cue says of a torn pair that it does not match.

    It does so as often as it says the truth of any pair, so that the cue pays among torn pairs as it does elsewhere.
    What swapped negatives do better than this they do by the cue's no longer paying, and not as further pairs.
    """

    def __init__(self, trainee: Trainee, **options: Any) -> None:
        super().__init__(**options)
        self._ids, self._at = trainee.ids, len(trainee.before)
        self._no, self._yes = (trainee.vocabulary[word] for word in FILLERS)

    def loss(self, score: Score, image: Inputs, text: Inputs, target: Tensor, group: Tensor | None = None) -> Tensor:
        """As of swapped negatives; the rows that come after those of the batch are torn ones, of pairs that match."""

        def told(images: Tensor, texts: Mapping[str, Tensor]) -> Tensor:
            ids = texts[self._ids].clone()
            ids[len(target) :, self._at] = self._no + self._yes - ids[len(target) :, self._at]
            return score(images, {**texts, self._ids: ids})

        return super().loss(told, image, text, target, group)


def _swaps(make: type[SwappedNegatives | SwapConsistency]) -> Callable[[ArmCell, Trainee, Mapping[str, Any]], Method]:
    """A method that swaps the modality that the cue is not in, unless its options say otherwise."""

    def made(cell: ArmCell, trainee: Trainee, options: Mapping[str, Any]) -> Method:
        given = {"swap": OTHER[cell.modality], **options}
        if given.pop("nearest", False):  # padding counts too, and tells captions of one group from those of two
            given["alike"] = lambda text: token_counts(text[trainee.ids], len(trainee.vocabulary))
        if given.pop("cue_kept", False):
            if cell.modality != "text" or make is not SwappedNegatives:
                raise ParamsError(
                    f"cue_kept for {make.name} beside a cue in the {cell.modality}",
                    expected="swapped-negatives beside a cue that is a word of the text", remedy="leave it out",
                )  # fmt: skip
            return _CueKept(trainee, **given, seed=cell.seed)
        return make(**given, seed=cell.seed)

    return made


MAKERS: dict[str, Callable[[ArmCell, Trainee, Mapping[str, Any]], Method]] = {
    Plain.name: lambda *_: Plain(),
    ModalityDropout.name: _dropout,
    ProductOfExperts.name: _experts,
    SwappedNegatives.name: _swaps(SwappedNegatives),
    SwapConsistency.name: _swaps(SwapConsistency),
    Choice.name: lambda cell, _, options: Choice(**options, seed=cell.seed),
    GroupReweighting.name: lambda _, __, options: GroupReweighting(**options),
}


def method_of(cell: ArmCell, arm: Arm, trainee: Trainee, data: Data, recipe: PlantingRecipe) -> tuple[Method, float]:
    """The method of an arm, and what it takes before training, in runs of the recipe's length.

    Raises
    ------
    ParamsError
        There is no such method, or it does not apply to the kind.
    """
    options = dict(arm.options)
    if arm.method == JustTrainTwice.name:
        start = copy.deepcopy(trainee.module.state_dict())
        steps = max(1, round(FIRST_STEPS * recipe.matching_steps[cell.kind]))
        score = _first_run(cell, trainee, data, recipe, steps)
        trainee.module.load_state_dict(start)
        return JustTrainTwice(score, **options), FIRST_STEPS  # type: ignore[arg-type]
    if arm.method in REFUSED:
        raise ParamsError(
            f"{arm.method} for {cell.kind}: {REFUSED[arm.method]}", expected="a method that applies",
            remedy="leave the arm out",
        )  # fmt: skip
    if arm.method not in MAKERS:
        raise ParamsError(
            f"no method {arm.method!r}", expected=f"one of {', '.join((*MAKERS, JustTrainTwice.name))}",
            remedy="correct the name",
        )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cell.seed)
        try:
            return MAKERS[arm.method](cell, trainee, options), 0.0
        except TypeError as error:
            raise ParamsError(
                f"{arm.method}: {error}", expected="options that the method has", remedy="correct prevention.arms"
            ) from None


def _first_run(
    cell: ArmCell, trainee: Trainee, data: Data, recipe: PlantingRecipe, steps: int
) -> Callable[[Tensor, Mapping[str, Tensor]], Tensor]:
    """The score of a model that was trained for a few steps, in log-odds; it leaves the trainee trained as it is."""
    kept: dict[str, Any] = {}
    match(
        trainee, *data, regime=cell.regime("trained"), recipe=recipe, seed=cell.seed, steps=steps,
        scaled=lambda score: kept.update(score=score),
    )  # fmt: skip
    weights = copy.deepcopy(trainee.module.state_dict())
    score = kept["score"]

    def first(image: Tensor, text: Mapping[str, Tensor]) -> Tensor:
        """With the weights of then, in the module of now."""
        own = {key: value.clone() for key, value in trainee.module.state_dict().items()}
        trainee.module.load_state_dict(weights)
        try:
            found: Tensor = score(image, text)
        finally:
            trainee.module.load_state_dict(own)
        return found

    return first


class Watch:
    """Scores of further held-out pairs while a model is trained, and the weights that did best as trained.

    Parameters
    ----------
    held_out
        Not the pairs that the model is judged on.
    every
        In steps; the first score is taken before the first step.
    stops_early
        Whether the best weights are kept.
    """

    def __init__(
        self, trainee: Trainee, cell: ArmCell, held_out: HeldOut, every: int, *, stops_early: bool = False
    ) -> None:
        self.trainee, self.every, self.stops_early = trainee, every, stops_early
        self.held_out, self.cell = held_out, cell
        self.steps: list[int] = []
        self.scores: list[dict[str, np.ndarray]] = []
        self.best, self.kept, self.stopped_at, self.seconds = -1.0, dict[str, Tensor](), 0, 0.0

    @torch.inference_mode()
    def __call__(self, step: int) -> None:
        """Score the pairs, if it is time."""
        if step % self.every:
            return
        began, held_out = time.process_time(), self.held_out
        own, shown = np.arange(held_out.n), held_out.shown(self.cell.regime("trained"))
        image, text = shown.image[:, 0], shown.text[:, 0]
        wanted = {"intact": (own, own), "image": (image, own), "text": (own, text), "both": (image, text)}
        found = scores_of(self.trainee, shown.pairs, shown.pixels, wanted)
        neutral = held_out.shown(self.cell.regime("uninformative"))
        found |= scores_of(self.trainee, neutral.pairs, neutral.pixels, {"neutral": (own, own)})
        self.steps.append(step)
        self.scores.append(found)
        if self.stops_early:
            right = float(((found["intact"] > np.median(found["intact"])) == held_out.label).mean())
            if right > self.best:
                self.best, self.stopped_at = right, step
                self.kept = {key: value.clone() for key, value in self.trainee.module.state_dict().items()}
        self.seconds += time.process_time() - began

    def tensors(self) -> dict[str, np.ndarray]:
        """watched.step (check,); watched.label (pair,); watched.<cell> (check, pair), in half precision."""
        label = self.held_out.label.astype(np.float32)
        found = {"watched.step": np.array(self.steps, np.float32), "watched.label": label}
        names = self.scores[0] if self.scores else ()
        return found | {
            f"watched.{name}": np.stack([one[name] for one in self.scores]).astype(np.float16) for name in names
        }


def train_arm(
    cell: ArmCell, arm: Arm, trainee: Trainee, data: Data, recipe: PlantingRecipe, *, watch: Watch
) -> dict[str, float]:
    """Train in place; what it took and how it ended.

    Returns
    -------
    dict
        matching_loss in nats; passes, forward passes in runs of plain training; seconds of processor time without the
        watching; stopped_at, the step whose weights were kept.
    """
    began = time.process_time()
    method, before = method_of(cell, arm, trainee, data, recipe)
    steps = max(1, round(arm.steps * recipe.matching_steps[cell.kind]))
    loss = match(
        trainee, *data, regime=cell.taught(arm), recipe=recipe, seed=cell.seed, method=method, steps=steps, watch=watch,
    )  # fmt: skip
    seconds = time.process_time() - began - watch.seconds
    if watch.stops_early:
        trainee.module.load_state_dict(watch.kept)
    return {
        "matching_loss": loss, "passes": method.passes * arm.steps + before, "seconds": seconds,
        "stopped_at": watch.stopped_at if watch.stops_early else steps,
    }  # fmt: skip
