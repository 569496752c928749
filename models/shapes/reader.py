"""Reads exactly what is in a picture, by nearest colours, connected components, and overlap with the shapes as they are drawn.

It makes no mistake on pictures of `scenes.drawn`, so what it finds wrong in a sampled picture is the model's fault. A shape that
overlaps less than 0.7 with every template counts as unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from hecompile.models.shapes.scenes import COLOURS, SHAPES, SIZES, Picture, Scene, mask

__all__ = ["ATTRIBUTES", "Reading", "Seen", "agreement", "read", "shares"]

Floats = npt.NDArray[Any]
ATTRIBUTES = ("background", "count", "shape", "colour", "size", "relation", "all")

_PALETTE = np.array(list(COLOURS.values()), np.float32)
_FIELD = 41  # side of the window in which shapes are compared, at twice the picture's resolution
_LEAST_PIXELS, _LEAST_OVERLAP, _CONTRAST = 60, 0.7, 50.0
_BETWEEN_SIZES = sum(SIZES.values()) / 2
_LEAST_SHIFT = 2.0  # pixels by which one thing must be shifted to count as beside another


@dataclass(frozen=True)
class Seen:
    """A thing in a picture. `shape` is "?" for a blob like none of the shapes; `x` and `y` are its centre in pixels."""

    shape: str
    colour: str
    size: str
    x: float
    y: float


@dataclass(frozen=True)
class Reading:
    """The background of a picture and the things in it."""

    background: str
    things: tuple[Seen, ...]


def read(picture: Picture) -> Reading:
    """Return what is in a picture (32, 32, 3)."""
    from scipy import ndimage

    pixels = _twice(picture).astype(np.float32)
    nearest = ((pixels[:, :, None] - _PALETTE) ** 2).sum(-1).argmin(-1)
    border = np.concatenate([nearest[0], nearest[-1], nearest[:, 0], nearest[:, -1]])
    ground = int(np.bincount(border, minlength=len(COLOURS)).argmax())
    colour = np.median(pixels[nearest == ground], axis=0)
    labels, count = ndimage.label(((pixels - colour) ** 2).sum(-1) > _CONTRAST**2)
    blobs = (_seen(pixels, labels == label, colour) for label in range(1, count + 1))
    return Reading(list(COLOURS)[ground], tuple(blob for blob in blobs if blob is not None))


def _seen(pixels: Floats, inside: Floats, ground: Floats) -> Seen | None:
    """Return the thing that these pixels show; None if they are too few."""
    from scipy import ndimage

    if inside.sum() < _LEAST_PIXELS:
        return None
    core = ndimage.binary_erosion(inside, iterations=2)
    colour = np.median(pixels[core if core.sum() > 8 else inside], axis=0)
    towards = colour - ground
    share = ((pixels - ground) @ towards) / ((towards**2).sum() + 1e-6)  # 0 on the background, 1 in the thing
    rows, columns = np.nonzero(inside & (share > 0.5))
    if len(rows) < _LEAST_PIXELS:
        return None
    kinds, templates = _templates()
    own = _centred(rows, columns)
    shared = templates @ own
    overlaps = shared / (templates.sum(axis=1) + len(rows) - shared)
    best = int(overlaps.argmax())
    shape, radius = kinds[best]
    name = list(COLOURS)[int(((_PALETTE - colour) ** 2).sum(-1).argmin())]
    size = "small" if radius < _BETWEEN_SIZES else "large"
    return Seen(shape if overlaps[best] >= _LEAST_OVERLAP else "?", name, size, columns.mean() / 2, rows.mean() / 2)


@cache
def _templates() -> tuple[list[tuple[str, float]], Floats]:
    """Return every shape at radii from 3 to 7.5 pixels, each also shifted by half a pixel: their kinds, and their pixels, one row
    each."""
    kinds, rows = [], []
    for shape in SHAPES:
        for radius in np.arange(3, 7.6, 0.25):
            places = np.nonzero(_twice((mask(shape, float(radius)) * 255).astype(np.uint8)) > 127)
            for down in (-1, 0, 1):
                for right in (-1, 0, 1):
                    kinds.append((shape, float(radius)))
                    rows.append(_centred(places[0] + down, places[1] + right, (down, right)))
    return kinds, np.stack(rows)


def _centred(rows: Floats, columns: Floats, shift: tuple[int, int] = (0, 0)) -> Floats:
    """Return these pixels as a flat window of zeros and ones around their centre, moved by `shift`."""
    window = np.zeros((_FIELD, _FIELD), np.float32)
    middle = _FIELD // 2
    down = rows - round(float((rows - shift[0]).mean())) + middle
    right = columns - round(float((columns - shift[1]).mean())) + middle
    inside = (down >= 0) & (down < _FIELD) & (right >= 0) & (right < _FIELD)
    window[down[inside], right[inside]] = 1
    return window.ravel()


def _twice(picture: Picture) -> npt.NDArray[np.uint8]:
    """Return a picture at twice its resolution."""
    height, width = picture.shape[:2]
    return np.asarray(Image.fromarray(picture).resize((2 * width, 2 * height), Image.Resampling.BICUBIC))


def agreement(scene: Scene, reading: Reading) -> dict[str, float]:
    """Return, for each of `ATTRIBUTES`, the share that the picture has right. `relation` exists for two things only; `all` is 1 or
    0.

    Things are matched in the order that agrees best. A thing that is missing counts as wrong.
    """
    order = max(_orders(scene, reading), key=lambda seen: _likeness(scene, seen))
    pairs = list(zip(scene.things, order, strict=True))
    result = {"background": float(reading.background == scene.background), "count": float(len(reading.things) == len(scene.things))}
    for name in ("shape", "colour", "size"):
        result[name] = float(np.mean([seen is not None and getattr(thing, name) == getattr(seen, name) for thing, seen in pairs]))
    if scene.relation is not None:
        result["relation"] = float(_related(scene.relation, order))
    result["all"] = float(all(share == 1 for share in result.values()))
    return result


def _orders(scene: Scene, reading: Reading) -> Iterable[tuple[Seen | None, ...]]:
    """Return all ways to match what was seen to the things of the scene; None stands for a missing thing."""
    missing = max(0, len(scene.things) - len(reading.things))
    return permutations((*reading.things, *(None for _ in range(missing))), len(scene.things))


def _likeness(scene: Scene, order: Sequence[Seen | None]) -> float:
    """Return how well things in this order agree with the scene."""
    names = ("shape", "colour", "size")
    pairs = [(thing, seen) for thing, seen in zip(scene.things, order, strict=True) if seen is not None]
    alike = sum(getattr(thing, name) == getattr(seen, name) for thing, seen in pairs for name in names)
    related = scene.relation is not None and _related(scene.relation, order)
    return float(alike) + 0.1 * related


def _related(relation: str, order: Sequence[Seen | None]) -> bool:
    """Return whether the first thing has this relation to the second."""
    first, second = order
    if first is None or second is None:
        return False
    right, down = second.x - first.x, second.y - first.y
    along, across = {"above": (down, right), "below": (-down, right), "left of": (right, down), "right of": (-right, down)}[
        relation
    ]
    return along > _LEAST_SHIFT and along > abs(across)


def shares(scenes: Sequence[Scene], pictures: Iterable[Picture]) -> dict[str, float]:
    """Return the mean of `agreement` over all pictures, by attribute."""
    rows = [agreement(scene, read(picture)) for scene, picture in zip(scenes, pictures, strict=True)]
    return {name: float(np.mean([row[name] for row in rows if name in row])) for name in ATTRIBUTES}
