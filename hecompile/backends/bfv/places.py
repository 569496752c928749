"""Where a layer's values lie in tensors, for the core: its input's entries, and its results in the tensors of its parts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hecompile import _core
from hecompile.backends.bfv.program import LayerProgram
from hecompile.errors import ProtocolError
from hecompile.ir.linear import Geometry, Part
from hecompile.ir.readout import Readout

__all__ = ["client_layer"]

Places = npt.NDArray[np.int64]


def client_layer(layer: LayerProgram, layout: _core.Layout, readout: Readout, batch: int) -> _core.ClientLayer:
    """A layer as the core runs it at the client: entries of (E, C, H, W) or (..., L, C) float32 in, and its parts' tensors out.

    Raises:
        ProtocolError: for places outside of its tensors.
    """
    geometry, split, pictures = layer.geometry, layer.split, batch * layer.multiple
    size = geometry.channels * geometry.size[0] * geometry.size[1]
    starts = np.arange(pictures, dtype=np.int64) * size
    channels, heights, widths, steps = _input_places(geometry)
    if split.tiles:
        height, width = split.tiles.block(geometry)
        tops, lefts = np.divmod(np.array(split.tiles.encrypted, np.int64), split.tiles.columns)
        starts = (starts[:, None] + tops * (height * steps[0]) + lefts * (width * steps[1])).reshape(-1)
        heights, widths = np.full_like(heights, height), np.full_like(widths, width)  # tiles are whole
    chosen = split.places(split.encrypted, geometry)
    try:
        found = _core.make_client_layer(
            layout,
            layer.parameters.limit,
            layer.requests,
            (pictures, size),
            starts,
            np.repeat(np.arange(pictures, dtype=np.int32), split.slots),
            channels[chosen],
            heights[chosen],
            widths[chosen],
            steps,
        )
        if not split.tiles:  # tiles overlap: their results are added up as integers
            rows, sizes = _result_places(geometry, layer.parts, pictures)
            bias = np.repeat(readout.bias, geometry.up[0] * geometry.up[1])
            found.set_results(rows, readout.weight_scales, np.ascontiguousarray(bias), sizes)
    except ValueError as error:
        raise ProtocolError(f"layer of {layer.input}: {error}") from error
    return found


def _input_places(geometry: Geometry) -> tuple[Places, npt.NDArray[np.int32], npt.NDArray[np.int32], tuple[int, int]]:
    """Of every channel of the picture: where it starts, rows and columns that there are; and the steps between those."""
    height, width = geometry.size
    if geometry.tokens:
        count = geometry.channels
        return np.arange(count), np.full(count, height, np.int32), np.ones(count, np.int32), (count, 1)
    channel, y, x = (each.reshape(-1) for each in np.indices((geometry.channels, *geometry.down)))
    rows, columns = (-(-(height - y) // geometry.down[0])), (-(-(width - x) // geometry.down[1]))
    starts = (channel * height + y) * width + x
    return starts, rows.clip(0).astype(np.int32), columns.clip(0).astype(np.int32), (geometry.down[0] * width, geometry.down[1])


def _result_places(geometry: Geometry, parts: tuple[Part, ...], pictures: int) -> tuple[Places, list[int]]:
    """For every row of the result its part, offset, element step, row step, column step, height and width; sizes of the parts."""
    height, width = geometry.out_size
    output, y, x = (each.reshape(-1) for each in np.indices((geometry.outputs, *geometry.up)))
    outputs = np.array([part.outputs for part in parts])
    part = np.repeat(np.arange(len(parts)), outputs)[output]
    within, many = output - (np.cumsum(outputs) - outputs)[part], outputs[part]
    ones = np.ones_like(part)
    if geometry.tokens:
        places = (part, within, height * many, many, ones, height * ones, ones)
    else:
        rows, columns = (-(-(height - y) // geometry.up[0])).clip(0), (-(-(width - x) // geometry.up[1])).clip(0)
        offset = (within * height + y) * width + x
        places = (part, offset, many * height * width, geometry.up[0] * width * ones, geometry.up[1] * ones, rows, columns)
    return np.ascontiguousarray(np.stack(places, axis=1)), [int(pictures * count * height * width) for count in outputs]
