"""What `bfv` and `clear` have in common: the document of quantised layers.

A program (JSON) lists the layers of a region with geometry, parameters and one packing per batch size; it is the same document in
both halves. Scales and biases go to the client, int8 weights to the server.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from hecompile.backends.bfv.packing import Layout, Packing
from hecompile.backends.bfv.parameters import DIMENSIONS, LIMITS, MAX_WORD_BITS, T_BITS, Parameters, ProofKind
from hecompile.backends.bfv.rings import REUSED_Q_BITS, prime
from hecompile.backends.program_io import MOST_BATCH, Document, judge_batch, judge_bytes, judge_layers, read_program
from hecompile.errors import ProtocolError
from hecompile.ir.channels import ChannelSplit
from hecompile.ir.linear import Geometry, Part

if TYPE_CHECKING:
    from hecompile.backends.region_client import RegionClient
    from hecompile.ir.halves import Half

__all__ = ["LayerProgram", "PackingRow", "RegionProgram", "judge_messages", "region_program"]

MOST_MULTIPLE = 1 << 20  # pictures of a layer's input per element of the batch
MOST_REQUESTS = 1 << 20
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
    """One product: public, the same for client and server. `packings[i]` is for batch i + 1.

    `requests` is how many requests of a run one public seed may serve: 1 is a fresh seed for each.
    """

    input: str
    multiple: int
    geometry: Geometry
    parts: tuple[Part, ...]
    split: ChannelSplit
    parameters: Parameters
    q: int
    requests: int
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
        if not 1 <= self.requests <= (MOST_REQUESTS if parameters.q_bits <= REUSED_Q_BITS else 1):
            raise ProtocolError(f"layer of {self.input}: a seed for {self.requests} requests at q of {parameters.q_bits} bits")
        if not 1 <= self.multiple <= MOST_MULTIPLE or not 1 <= len(self.packings) <= MOST_BATCH:
            raise ProtocolError(f"layer of {self.input}: {len(self.packings)} packings, {self.multiple} pictures per element")
        if sum(part.outputs for part in self.parts) != self.geometry.outputs:
            raise ProtocolError(f"layer of {self.input}: parts do not add up to {self.geometry.outputs} outputs")
        for row in self.packings:
            if min(row.drop_a, row.drop_b) < 0 or max(row.drop_a, row.drop_b) >= parameters.q_bits:
                raise ProtocolError(f"layer of {self.input}: bits dropped out of range: {row}")
            if not max(abs(row.noise_bits), abs(row.budget_bits)) <= MOST_BITS:
                raise ProtocolError(f"layer of {self.input}: a proof out of range: {row}")

    def judge_ring(self) -> None:
        """Raises `ProtocolError` unless q is the prime of our own table."""
        if self.q != prime(self.parameters.q_bits, self.parameters.t_bits):
            raise ProtocolError(f"layer of {self.input}: q is {self.q}, not the table's prime for {self.parameters}")

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
class RegionBody:
    """What a document says of a region's layers."""

    layers: tuple[LayerProgram, ...]

    @property
    def max_batch(self) -> int:
        return min((len(layer.packings) for layer in self.layers), default=0)

    def judge(self, document: Document[Any]) -> None:
        if len({len(layer.packings) for layer in self.layers}) != 1:
            raise ProtocolError(f"region '{document.region}': layers for different batch sizes")
        if document.backend == "bfv":  # `clear` has no ring
            for layer in self.layers:
                layer.judge_ring()
        judge_layers(document.region, self.layers, document.inputs, document.outputs)


RegionProgram: TypeAlias = Document[RegionBody]


def region_program(half: Half) -> RegionProgram:
    """The document of a half, checked. Raises `ProtocolError`."""
    program = read_program(half, RegionBody)
    for layer in program.body.layers:
        for batch in range(1, program.max_batch + 1):
            layer.layout(batch)
    return program


def judge_messages(client: RegionClient, program: RegionProgram) -> None:
    """Raises `ProtocolError` if a request or reply is larger than any may be, at whatever batch."""
    batches = range(1, program.max_batch + 1)
    judge_bytes(program.region, (size for batch in batches for size in (client.request_bytes(batch), client.reply_bytes(batch))))
