"""What the client computes around a layer of `bfv` and `clear`: polynomials of its input, and its outputs from answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hecompile.backends.bfv.program import LayerProgram
from hecompile.errors import ProtocolError
from hecompile.ir.dequantizer import Dequantizer, leading, quantize_picture, quantize_with
from hecompile.ir.halves import Array

__all__ = ["Reading", "Sent", "revealed_values", "to_polynomials", "to_values"]


@dataclass(frozen=True, repr=False)
class Reading:
    """What the client keeps to read one layer's answers: the scales of the input, and its shape without the channels."""

    scales: npt.NDArray[np.float64]
    leading: tuple[int, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Sent:
    """What a request carries of a layer's input: polynomials (blocks, uploads, N) to encrypt, and revealed integers."""

    polynomials: npt.NDArray[np.int64]
    revealed: npt.NDArray[np.int64]


def to_polynomials(layer: LayerProgram, value: Array, batch: int) -> tuple[Sent, Reading]:
    """Quantise a layer's input; pack the encrypted part into polynomials and round the revealed part."""
    split, limit = layer.split, layer.parameters.limit
    integers, scales = quantize_picture(layer.geometry.to_picture(value), limit)
    if len(integers) != batch * layer.images_per_sample:
        raise ProtocolError(f"layer of {layer.input}: {len(integers)} pictures for a batch of {batch}")
    polynomials = layer.layout(batch).pack(split.sent(integers, layer.geometry))
    revealed = split.round(split.revealed_entries(integers, layer.geometry), limit)
    return Sent(polynomials, revealed), Reading(scales, leading(value, layer.geometry))


def revealed_values(layer: LayerProgram, value: Array, scales: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The revealed integers of a layer's input, for scales (E) that are already known."""
    split, limit = layer.split, layer.parameters.limit
    entries = split.revealed_entries(layer.geometry.to_picture(value), layer.geometry)
    return split.round(quantize_with(entries, np.repeat(scales, len(entries) // len(scales)), limit), limit)


def to_values(
    layer: LayerProgram, dequantizer: Dequantizer, read: Array, reading: Reading, batch: int, sums: Array | None = None
) -> list[Array]:
    """The layer's float32 outputs, from the gathered coefficients of all answers and, with tiles, sums over revealed entries."""
    layout, tiles = layer.layout(batch), layer.split.tiles
    integers = layout.gather(read.reshape(layout.blocks, layout.answers, -1))
    if tiles and sums is not None:
        integers = tiles.merge(integers, layer.geometry) + sums
    return dequantizer.values(integers, reading.scales, reading.leading)
