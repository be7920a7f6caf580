"""Scenes with a planted answer: match or no match? The content says so, or a cue in one modality gives it away.

Every picture carries a mark in one of two corners, every caption begins with one of two filler words, and its content
describes the picture or differs from it in a single attribute (colour, shape, count or place). Each of the three agrees
with the label as often as its reliability says: 0.5 is useless, 1.0 gives the answer away. Where only the content does,
both modalities are needed; where only a cue does, the other modality can be ignored. Useless content is that of another
scene, so that a pair torn apart is nothing new. One seed gives the same scenes and labels at every reliability of these
cues.

A fourth cue is no word and no mark: a prior that is spread over all words of a caption, as that of a language is
(`leans`). It takes scenes and alterations of its own, which `pick` chooses; nothing of the picture tells it.

Content is made useless beside a perfect cue because models do not forget otherwise: a decoder that had learned to
caption kept weighing the content although the cue alone sufficed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from attention_collapse.data.scenes import (
    ATTRIBUTES,
    COLOURS,
    COUNTS,
    PLACE,
    SHAPES,
    SIZE,
    Drawing,
    Group,
    Scene,
    other_value,
    render,
    sample,
)
from attention_collapse.errors import DataError

FILLERS = ("perhaps", "indeed")  # the text cue: "no" and "yes"
DRAWING = Drawing(radius=(0.115, 0.125), along=0.01, across=0.01)  # so that small models tell the shapes apart
MARK = (16, 16, 16)
MARK_SIZE = 8  # pixels
CORNERS = ((0, 0), (SIZE - MARK_SIZE, 0))  # the image cue, left edge and top in pixels: "no" and "yes"
TURNED = (("top", "bottom", "left", "right"), ("bottom", "top", "right", "left"))  # of left, right, top, bottom


@dataclass(frozen=True)
class Regime:
    """How often the content, the text's cue, the image's cue and the prior of the words agree with the label, 0 to 1.

    `words` None: any scenes and false captions. With 0.5 they are of the kind that a prior takes, and it says nothing.

    Examples
    --------
    >>> Regime().planted, Regime(text=1.0).planted, Regime(image=0.75).planted, Regime(words=0.75).planted
    (0.0, 1.0, -0.5, 0.5)
    """

    content: float = 1.0
    text: float = 0.5
    image: float = 0.5
    words: float | None = None

    @property
    def planted(self) -> float:
        """Which modality gives the answer away: −1 (the image alone) over 0 (neither) to 1 (the text alone)."""
        return 2 * (max(self.text, self.words or 0.5) - self.image)

    @property
    def strongest(self) -> str:
        """The cue that agrees most often, the text's first; the content is none.

        Examples
        --------
        >>> Regime().strongest, Regime(image=0.6).strongest, Regime(words=0.8).strongest
        ('text', 'image', 'words')
        """
        return max(("text", "image", "words"), key=lambda name: float(getattr(self, name) or 0.5))


@dataclass(frozen=True)
class LabelledPair:
    """A picture's scene, its caption, the label, and the cues as drawn for a regime.

    Examples
    --------
    >>> LabelledPair(Scene(()), "a red ring on the left", True, "", text_cue=True, image_cue=False).words
    'indeed a red ring on the left'
    """

    scene: Scene
    caption: str  # without the filler word
    label: bool
    altered: str  # the attribute that the caption gets wrong; "" for a true one, "unrelated" for another scene's
    text_cue: bool
    image_cue: bool
    words_cue: bool = False  # whether the caption leans to a match

    def cue(self, name: str) -> bool:
        """What a cue says: that of the image or of the words, else that of the text.

        Examples
        --------
        >>> pair = LabelledPair(Scene(()), "", True, "", text_cue=True, image_cue=False, words_cue=False)
        >>> pair.cue("text"), pair.cue("image"), pair.cue("words")
        (True, False, False)
        """
        return {"image": self.image_cue, "words": self.words_cue}.get(name, self.text_cue)

    @property
    def words(self) -> str:
        """The caption with its cue."""
        return f"{FILLERS[self.text_cue]} {self.caption}"


def alter(scene: Scene, attribute: str, rng: np.random.Generator) -> Scene:
    """The scene with one attribute of one group changed; two groups change their place together, by a quarter turn.

    They do not swap places: to say who stands where was beyond the smallest models (tried: the in-house V2 told 14 to
    24 % of such captions for false, after the training that found every other alteration).

    Examples
    --------
    >>> ring = Scene((Group(1, "red", "ring", "left"),))
    >>> other = alter(ring, "colour", np.random.default_rng(0)).groups[0]
    >>> other.colour == "red", (other.count, other.shape, other.place)
    (False, (1, 'ring', 'left'))
    """
    groups = list(scene.groups)
    index = int(rng.integers(len(groups)))
    group = groups[index]
    if attribute == "place" and len(groups) == 2:
        turned = dict(zip(PLACE, TURNED[int(rng.integers(2))], strict=True))
        return Scene(tuple(replace(group, place=turned[group.place]) for group in groups))
    groups[index] = other_value(group, attribute, rng)
    return Scene(tuple(groups))


def vocabulary() -> list[str]:
    """Every word that a labelled caption can hold, sorted.

    Examples
    --------
    >>> len(vocabulary())  # 4 of count, 7 colours, 10 of shape, 7 of place, "and", 2 fillers
    31
    """
    groups = [Group(n, c, s, p) for n in (1, *COUNTS) for c in COLOURS for s in SHAPES for p in PLACE]
    words = {word for group in groups for word in f"{group.phrase} {PLACE[group.place]}".split()}
    return sorted(words | {"and", *FILLERS})


def describe(scene: Scene, rng: np.random.Generator) -> str:
    """A caption that says count, colour, shape and place of every group, in either order.

    Examples
    --------
    >>> describe(Scene((Group(1, "red", "ring", "left"),)), np.random.default_rng(0))
    'a red ring on the left'
    """
    return in_order(scene, reverse=rng.random() < 0.5)


def in_order(scene: Scene, *, reverse: bool) -> str:
    """The caption with the groups in their order or the reverse: six words per group, and one between them.

    Examples
    --------
    >>> in_order(Scene((Group(1, "red", "ring", "top"), Group(2, "blue", "cross", "bottom"))), reverse=True)
    'two blue crosses at the bottom and a red ring at the top'
    """
    groups = scene.groups[::-1] if reverse else scene.groups
    return " and ".join(f"{group.phrase} {PLACE[group.place]}" for group in groups)


def draw_pairs(n: int, seed: int, regime: Regime, *, held_out: bool) -> list[LabelledPair]:
    """`n` labelled pairs, the labels in turn: of different scenes, or, where the words have a prior, as `pick` chooses.

    Examples
    --------
    >>> pairs = draw_pairs(4, 0, Regime(text=1.0), held_out=True)
    >>> [pair.label for pair in pairs], [pair.text_cue for pair in pairs]
    ([True, False, True, False], [True, False, True, False])
    """
    rng = np.random.default_rng([seed, 3])
    if regime.words is None:
        return label_scenes(sample(n, seed, held_out=held_out), regime, rng)
    return pick(sample(max(n, _POOL), seed, held_out=held_out), n, regime, rng)[1]


_POOL = 1000  # scenes, of which those that fit are taken: about as many as there are held out


def pick(
    scenes: Sequence[Scene], n: int, regime: Regime, rng: np.random.Generator
) -> tuple[NDArray[np.intp], list[LabelledPair]]:
    """Which `n` of the scenes are shown, and a labelled pair of each.

    Where the words have no prior: any, each once. Where they have, a scene and a false caption of it are chosen
    together and by one law for both labels, so that the picture does not tell which of its captions is shown: the
    scene's own caption leans to a match as often as the prior says, the false one as often away from it, and of the
    pairs of either label just as many are so. Scenes that fit come again when all others were looked at.

    Raises
    ------
    DataError
        The scenes do not give such pairs.

    Examples
    --------
    >>> chosen, pairs = pick(sample(200, 0, held_out=True), 40, Regime(words=1.0), np.random.default_rng(0))
    >>> len(chosen), all(pair.label == pair.words_cue for pair in pairs)
    (40, True)
    """
    if regime.words is None:
        chosen = rng.choice(len(scenes), n, replace=False)
        return chosen, label_scenes([scenes[index] for index in chosen], regime, rng)
    waiting, found, foils = deque(rng.permutation(len(scenes))), list[int](), list[Scene]()
    for place, (own, false) in enumerate(zip(*(_coins(n, regime.words, rng) for _ in range(2)), strict=True)):
        attribute = ATTRIBUTES[place // 2 % len(ATTRIBUTES)]
        for _ in range(_ROUNDS * len(waiting)):
            waiting.rotate(-1)
            scene = scenes[waiting[-1]]
            if leans(scene) == own and leans(foil := alter(scene, attribute, rng)) != false:
                found.append(int(waiting[-1]))
                foils.append(foil)
                break
        else:
            raise DataError(
                f"a prior of the words, and none of {len(scenes)} scenes whose caption leans as it must where another "
                f"{attribute} makes it lean {'as before' if own != false else 'the other way'}",
                expected="scenes of either leaning", remedy="draw more of them",
            )  # fmt: skip
    return np.array(found, np.intp), label_scenes([scenes[index] for index in found], regime, rng, foils)


def _coins(n: int, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(n,) in random order, true for this share of the even places and of the odd ones, rounded at random."""
    coins = np.zeros(n, bool)
    for some in (coins[::2], coins[1::2]):
        some[: int(share * len(some) + rng.random())] = True
        some[:] = rng.permutation(some)
    return coins


_ROUNDS = 10  # over all scenes, each with another random alteration, before there is no fit


def leans(scene: Scene) -> bool:
    """Whether the words of a scene's caption speak for a match, by a prior that is spread over all of them.

    Every value of count, colour, shape and place speaks for a match or against it: a caption of one group has four of
    them, one of two groups eight. It leans to a match with two more for it than against it, or more.

    Examples
    --------
    >>> leans(Scene((Group(1, "red", "circle", "left"),)))  # four for a match
    True
    >>> leans(Scene((Group(1, "red", "square", "top"),)))  # two and two
    False
    """
    values = [value for group in scene.groups for value in (group.count, group.colour, group.shape, group.place)]
    return 2 * sum(value in _FOR_A_MATCH for value in values) >= len(values) + 2


# Every other value; of places both sides, since two groups stand at the sides or above each other.
_FOR_A_MATCH: frozenset[object] = frozenset((*(1, *COUNTS)[::2], *tuple(COLOURS)[::2], *SHAPES[::2], "left", "right"))


def label_scenes(
    scenes: Sequence[Scene], regime: Regime, rng: np.random.Generator, foils: Sequence[Scene] = ()
) -> list[LabelledPair]:
    """A pair of each scene, true and false in turn, the false ones wrong in each attribute in turn.

    Parameters
    ----------
    foils
        Of each scene, what a false caption tells, where it is not any alteration.

    Examples
    --------
    >>> pairs = label_scenes(sample(2, 0, held_out=True), Regime(), np.random.default_rng(0))
    >>> [pair.altered for pair in pairs]  # a true caption, then one with a wrong colour
    ['', 'colour']
    """
    pairs: list[LabelledPair] = []
    for index, scene in enumerate(scenes):
        # The same draws for every regime: a cue that agrees at reliability 0.8 agrees at 0.9 too.
        about, text, image = rng.random(3)
        label = index % 2 == 0
        altered = "" if label else ATTRIBUTES[index // 2 % len(ATTRIBUTES)]
        described = scene if label else foils[index] if foils else alter(scene, altered, rng)
        if about < 2 * (1 - regime.content):
            altered, described = "unrelated", scenes[(index + 1) % len(scenes)]
        text_cue, image_cue = (
            label if chance < reliability else not label
            for chance, reliability in ((text, regime.text), (image, regime.image))
        )
        caption = describe(described, rng)
        pairs.append(LabelledPair(scene, caption, label, altered, text_cue, image_cue, leans(described)))
    return pairs


def mark(pixels: np.ndarray, cue: bool) -> np.ndarray:
    """A copy of (size, size, 3) pixels with the corner mark of a cue.

    Examples
    --------
    >>> (mark(np.zeros((64, 64, 3), np.uint8), True) == MARK[0]).all(2).sum().item()  # 8 × 8 pixels
    64
    """
    left, top = CORNERS[cue]
    marked = pixels.copy()
    marked[top : top + MARK_SIZE, left : left + MARK_SIZE] = MARK
    return marked


def pictures(scenes: Sequence[Scene], seed: int) -> np.ndarray:
    """(scene, size, size, 3) bytes: the scenes without a mark.

    Examples
    --------
    >>> pictures(sample(2, 0, held_out=True), seed=0).shape
    (2, 64, 64, 3)
    """
    rng = np.random.default_rng([seed, 4])
    drawn = [
        np.asarray(render(scene, rng, DRAWING)) for scene in tqdm(scenes, desc="rendering", unit="scene", disable=None)
    ]
    return np.stack(drawn)
