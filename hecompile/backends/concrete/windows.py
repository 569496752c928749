"""Values within the limits of a circuit: the usual limits, and a picture quantised within them.

A result is a sum of weights times what one window of the picture holds, so by Cauchy and Schwarz it is at most the 2-norm of a row
times the 2-norm of a window. The client has the picture and keeps both its entries and its windows within limits; that needs two
bits less than the worst picture would, and every bit adds 40 words to a ciphertext. A width is a whole number of bits: the limits
are such that the largest result just fills the nearest one, so that no fraction of a bit is sent for nothing.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from hecompile.backends.concrete.limits import LIMIT, Limits
from hecompile.ir.linear import Array, Geometry, correlate
from hecompile.ir.readout import quantize_picture

__all__ = ["largest_result", "limits_for", "quantise_windows"]


def _terms(geometry: Geometry) -> int:
    """Entries of a window."""
    return geometry.picture[0] * len(geometry.taps)


def _usual_limits(geometry: Geometry) -> Limits:
    """Windows of a quarter of what they could be, which normal values with a peak of four sigma just reach."""
    terms = math.sqrt(_terms(geometry))
    return Limits(LIMIT, math.ceil(max(LIMIT, LIMIT * terms / 4) + terms))


def limits_for(geometry: Geometry, weights: npt.NDArray[np.int8]) -> Limits:
    """The usual limits times what fills the nearest whole width: between half a bit less and half a bit more."""
    usual = _usual_limits(geometry)
    largest = largest_result(geometry, weights, usual)
    if largest < LIMIT:  # hardly any weights: the values decide on the width
        return usual
    factor = (2 ** round(math.log2(largest)) - 2) / largest
    return Limits(math.floor(usual.entry * factor), math.floor(usual.window * factor))


def largest_result(geometry: Geometry, weights: npt.NDArray[np.int8], limits: Limits) -> int:
    """No result is beyond, for pictures within the limits."""
    wide = weights.astype(np.float64).reshape(len(weights), -1)
    by_windows: int = math.floor(np.sqrt(np.square(wide).sum(axis=1).max()) * limits.window) + 1
    by_entries = int(np.abs(wide).sum(axis=1).max()) * limits.entry
    return max(1, min(by_windows, by_entries))


def _largest_windows(picture: Array, geometry: Geometry) -> npt.NDArray[np.float64]:
    """The largest 2-norm of a window, per element: (E)."""
    squares = np.square(picture.astype(np.float64)).sum(axis=1, keepdims=True)
    sums = correlate(squares, np.ones((1, 1, len(geometry.taps))), geometry.taps, geometry.grid)
    norms: npt.NDArray[np.float64] = np.sqrt(sums.max(axis=(1, 2, 3), initial=0.0))
    return norms


def quantise_windows(picture: Array, geometry: Geometry, limits: Limits) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Integers within both limits with one scale per element: (E, C, H, W) -> same, and (E) scales."""
    integers, scales = quantize_picture(picture, limits.entry)
    room = limits.window - math.sqrt(_terms(geometry)) / 2  # rounding moves an entry by half a step at most
    coarser = np.maximum(1.0, (_largest_windows(integers, geometry) + math.sqrt(_terms(geometry)) / 2) / room)
    scales = scales * coarser
    finite = np.nan_to_num(picture.astype(np.float64), nan=0.0, posinf=3.0e38, neginf=-3.0e38)
    again = np.clip(np.rint(finite / scales[:, None, None, None]), -limits.entry, limits.entry).astype(np.int64)
    return np.where((coarser > 1)[:, None, None, None], again, integers), scales
