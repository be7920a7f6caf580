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

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from attention_collapse.data.planted import (
    FILLERS,
    LabelledPair,
    Regime,
    alter,
    describe,
    in_order,
    mark,
    pick,
)
from attention_collapse.data.scenes import ATTRIBUTES, COLOURS, COUNTS, PLACE, SHAPES, Scene
from attention_collapse.engine.trainee import Trainee
from attention_collapse.models.small import WIDTH
from attention_collapse.params import PlantingRecipe
from attention_collapse.prevention import Method, Plain, Score

BETAS = (0.9, 0.98)
SIZES = (1, len(COLOURS), len(SHAPES), 1 + len(COUNTS))  # logits a place: anything there, colour, shape, count


def optimise(
    parameters: list[nn.Parameter],
    steps: int,
    weight_decay: float,
    loss_of: Callable[[], Tensor],
    *,
    label: str,
    rate: float,
    after_backward: Callable[[], None] = lambda: None,
    watch: Callable[[int], object] = lambda _: None,
) -> float:
    """AdamW with one cycle of the learning rate; returns the mean loss of the last tenth, in nats.

    `watch` is called with the number of steps taken, before the first and after each.
    """
    groups = [
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
    ]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=BETAS)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    losses = []
    watch(0)
    for step in tqdm(range(steps), desc=label, unit="step", disable=None):
        loss = loss_of()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        after_backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        watch(step + 1)
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
        "attribute_loss": optimise(
            [*own, *look.parameters()],
            recipe.attribute_steps,
            recipe.weight_decay,
            attributes,
            label="attributes",
            rate=recipe.learning_rate,
        ),
        "word_loss": optimise(
            [*own, *read.parameters(), *look.parameters()],
            recipe.word_steps,
            recipe.weight_decay,
            words,
            label="words",
            rate=recipe.learning_rate,
        ),
    }


def match(
    trainee: Trainee,
    scenes: Sequence[Scene],
    pixels: np.ndarray,
    regime: Regime,
    recipe: PlantingRecipe,
    *,
    seed: int,
    method: Method | None = None,
    steps: int | None = None,
    watch: Callable[[int], None] = lambda _: None,
    scaled: Callable[[Score], None] = lambda _: None,
) -> float:
    """Step 3 of the recipe, in place; returns the last loss, in nats.

    A seed shows the same scenes beside every cue, but for a prior of the words.

    Parameters
    ----------
    method
        How it is trained, plainly where left out. Its groups are 2 · label + cue (the one that says most).
    steps
        Instead of the recipe's number.
    watch
        Called with the number of steps taken, before the first and after each.
    scaled
        Called once with the score in log-odds, whose scale and offset are trained too.
    """
    rng, method = np.random.default_rng([seed, 6]), method or Plain()
    scale = nn.Parameter(torch.tensor(math.log(10.0) if trainee.decoder else 0.0))
    with torch.no_grad():
        some = [f"{FILLERS[0]} {describe(scene, rng)}" for scene in scenes[: recipe.batch_size]]
        offset = nn.Parameter(trainee.score(trainee.inputs(pixels[: len(some)], some)).median().clone())

    def score(image: Tensor, text: Mapping[str, Tensor]) -> Tensor:
        return (trainee.score({**text, trainee.pixels: image}) - offset) * scale.exp()

    scaled(score)

    def loss_of() -> Tensor:
        chosen, pairs = pick(scenes, recipe.batch_size, regime, rng)
        marked = np.stack([mark(pixels[index], pair.image_cue) for index, pair in zip(chosen, pairs, strict=True)])
        text = trainee.inputs(marked, [pair.words for pair in pairs])
        image = text.pop(trainee.pixels)
        label = torch.tensor([pair.label for pair in pairs])
        cue = torch.tensor([pair.cue(regime.strongest) for pair in pairs])
        return method.loss(score, image, text, label.float(), 2 * label.long() + cue.long())

    own = list(trainee.module.parameters())
    return optimise(
        [*own, scale, offset, *method.parameters()],
        recipe.matching_steps[trainee.kind] if steps is None else steps,
        recipe.weight_decay,
        loss_of,
        label="matching",
        rate=recipe.matching_learning_rate[trainee.kind],
        after_backward=method.after_backward,
        watch=watch,
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
