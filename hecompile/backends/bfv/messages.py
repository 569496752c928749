"""What travels for a region, and the core's view of its layers: functions of the program and the batch, never of the data.

A request is its layers' parts one after another: `b` of every upload, q_bits a word; a seed of 32 bytes for each group of up to
64 blocks, from which their `a` is expanded; released entries, if any. A reply's part is `b` at the coefficients that are read, then
one `a` for each group, without their dropped low bits, then with tiles the sums over what is released.

Where seeds may serve several requests of a run, a request begins with a byte: `FIRST` brings the seeds, `LATER` does not, and is
answered by `b` alone, for those layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hecompile import _core
from hecompile.backends.bfv.program import LayerProgram, RegionProgram
from hecompile.backends.bfv.released import released_bytes, sums_bytes
from hecompile.backends.bfv.rings import MODE_BYTES
from hecompile.errors import ProtocolError

__all__ = ["FIRST", "LATER", "LayerSizes", "core_layout", "layer_sizes", "mode_bytes"]

FIRST, LATER = 0, 1


@dataclass(frozen=True)
class LayerSizes:
    """Bytes of one layer's part of a request and its reply."""

    up_words: int
    up_seeds: int
    up_released: int
    down_b: int
    down_a: int
    down_sums: int

    @property
    def up(self) -> int:
        return self.up_words + self.up_seeds + self.up_released

    @property
    def down(self) -> int:
        return self.down_b + self.down_a + self.down_sums


def core_layout(layer: LayerProgram, batch: int) -> _core.Layout:
    """The layer's layout in the core. Raises `ProtocolError` for numbers that make none."""
    layout, row, parameters = layer.layout(batch), layer.packings[batch - 1], layer.parameters
    geometry, packing = layout.geometry, layout.packing
    try:
        return _core.make_layout(
            parameters.dimension,
            layer.q,
            parameters.t_bits,
            packing.elements,
            geometry.picture,
            (geometry.rows, *geometry.grid),
            np.array(geometry.taps, np.int32),
            (packing.share, packing.tile_rows, packing.p_in, packing.p_out),
            (row.drop_b, row.drop_a),
        )
    except ValueError as error:
        raise ProtocolError(f"layer of {layer.input}: {error}") from error


def layer_sizes(layer: LayerProgram, layout: _core.Layout, batch: int, mode: int = FIRST) -> LayerSizes:
    """What travels for a layer at this batch size."""
    brings = mode == FIRST or layer.requests == 1
    return LayerSizes(
        layout.up_bytes,
        layout.seeds * _core.SEED_BYTES if brings else 0,
        released_bytes(layer, batch),
        layout.down_b_bytes,
        layout.down_a_bytes if brings else 0,
        sums_bytes(layer, batch),
    )


def mode_bytes(program: RegionProgram) -> int:
    """Bytes of the mode that requests begin with: none where no seed serves several."""
    return MODE_BYTES if any(layer.requests > 1 for layer in program.body.layers) else 0
