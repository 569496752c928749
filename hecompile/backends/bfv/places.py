"""Where a layer's inputs and results lie in float32 tensors, as offsets and steps for the core."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hecompile import _core
from hecompile.backends.bfv.program import LayerProgram
from hecompile.errors import ProtocolError
from hecompile.ir.dequantizer import Dequantizer
from hecompile.ir.linear import Geometry, Part

__all__ = ["client_layer"]

Places = npt.NDArray[np.int64]


def client_layer(layer: LayerProgram, layout: _core.Layout, dequantizer: Dequantizer, batch: int) -> _core.ClientLayer:
    """The layer as the core runs it at the client.

    Its input is a float32 tensor (E, C, H, W) or (..., L, C), its results are the tensors of its parts.

    Raises:
        ProtocolError: if an offset lies outside a tensor.
    """
    geometry, split, pictures = layer.geometry, layer.split, batch * layer.images_per_sample
    size = geometry.channels * geometry.size[0] * geometry.size[1]
    starts = np.arange(pictures, dtype=np.int64) * size
    channels, heights, widths, steps = _input_places(geometry)
    if split.tiles:
        height, width = split.tiles.block(geometry)
        tops, lefts = np.divmod(np.array(split.tiles.encrypted, np.int64), split.tiles.columns)
        starts = (starts[:, None] + tops * (height * steps[0]) + lefts * (width * steps[1])).reshape(-1)
        heights, widths = np.full_like(heights, height), np.full_like(widths, width)  # no tile is cut off at the border
    sent_channels = split.places(split.encrypted, geometry)
    try:
        client = _core.make_client_layer(
            layout,
            layer.parameters.limit,
            layer.requests,
            (pictures, size),
            starts,
            np.repeat(np.arange(pictures, dtype=np.int32), split.tiles_per_picture),
            channels[sent_channels],
            heights[sent_channels],
            widths[sent_channels],
            steps,
        )
        if not split.tiles:  # results of tiles overlap, so they are first added up as integers
            rows, sizes = _result_places(geometry, layer.parts, pictures)
            bias = np.repeat(dequantizer.bias, geometry.up[0] * geometry.up[1])
            client.set_results(rows, dequantizer.weight_scales, np.ascontiguousarray(bias), sizes)
    except ValueError as error:
        raise ProtocolError(f"layer of {layer.input}: {error}") from error
    return client


def _input_places(geometry: Geometry) -> tuple[Places, npt.NDArray[np.int32], npt.NDArray[np.int32], tuple[int, int]]:
    """For every channel of the picture its offset in the tensor, its rows and its columns; and the steps from row to row and from
    column to column.
    """
    height, width = geometry.size
    if geometry.tokens:
        count = geometry.channels
        return np.arange(count), np.full(count, height, np.int32), np.ones(count, np.int32), (count, 1)
    channel, y, x = (index.reshape(-1) for index in np.indices((geometry.channels, *geometry.down)))
    rows, columns = (-(-(height - y) // geometry.down[0])), (-(-(width - x) // geometry.down[1]))
    starts = (channel * height + y) * width + x
    return starts, rows.clip(0).astype(np.int32), columns.clip(0).astype(np.int32), (geometry.down[0] * width, geometry.down[1])


def _result_places(geometry: Geometry, parts: tuple[Part, ...], pictures: int) -> tuple[Places, list[int]]:
    """(rows, 7): for every row of the result its part, offset, and steps from element to element, row to row and column to column,
    its height and its width. And how many floats each part has.
    """
    height, width = geometry.out_size
    output, y, x = (index.reshape(-1) for index in np.indices((geometry.outputs, *geometry.up)))
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
