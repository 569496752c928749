"""Turns a layer's input into integers, and its integer results into values again. It takes scales and biases, but no weights.

A linear operation may stand for several layers that read the same value: its parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hecompile.ir.channels import ChannelSplit
from hecompile.ir.linear import Array, Geometry, Part

__all__ = ["LARGEST", "Dequantizer", "finish", "leading", "quantize_picture", "quantize_with"]

LARGEST = 3.0e38  # larger values are clipped to it: the largest float32 is 3.4e38


def _split(tensor: Array, parts: Sequence[Part], tokens: bool) -> list[Array]:
    """Return the output channels of all parts as one array for each part."""
    stops = np.cumsum([part.outputs for part in parts])[:-1]
    return [np.ascontiguousarray(piece) for piece in np.split(tensor, stops, axis=-1 if tokens else 1)]


def leading(value: Array, geometry: Geometry) -> tuple[int, ...]:
    """Return the dimensions in front of the channels, which a layer over tokens keeps; empty for images."""
    return value.shape[:-1] if geometry.tokens else ()


def finish(picture: Array, geometry: Geometry, parts: Sequence[Part], bias: Array, leading: tuple[int, ...]) -> list[Array]:
    """Return the outputs of all parts, float32, from results (E, rows, *grid): rearranged as the geometry says, biases added."""
    tensor = np.clip(geometry.from_picture(picture, leading), -LARGEST, LARGEST).astype(np.float32)
    tensor += bias if geometry.tokens else bias[:, None, None]
    return _split(tensor, parts, geometry.tokens)


def quantize_picture(picture: Array, limit: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Quantise pictures (E, C, H, W) to integers in [-limit, limit]. Returns the integers and one scale per element, (E).

    An element of zeros has scale 1. NaN becomes zero and an infinity the largest float: the sizes of what is sent must not tell
    whether a value was finite.
    """
    finite = _finite(picture)
    peaks = np.abs(finite).max(axis=(1, 2, 3), initial=0.0)
    scales = np.where(peaks > 0, peaks / limit, 1.0)
    scales = np.where(scales > 0, scales, 1.0)  # a peak below limit times the smallest float divides to zero
    return quantize_with(finite, scales, limit), scales


def quantize_with(picture: Array, scales: npt.NDArray[np.float64], limit: int) -> npt.NDArray[np.int64]:
    """Quantise pictures (E, C, H, W) to integers in [-limit, limit] by the given scales (E)."""
    integers = np.clip(np.rint(_finite(picture) / scales[:, None, None, None]), -limit, limit)
    return integers.astype(np.int64)


def _finite(picture: Array) -> npt.NDArray[np.float64]:
    """Return the picture in doubles, with zero for NaN and the largest float for infinities."""
    finite: npt.NDArray[np.float64] = np.nan_to_num(picture.astype(np.float64), nan=0.0, posinf=LARGEST, neginf=-LARGEST)
    return finite


@dataclass(frozen=True, eq=False)
class Dequantizer:
    """What a client holds of a linear operation to turn integer results into values: geometry, scales and biases, no weights."""

    input: str
    geometry: Geometry
    parts: tuple[Part, ...]
    weight_scales: npt.NDArray[np.float64]  # (rows)
    bias: npt.NDArray[np.float32]  # (outputs)
    split: ChannelSplit

    def values(self, integers: Array, scales: Array, leading: tuple[int, ...]) -> list[Array]:
        """Return the outputs of all parts, float32, from integer results (E, rows, *grid) and the scales (E) of the input."""
        picture = integers.astype(np.float64) * (scales[:, None] * self.weight_scales)[:, :, None, None]
        return finish(picture, self.geometry, self.parts, self.bias, leading)
