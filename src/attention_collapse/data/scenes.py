"""Rendered scenes: coloured shapes, counted and placed, each with five template captions. No network, no licence.

Every caption has a hard foil: the same sentence with one attribute changed, so that it is false of the picture. Counts
are read exactly: "a red circle" is false of two.

A scene holds one group of equal shapes ("two red circles on the left"), or two groups in opposite halves. Scenes
are drawn from a seed. A fixed fifth of all combinations of things ("two red circles" with "a blue square", whatever
their order and place) is kept from training (`held_out`), so a model trained on scenes is read out on pictures and
captions of which it has seen none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from attention_collapse import arguments
from attention_collapse.arguments import path, whole
from attention_collapse.errors import DataError
from attention_collapse.files import json_text, whole_file, write_text

SIZE = 64  # pixels, both sides
SPLIT = "scenes"
LICENSE = "https://creativecommons.org/publicdomain/zero/1.0/"

COLOURS = {
    "red": (208, 40, 40),
    "orange": (240, 150, 30),
    "yellow": (245, 225, 60),
    "green": (40, 150, 60),
    "blue": (40, 80, 210),
    "purple": (140, 50, 160),
    "white": (250, 250, 250),
}
SHAPES = ("circle", "square", "triangle", "cross", "ring")
COUNTS = {2: "two", 3: "three"}
OPPOSITE = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
PLACE = {"left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom"}
RELATION = {"left": "left of", "right": "right of", "top": "above", "bottom": "below"}
ATTRIBUTES = ("colour", "shape", "count", "place")
PLACELESS = {1: (2, 4), 2: (2,)}  # groups -> captions, by position, that do not say where they stand


@dataclass(frozen=True)
class Group:
    """`count` equal shapes in one half of the picture.

    Examples
    --------
    >>> Group(3, "blue", "cross", "top").phrase
    'three blue crosses'
    """

    count: int
    colour: str
    shape: str
    place: str

    @property
    def phrase(self) -> str:
        """ "a red circle", "three blue crosses", "an orange ring"."""
        if self.count == 1:
            return f"{'an' if self.colour[0] in 'aeiou' else 'a'} {self.colour} {self.shape}"
        return f"{COUNTS[self.count]} {self.colour} {self.shape}{'es' if self.shape.endswith('s') else 's'}"


@dataclass(frozen=True)
class Scene:
    """One or two groups.

    Examples
    --------
    >>> Scene((Group(1, "red", "ring", "right"), Group(1, "orange", "ring", "left"))).description
    'a red ring on the right; an orange ring on the left'
    """

    groups: tuple[Group, ...]

    @property
    def description(self) -> str:
        """What is where, in one order whichever group was drawn first."""
        return "; ".join(sorted(f"{group.phrase} {PLACE[group.place]}" for group in self.groups))

    @property
    def things(self) -> str:
        """What is shown, wherever it stands: two scenes with different things share no caption."""
        return "; ".join(sorted(group.phrase for group in self.groups))

    @property
    def held_out(self) -> bool:
        """True for the fixed fifth of things that training never sees together."""
        return hashlib.sha256(self.things.encode()).digest()[0] % 5 == 0


def draw_scene(rng: np.random.Generator) -> Scene:
    """A random scene: two groups three times in four, else one.

    Examples
    --------
    >>> len(draw_scene(np.random.default_rng(0)).groups) in (1, 2)
    True
    """

    def group(place: str) -> Group:
        return Group(int(rng.integers(1, 4)), str(rng.choice(list(COLOURS))), str(rng.choice(SHAPES)), place)

    first = group(str(rng.choice(list(OPPOSITE))))
    if rng.random() < 0.25:
        return Scene((first,))
    second = group(OPPOSITE[first.place])
    return Scene((first, second))


def sample(n: int, seed: int, *, held_out: bool) -> list[Scene]:
    """`n` scenes from one side of the split: held-out ones show distinct things, so that each caption fits one scene
    only; those for training have distinct descriptions.

    Examples
    --------
    >>> len({scene.things for scene in sample(20, 0, held_out=True)})
    20
    """
    rng = np.random.default_rng(seed)
    seen: set[str] = set()
    scenes: list[Scene] = []
    for _ in range(50 * n + 1000):
        scene = draw_scene(rng)
        identity = scene.things if held_out else scene.description
        if scene.held_out is held_out and identity not in seen:
            seen.add(identity)
            scenes.append(scene)
        if len(scenes) == n:
            return scenes
    raise DataError(
        f"{len(scenes)} different scenes found",
        expected=f"{n} {'held-out' if held_out else 'training'} scenes",
        remedy="ask for fewer: about 1,000 held-out and 14,000 training scenes exist",
    )


def captions(scene: Scene) -> tuple[str, ...]:
    """Five captions, from terse to full, as different as the five annotators of a COCO image.

    Examples
    --------
    >>> captions(Scene((Group(1, "red", "ring", "left"),)))[0]
    'a red ring on the left'
    """
    first = scene.groups[0]
    if len(scene.groups) == 1:
        verb = "is" if first.count == 1 else "are"
        return (
            f"{first.phrase} {PLACE[first.place]}",
            f"there {verb} {first.phrase} {PLACE[first.place]} of the picture",
            f"a drawing of {first.phrase}",
            f"{PLACE[first.place]} of the image there {verb} {first.phrase}",
            f"only {first.phrase} and nothing else",
        )
    second = scene.groups[1]
    return (
        f"{first.phrase} {PLACE[first.place]} and {second.phrase} {PLACE[second.place]}",
        f"{first.phrase} {RELATION[first.place]} {second.phrase}",
        f"a drawing of {first.phrase} and {second.phrase}",
        f"{second.phrase} {PLACE[second.place]} of the picture with {first.phrase} {PLACE[first.place]}",
        f"{second.phrase} {RELATION[second.place]} {first.phrase}",
    )


def other_value(group: Group, attribute: str, rng: np.random.Generator) -> Group:
    """The group with another value of one attribute.

    Examples
    --------
    >>> other_value(Group(1, "red", "ring", "left"), "colour", np.random.default_rng(0)).colour == "red"
    False
    """
    values: dict[str, Sequence[Any]] = {
        "colour": list(COLOURS), "shape": SHAPES, "count": (1, *COUNTS), "place": list(PLACE),
    }  # fmt: skip
    own = getattr(group, attribute)
    others = [value for value in values[attribute] if value != own]
    return replace(group, **{attribute: others[int(rng.integers(len(others)))]})


def foil(scene: Scene, position: int, rng: np.random.Generator) -> tuple[str, str]:
    """The caption at a position of `captions` with one attribute changed, and which: false of the scene.

    An attribute that the caption speaks of is drawn, and one of the groups. Two groups change places with each other,
    and do not come to stand in one half, which no scene shows and a reader of captions alone would notice.

    Examples
    --------
    >>> ring = Scene((Group(1, "red", "ring", "left"),))
    >>> false, changed = foil(ring, 0, np.random.default_rng(0))
    >>> false in captions(ring), changed in ATTRIBUTES
    (False, True)
    """
    groups, placeless = list(scene.groups), position in PLACELESS[len(scene.groups)]
    alike = len({group.phrase for group in groups}) < len(groups)
    told = [name for name in ATTRIBUTES if name != "place" or not (placeless or alike)]
    changed = told[int(rng.integers(len(told)))]
    if changed == "place" and len(groups) == 2:
        groups = [replace(group, place=OPPOSITE[group.place]) for group in groups]
    else:
        index = int(rng.integers(len(groups)))
        groups[index] = other_value(groups[index], changed, rng)
    return captions(Scene(tuple(groups)))[position], changed


@dataclass(frozen=True)
class Drawing:
    """How much renderings of one scene differ, in shares of the picture's side.

    Examples
    --------
    >>> Drawing(radius=(0.1, 0.1)).radius
    (0.1, 0.1)
    """

    radius: tuple[float, float] = (0.07, 0.10)  # of the shapes, from and to
    along: float = 0.04  # centres move by up to this along the group's half
    across: float = 0.05


VARIED = Drawing()


def _centres(group: Group, rng: np.random.Generator, drawing: Drawing) -> list[tuple[float, float]]:
    """Jittered centres along the group's half, in units of the picture's side."""
    spread = {1: (0.5,), 2: (0.3, 0.7), 3: (0.2, 0.5, 0.8)}[group.count]
    across = {"left": 0.25, "top": 0.25, "right": 0.75, "bottom": 0.75}[group.place]
    points = []
    for along in spread:
        a = along + rng.uniform(-drawing.along, drawing.along)
        b = across + rng.uniform(-drawing.across, drawing.across)
        points.append((b, a) if group.place in ("left", "right") else (a, b))
    return points


def render(scene: Scene, rng: np.random.Generator, drawing: Drawing = VARIED) -> Image.Image:
    """Draw at four times the size and average down: anti-aliased, and the same bytes on every machine.

    Examples
    --------
    >>> render(Scene((Group(1, "red", "circle", "left"),)), np.random.default_rng(0)).getpixel((16, 32))
    (208, 40, 40)
    """
    side = 4 * SIZE
    grey = int(rng.integers(70, 150))
    image = Image.new("RGB", (side, side), (grey, grey, grey))
    pen = ImageDraw.Draw(image)
    for group in scene.groups:
        colour = COLOURS[group.colour]
        for x, y in _centres(group, rng, drawing):
            r = int(side * rng.uniform(*drawing.radius))
            cx, cy = int(x * side), int(y * side)
            box = (cx - r, cy - r, cx + r, cy + r)
            if group.shape == "circle":
                pen.ellipse(box, fill=colour)
            elif group.shape == "ring":
                pen.ellipse(box, outline=colour, width=max(2, r // 3))
            elif group.shape == "square":
                pen.rectangle(box, fill=colour)
            elif group.shape == "triangle":
                pen.polygon([(cx, cy - r), (cx - r, cy + r), (cx + r, cy + r)], fill=colour)
            else:
                arm = r // 3
                pen.rectangle((cx - r, cy - arm, cx + r, cy + arm), fill=colour)
                pen.rectangle((cx - arm, cy - r, cx + arm, cy + r), fill=colour)
    return image.reduce(4)


def write_scenes(out: str | Path, n: int, seed: int) -> Path:
    """Render `n` held-out scenes into a COCO-layout folder, each caption with a foil; return its annotation file.

    PNGs are stored uncompressed: compressors give different bytes on different CPUs, and the manifest pins bytes.

    Raises
    ------
    ParamsError
        If an argument is of the wrong type or out of range.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = write_scenes(Path(folder, "pairs"), 2, seed=0)
    ...     len(list(Path(folder, "pairs", SPLIT).iterdir()))
    2
    """
    out, n, seed = path("out", out), whole("n", n, least=0), arguments.seed(seed)
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    rng, of_foils = np.random.default_rng([seed, 1]), np.random.default_rng([seed, 8])
    for index, scene in enumerate(sample(n, seed, held_out=True)):
        name = f"{index + 1:012d}.png"
        with whole_file(out / SPLIT / name) as temporary:
            render(scene, rng).save(temporary, format="PNG", compress_level=0)
        images.append({"id": index + 1, "file_name": name, "width": SIZE, "height": SIZE, "license": 1})
        for position, caption in enumerate(captions(scene)):
            false, changed = foil(scene, position, of_foils)
            annotations.append({
                "id": len(annotations) + 1, "image_id": index + 1, "caption": caption,
                "foils": [{"caption": false, "changed": changed}],
            })  # fmt: skip
    file = out / "annotations" / f"captions_{SPLIT}.json"
    licenses = [{"id": 1, "url": LICENSE, "name": "CC0 1.0"}]
    write_text(file, json_text({"images": images, "annotations": annotations, "licenses": licenses}))
    return file
