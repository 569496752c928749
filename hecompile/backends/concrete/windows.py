"""Chooses the limits of a circuit's input, and quantises pictures within them.

A result is the sum of weights times the entries of one window of the picture, so by Cauchy and Schwarz it is at most the 2-norm
of a row of weights times the 2-norm of the window. The client knows the picture and keeps its entries and its windows within
limits. This takes two bits less than the worst picture would, and every bit adds 40 words to a ciphertext. The limits are scaled
so that the largest result just fits a whole number of bits.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from hecompile.backends.concrete.limits import LIMIT, ValueLimits
from hecompile.ir.dequantizer import quantize_picture
from hecompile.ir.linear import Array, Geometry, correlate

__all__ = ["largest_result", "limits_for", "quantise_windows"]


def _terms(geometry: Geometry) -> int:
    """How many entries a window has."""
    return geometry.picture[0] * len(geometry.taps)


def _usual_limits(geometry: Geometry) -> ValueLimits:
    """Limits for windows of a quarter of the largest possible norm, which normal values with a peak of four sigma just reach."""
    terms = math.sqrt(_terms(geometry))
    return ValueLimits(LIMIT, math.ceil(max(LIMIT, LIMIT * terms / 4) + terms))


def limits_for(geometry: Geometry, weights: npt.NDArray[np.int8]) -> ValueLimits:
    """The usual limits, scaled by up to half a bit so that the largest result fills the nearest whole number of bits."""
    usual = _usual_limits(geometry)
    largest = largest_result(geometry, weights, usual)
    if largest < LIMIT:  # weights are nearly zero, so the input decides on the width
        return usual
    factor = (2 ** round(math.log2(largest)) - 2) / largest
    return ValueLimits(math.floor(usual.entry * factor), math.floor(usual.window * factor))


def largest_result(geometry: Geometry, weights: npt.NDArray[np.int8], limits: ValueLimits) -> int:
    """A bound of the magnitude of all results, for pictures within the limits."""
    wide = weights.astype(np.float64).reshape(len(weights), -1)
    by_windows: int = math.floor(np.sqrt(np.square(wide).sum(axis=1).max()) * limits.window) + 1
    by_entries = int(np.abs(wide).sum(axis=1).max()) * limits.entry
    return max(1, min(by_windows, by_entries))


def _largest_windows(picture: Array, geometry: Geometry) -> npt.NDArray[np.float64]:
    """The largest 2-norm of a window of each element: (E, C, H, W) -> (E)."""
    squares = np.square(picture.astype(np.float64)).sum(axis=1, keepdims=True)
    sums = correlate(squares, np.ones((1, 1, len(geometry.taps))), geometry.taps, geometry.grid)
    norms: npt.NDArray[np.float64] = np.sqrt(sums.max(axis=(1, 2, 3), initial=0.0))
    return norms


def quantise_windows(
    picture: Array, geometry: Geometry, limits: ValueLimits
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Quantise pictures (E, C, H, W) to integers within both limits, and return them with one scale for each element (E)."""
    integers, scales = quantize_picture(picture, limits.entry)
    room = limits.window - math.sqrt(_terms(geometry)) / 2  # rounding moves each entry by at most half a step
    coarser = np.maximum(1.0, (_largest_windows(integers, geometry) + math.sqrt(_terms(geometry)) / 2) / room)
    scales = scales * coarser
    finite = np.nan_to_num(picture.astype(np.float64), nan=0.0, posinf=3.0e38, neginf=-3.0e38)
    again = np.clip(np.rint(finite / scales[:, None, None, None]), -limits.entry, limits.entry).astype(np.int64)
    return np.where((coarser > 1)[:, None, None, None], again, integers), scales
