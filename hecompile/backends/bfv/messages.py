"""What a request and a reply of a region consist of, and how long each part is. Both follow from document and batch size alone.

A request has one part per layer: `b` of every upload, q_bits per word; a seed of 32 bytes for each group of up to 64 blocks, from
which their `a` is expanded; and revealed entries, if any. A reply has one part per layer, too: `b` at the gathered coefficients,
then one `a` for each group of blocks, both without their dropped low bits; and, where tiles are revealed, the sums over those.

In regions where one seed may serve several requests of a run, a request begins with a byte. `FIRST`: the request brings the seeds.
`LATER`: layers with shared seeds send none, and the reply leaves out their `a`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hecompile import _core
from hecompile.backends.bfv.program import LayerProgram, RegionProgram
from hecompile.backends.bfv.revealed import revealed_bytes, sums_bytes
from hecompile.backends.bfv.rings import MODE_BYTES
from hecompile.errors import ProtocolError

__all__ = ["FIRST", "LATER", "LayerSizes", "core_layout", "layer_sizes", "mode_bytes"]

FIRST, LATER = 0, 1


@dataclass(frozen=True)
class LayerSizes:
    """The bytes of each piece of one layer's part of a request (`up`) and of its reply (`down`)."""

    up_words: int
    up_seeds: int
    up_revealed: int
    down_b: int
    down_a: int
    down_sums: int

    @property
    def up(self) -> int:
        return self.up_words + self.up_seeds + self.up_revealed

    @property
    def down(self) -> int:
        return self.down_b + self.down_a + self.down_sums


def core_layout(layer: LayerProgram, batch: int) -> _core.Layout:
    """The layer's layout as an object of the core. Raises `ProtocolError` for numbers that the core refuses."""
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
            (packing.images_per_poly, packing.band_rows, packing.p_in, packing.p_out),
            (row.drop_b, row.drop_a),
        )
    except ValueError as error:
        raise ProtocolError(f"layer of {layer.input}: {error}") from error


def layer_sizes(layer: LayerProgram, layout: _core.Layout, batch: int, mode: int = FIRST) -> LayerSizes:
    """The sizes of a layer's part of a request and reply at this batch size. `mode` is `FIRST` or `LATER`."""
    brings = mode == FIRST or layer.requests == 1
    return LayerSizes(
        layout.up_bytes,
        layout.seeds * _core.SEED_BYTES if brings else 0,
        revealed_bytes(layer, batch),
        layout.down_b_bytes,
        layout.down_a_bytes if brings else 0,
        sums_bytes(layer, batch),
    )


def mode_bytes(program: RegionProgram) -> int:
    """How many bytes for the mode stand before a request: 0 in regions where every request has seeds of its own."""
    return MODE_BYTES if any(layer.requests > 1 for layer in program.body.layers) else 0
