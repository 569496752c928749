"""The client's arithmetic around a layer of `bfv` and `clear`: its input to polynomials, and answers to its outputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hecompile.backends.bfv.program import LayerProgram
from hecompile.errors import ProtocolError
from hecompile.ir.halves import Array
from hecompile.ir.readout import Readout, leading, quantize_picture, quantize_with

__all__ = ["Reading", "Sent", "shown_of", "to_polynomials", "to_values"]


@dataclass(frozen=True, repr=False)
class Reading:
    """What the client needs later to read one layer's answer: the input's scales and the shape around its channels."""

    scales: npt.NDArray[np.float64]
    leading: tuple[int, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Sent:
    """What a layer's input becomes: polynomials (blocks, uploads, N) to encrypt, and integers to show (`ChannelSplit.shown`)."""

    polynomials: npt.NDArray[np.int64]
    released: npt.NDArray[np.int64]


def to_polynomials(layer: LayerProgram, value: Array, batch: int) -> tuple[Sent, Reading]:
    """Quantise a layer's input, place what is encrypted and round what is released."""
    split, limit = layer.split, layer.parameters.limit
    integers, scales = quantize_picture(layer.geometry.to_picture(value), limit)
    if len(integers) != batch * layer.multiple:
        raise ProtocolError(f"layer of {layer.input}: {len(integers)} pictures for a batch of {batch}")
    polynomials = layer.layout(batch).place(split.sent(integers, layer.geometry))
    released = split.round(split.shown(integers, layer.geometry), limit)
    return Sent(polynomials, released), Reading(scales, leading(value, layer.geometry))


def shown_of(layer: LayerProgram, value: Array, scales: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """What is released of a layer's input alone, for scales (E) that are known."""
    split, limit = layer.split, layer.parameters.limit
    shown = split.shown(layer.geometry.to_picture(value), layer.geometry)
    return split.round(quantize_with(shown, np.repeat(scales, len(shown) // len(scales)), limit), limit)


def to_values(
    layer: LayerProgram, readout: Readout, read: Array, reading: Reading, batch: int, sums: Array | None = None
) -> list[Array]:
    """The read coefficients of all answers, and with tiles the sums over what is released, as the layer's float32 outputs."""
    layout, tiles = layer.layout(batch), layer.split.tiles
    integers = layout.read(read.reshape(layout.blocks, layout.answers, -1))
    if tiles and sums is not None:
        integers = tiles.merge(integers, layer.geometry) + sums
    return readout.values(integers, reading.scales, reading.leading)
