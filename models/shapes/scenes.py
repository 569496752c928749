"""Scenes of one or two coloured shapes: their captions, their pictures, and which of them are kept out of training."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from math import cos, pi, sin
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

__all__ = [
    "COLOURS", "HELD_OUT_PAIRS", "RELATIONS", "SHAPES", "SIDE", "SIZES", "Scene", "Split", "Thing", "drawn", "mask", "random_scene",
]  # fmt: skip

Picture = npt.NDArray[np.uint8]  # (32, 32, 3)
Split = Literal["train", "pairs", "captions"]

SIDE = 32
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40), "orange": (250, 150, 30), "yellow": (250, 230, 60), "green": (50, 170, 70),
    "blue": (50, 90, 220), "purple": (150, 60, 180), "white": (245, 245, 245), "black": (25, 25, 25),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "cross")
SIZES = {"small": 4.5, "large": 6.5}  # radii in pixels
RELATIONS = ("above", "below", "left of", "right of")
GAP, JITTER = 3, 1  # pixels between two things; pixels by which the whole scene may move in each direction
HELD_OUT_PAIRS = frozenset({("circle", "green"), ("square", "purple"), ("triangle", "yellow"), ("cross", "red")})
UNSAID_SIZE = "large"  # size of things whose size the caption does not name
HELD_OUT_PERCENT = 15  # share of captions of two things that training never sees
_WINDOW, _OVERSAMPLING = 17, 16


@dataclass(frozen=True)
class Thing:
    """One shape of a scene."""

    shape: str
    colour: str
    size: str

    def __str__(self) -> str:
        return f"a {self.size} {self.colour} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """One thing, or two things with a relation ("above": the first is above the second), on a background of one colour."""

    background: str
    things: tuple[Thing, ...]
    relation: str | None

    @property
    def caption(self) -> str:
        """The full caption, for example "a small red circle above a large blue square on a yellow background"."""
        things = str(self.things[0]) if self.relation is None else f"{self.things[0]} {self.relation} {self.things[1]}"
        return f"{things} on a {self.background} background"

    def short_caption(self, rng: random.Random) -> str:
        """Return the caption, at random without the parts that have their default value."""
        return self._caption(size=rng.random() < 0.5, background=rng.random() < 0.5)

    @property
    def shortest_caption(self) -> str:
        """The caption without all parts that have their default value: "a red circle above a blue square"."""
        return self._caption(size=False, background=False)

    def _caption(self, size: bool, background: bool) -> str:
        """Return the caption. Size and background are left out where they are not wanted and have their default value."""
        text = self.caption
        if not size and all(thing.size == UNSAID_SIZE for thing in self.things):
            text = text.replace(f" {UNSAID_SIZE} ", " ")
        if not background and self.background == self.unsaid_background:
            text = text.removesuffix(f" on a {self.background} background")
        return text

    def plain(self, size: bool = True, background: bool = True) -> Scene:
        """Return the same scene with the default size, background or both. The background stays if a thing has the default
        background's colour."""
        things = tuple(replace(thing, size=UNSAID_SIZE) for thing in self.things) if size else self.things
        wanted = background and self.unsaid_background not in {thing.colour for thing in things}
        return Scene(self.unsaid_background if wanted else self.background, things, self.relation)

    @property
    def unsaid_background(self) -> str:
        """The background of a caption that names none: white, or black where a thing is white."""
        return "black" if any(thing.colour == "white" for thing in self.things) else "white"

    @property
    def split(self) -> Split:
        """`pairs` if it has a shape in a colour in which training never shows it, `captions` if only the whole caption is unseen,
        or `train`."""
        if any((thing.shape, thing.colour) in HELD_OUT_PAIRS for thing in self.things):
            return "pairs"
        unseen = int(sha256(self.caption.encode()).hexdigest()[:8], 16) % 100 < HELD_OUT_PERCENT
        return "captions" if self.relation and unseen else "train"


def random_scene(rng: random.Random, split: Split) -> Scene:
    """Return a random scene of that split; four out of five scenes have two things."""
    while True:
        background = rng.choice(list(COLOURS))
        others = [colour for colour in COLOURS if colour != background]
        count = 2 if rng.random() < 0.8 else 1
        things = tuple(Thing(rng.choice(SHAPES), rng.choice(others), rng.choice(list(SIZES))) for _ in range(count))
        scene = Scene(background, things, rng.choice(RELATIONS) if count == 2 else None)
        if scene.split == split:
            return scene


def drawn(scene: Scene, rng: random.Random) -> Picture:
    """Draw the scene as (32, 32, 3): centred, then moved by up to a pixel in each direction."""
    picture = np.empty((SIDE, SIDE, 3), np.float32)
    picture[:] = COLOURS[scene.background]
    shift = rng.randint(-JITTER, JITTER), rng.randint(-JITTER, JITTER)
    for thing, centre in zip(scene.things, _centres(scene), strict=True):
        x, y = (place + moved for place, moved in zip(centre, shift, strict=True))
        left, top = x - _WINDOW // 2, y - _WINDOW // 2
        columns = slice(max(left, 0), min(left + _WINDOW, SIDE))
        rows = slice(max(top, 0), min(top + _WINDOW, SIDE))
        share = mask(thing.shape, SIZES[thing.size])[
            rows.start - top : rows.stop - top, columns.start - left : columns.stop - left, None
        ]
        picture[rows, columns] = picture[rows, columns] * (1 - share) + np.array(COLOURS[thing.colour], np.float32) * share
    return picture.round().astype(np.uint8)


def _centres(scene: Scene) -> list[tuple[int, int]]:
    """Return x and y in pixels of each thing's centre before the scene is moved."""
    middle = SIDE // 2
    if scene.relation is None:
        return [(middle, middle)]
    forward, vertical = scene.relation in ("above", "left of"), scene.relation in ("above", "below")
    radii = [SIZES[thing.size] for thing in scene.things]
    first, second = radii if forward else radii[::-1]
    start = middle - (2 * first + 2 * second + GAP) / 2
    along = [round(start + first), round(start + 2 * first + GAP + second)]
    centres = [(middle, place) if vertical else (place, middle) for place in along]
    return centres if forward else centres[::-1]


@cache
def mask(shape: str, radius: float) -> npt.NDArray[Any]:
    """Return how much of each pixel the shape covers: (17, 17) in [0, 1], centred, for a radius in pixels."""
    side = _WINDOW * _OVERSAMPLING
    image = Image.new("L", (side, side), 0)
    ImageDraw.Draw(image).polygon(
        [tuple(side / 2 + part * radius * _OVERSAMPLING for part in corner) for corner in _outline(shape)], fill=255
    )
    return np.asarray(image.resize((_WINDOW, _WINDOW), Image.Resampling.BOX), np.float32) / 255


def _outline(shape: str) -> list[tuple[float, float]]:
    """Return the corners of the shape in a circle of radius one; y grows downward."""
    if shape == "circle":
        return [(sin(2 * pi * corner / 120), cos(2 * pi * corner / 120)) for corner in range(120)]
    if shape == "square":
        return [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]
    if shape == "triangle":
        return [(0, -1), (1, 0.9), (-1, 0.9)]
    arm = 0.33  # half of its width
    quarter = [(-arm, -1.0), (arm, -1.0), (arm, -arm)]
    return [corner for turns in range(4) for corner in (_turned(point, turns) for point in quarter)]


def _turned(point: tuple[float, float], turns: int) -> tuple[float, float]:
    """Return the point turned by so many quarter turns."""
    x, y = point
    for _ in range(turns):
        x, y = -y, x
    return x, y
