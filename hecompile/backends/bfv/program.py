"""What `bfv` and `clear` have in common: quantised layers, their program on disk, and the client's arithmetic around them.

A program (JSON) lists the layers of a region with geometry, parameters and one packing per batch size; it is the same document in
both halves. Scales and biases go to the client, int8 weights to the server.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pydantic

from hecompile.backends.base import RegionClient
from hecompile.backends.bfv.packing import Layout, Packing
from hecompile.backends.bfv.parameters import DIMENSIONS, LIMITS, MAX_WORD_BITS, T_BITS, Parameters, ProofKind
from hecompile.backends.program_io import MOST_BATCH, judge_batch, judge_bytes, judge_layers, judge_names, read_program
from hecompile.backends.readouts import readouts, tensor_of
from hecompile.errors import ProtocolError
from hecompile.ir.channels import ChannelSplit
from hecompile.ir.halves import Array, Half
from hecompile.ir.linear import Geometry
from hecompile.ir.products import Part, Readout, leading, quantize_picture

if TYPE_CHECKING:
    pass

__all__ = [
    "LayerProgram", "LayerWeights", "Reading", "RegionProgram", "Sent", "judge_messages", "readouts",
    "region_program", "to_polynomials", "to_values", "weights_of",
]  # fmt: skip


MOST_MULTIPLE = 1 << 20  # pictures of a layer's input per element of the batch
MOST_BITS = 1e4  # of a proved noise and its room


@dataclass(frozen=True)
class PackingRow:
    """The packing for one batch size, the low bits its answers drop, and what was proved."""

    share: int
    tile_rows: int
    p_in: int
    p_out: int
    drop_b: int
    drop_a: int
    proof: ProofKind
    noise_bits: float
    budget_bits: float


@dataclass(frozen=True)
class LayerProgram:
    """One product: public, the same for client and server. `packings[i]` is for batch i + 1."""

    input: str
    multiple: int
    geometry: Geometry
    parts: tuple[Part, ...]
    split: ChannelSplit
    parameters: Parameters
    q: int
    packings: tuple[PackingRow, ...]

    def __post_init__(self) -> None:
        parameters = self.parameters
        if self.split.channels != self.geometry.channels:
            raise ProtocolError(f"layer of {self.input}: {self.split} of {self.geometry.channels} channels")
        if self.split.tiles and not self.split.tiles.fits(self.geometry):
            raise ProtocolError(f"layer of {self.input}: {self.split.tiles}, which do not divide {self.geometry.size}")
        if parameters.dimension not in DIMENSIONS or not T_BITS[0] <= parameters.t_bits <= T_BITS[1]:
            raise ProtocolError(f"layer of {self.input}: parameters out of range: {parameters}")
        if parameters.t_bits >= parameters.q_bits or parameters.q_bits > MAX_WORD_BITS or self.q < 1:
            raise ProtocolError(f"layer of {self.input}: parameters out of range: {parameters}")
        if not LIMITS[0] <= parameters.limit <= LIMITS[1] or self.q.bit_length() != parameters.q_bits:
            raise ProtocolError(f"layer of {self.input}: parameters out of range: {parameters}, q {self.q}")
        if not 1 <= self.multiple <= MOST_MULTIPLE or not 1 <= len(self.packings) <= MOST_BATCH:
            raise ProtocolError(f"layer of {self.input}: {len(self.packings)} packings, {self.multiple} pictures per element")
        if sum(part.outputs for part in self.parts) != self.geometry.outputs:
            raise ProtocolError(f"layer of {self.input}: parts do not add up to {self.geometry.outputs} outputs")
        for row in self.packings:
            if min(row.drop_a, row.drop_b) < 0 or max(row.drop_a, row.drop_b) >= parameters.q_bits:
                raise ProtocolError(f"layer of {self.input}: bits dropped out of range: {row}")
            if not max(abs(row.noise_bits), abs(row.budget_bits)) <= MOST_BITS:
                raise ProtocolError(f"layer of {self.input}: a proof out of range: {row}")

    def layout(self, batch: int) -> Layout:
        """Where everything lies at this batch size. Raises `ProtocolError` beyond the largest."""
        judge_batch(batch, len(self.packings))
        return self._layouts[batch - 1]

    @cached_property
    def _layouts(self) -> list[Layout]:
        geometry, slots, dimension = self.split.encrypted_geometry(self.geometry), self.split.slots, self.parameters.dimension
        return [
            Layout(geometry, Packing(dimension, batch * self.multiple * slots, row.share, row.tile_rows, row.p_in, row.p_out))
            for batch, row in enumerate(self.packings, start=1)
        ]


@dataclass(frozen=True)
class RegionProgram:
    """A region's document."""

    region: str
    backend: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    layers: tuple[LayerProgram, ...]

    def __post_init__(self) -> None:
        if not self.layers or len({len(layer.packings) for layer in self.layers}) != 1:
            raise ProtocolError(f"region '{self.region}': no layers, or layers for different batch sizes")
        judge_names(self)
        judge_layers(self.region, self.layers, self.inputs, self.outputs)

    @property
    def max_batch(self) -> int:
        return len(self.layers[0].packings)


_PROGRAM = pydantic.TypeAdapter(RegionProgram)


def region_program(half: Half) -> RegionProgram:
    """The document of a half, checked. Raises `ProtocolError`."""
    program = read_program(_PROGRAM, half)
    for layer in program.layers:
        for batch in range(1, program.max_batch + 1):
            layer.layout(batch)
    return program


def judge_messages(client: RegionClient, program: RegionProgram) -> None:
    """Raises `ProtocolError` if a request or reply is larger than any may be, at whatever batch."""
    batches = range(1, program.max_batch + 1)
    judge_bytes(program.region, (size for batch in batches for size in (client.request_bytes(batch), client.reply_bytes(batch))))


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """The server's weights of a layer (rows, channels, K): for the encrypted channels of the picture and for the released ones.

    With tiles all channels are among the encrypted ones.
    """

    encrypted: npt.NDArray[np.int8]
    released: npt.NDArray[np.int8]

    def shown(self, split: ChannelSplit) -> npt.NDArray[np.int8]:
        """Those that meet what is released."""
        return self.encrypted if split.tiles else self.released

    @property
    def row_norm(self) -> int:
        """The largest sum of |weights| of a row."""
        norms = sum(np.abs(part.astype(np.int64)).sum(axis=(1, 2)) for part in (self.encrypted, self.released))
        return int(np.max(norms, initial=0))


def weights_of(half: Half, program: RegionProgram) -> list[LayerWeights]:
    """The server's weights, layer by layer."""
    result = []
    for index, layer in enumerate(program.layers):
        geometry, each = layer.geometry, layer.geometry.down[0] * layer.geometry.down[1]
        shapes = [(geometry.rows, len(part) * each, len(geometry.taps)) for part in (layer.split.encrypted, layer.split.released)]
        encrypted = tensor_of(half, f"{index}.weights", np.int8, shapes[0])
        has_released = bool(layer.split.released)
        released = tensor_of(half, f"{index}.released", np.int8, shapes[1]) if has_released else np.zeros(shapes[1], np.int8)
        result.append(LayerWeights(encrypted, released))
    return result


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


def to_values(
    layer: LayerProgram, readout: Readout, read: Array, reading: Reading, batch: int, sums: Array | None = None
) -> list[Array]:
    """The read coefficients of all answers, and with tiles the sums over what is released, as the layer's float32 outputs."""
    layout, tiles = layer.layout(batch), layer.split.tiles
    integers = layout.read(read.reshape(layout.blocks, layout.answers, -1))
    if tiles and sums is not None:
        integers = tiles.merge(integers, layer.geometry) + sums
    return readout.values(integers, reading.scales, reading.leading)
