"""The document of a region of quantised layers, which `bfv` and `clear` have in common.

The document (JSON) lists the layers of a region with geometry, parameters and one packing per batch size. Both halves hold the same
document. The client's half also has scales and biases, the server's half int8 weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from hecompile.backends.bfv.packing import Layout, Packing
from hecompile.backends.bfv.parameters import DIMENSIONS, LIMITS, MAX_WORD_BITS, T_BITS, Parameters, ProofKind
from hecompile.backends.bfv.rings import REUSED_Q_BITS, prime
from hecompile.backends.program_io import MOST_BATCH, Document, check_batch, check_bytes, check_layer_names, read_program
from hecompile.errors import ProtocolError
from hecompile.ir.channels import ChannelSplit
from hecompile.ir.linear import Geometry, Part

if TYPE_CHECKING:
    from hecompile.backends.region_client import RegionClient
    from hecompile.ir.halves import Half

__all__ = ["LayerProgram", "PackingRow", "RegionProgram", "check_messages", "region_program"]

MOST_IMAGES_PER_SAMPLE = 1 << 20  # pictures of a layer's input per sample of the batch
MOST_REQUESTS = 1 << 20
MOST_BITS = 1e4  # largest log2 of a proved noise and of its budget


@dataclass(frozen=True)
class PackingRow:
    """The packing of a layer for one batch size, the low bits that its answers drop, and the noise bound that was proved."""

    images_per_poly: int
    band_rows: int
    p_in: int
    p_out: int
    drop_b: int
    drop_a: int
    proof: ProofKind
    noise_bits: float
    budget_bits: float


@dataclass(frozen=True)
class LayerProgram:
    """One linear layer of a document: public, and the same for client and server. `packings[i]` is for batch size i + 1.

    `requests` is how many requests of a run one public seed may serve; 1 means a fresh seed for every request.
    """

    input: str
    images_per_sample: int
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
            raise ProtocolError(
                f"layer of {self.input}: a split of {self.split.channels} channels, expected {self.geometry.channels}"
            )
        if self.split.tiles and not self.split.tiles.fits(self.geometry):
            raise ProtocolError(
                f"layer of {self.input}: tiles that do not divide its picture of {self.geometry.size}: {self.split.tiles}"
            )
        if parameters.dimension not in DIMENSIONS or not T_BITS[0] <= parameters.t_bits <= T_BITS[1]:
            raise ProtocolError(f"layer of {self.input}: parameters out of range: {parameters}")
        if parameters.t_bits >= parameters.q_bits or parameters.q_bits > MAX_WORD_BITS or self.q < 1:
            raise ProtocolError(f"layer of {self.input}: parameters out of range: {parameters}")
        if not LIMITS[0] <= parameters.limit <= LIMITS[1] or self.q.bit_length() != parameters.q_bits:
            raise ProtocolError(f"layer of {self.input}: parameters out of range: {parameters}, q {self.q}")
        if not 1 <= self.requests <= (MOST_REQUESTS if parameters.q_bits <= REUSED_Q_BITS else 1):
            raise ProtocolError(
                f"layer of {self.input}: one seed may not serve {self.requests} requests with q of {parameters.q_bits} bits"
            )
        if not 1 <= self.images_per_sample <= MOST_IMAGES_PER_SAMPLE or not 1 <= len(self.packings) <= MOST_BATCH:
            raise ProtocolError(
                f"layer of {self.input}: out of range: {len(self.packings)} packings, {self.images_per_sample} pictures a sample"
            )
        if sum(part.outputs for part in self.parts) != self.geometry.outputs:
            raise ProtocolError(f"layer of {self.input}: its parts do not have {self.geometry.outputs} outputs together")
        for row in self.packings:
            if min(row.drop_a, row.drop_b) < 0 or max(row.drop_a, row.drop_b) >= parameters.q_bits:
                raise ProtocolError(f"layer of {self.input}: dropped bits out of range: {row}")
            if not max(abs(row.noise_bits), abs(row.budget_bits)) <= MOST_BITS:
                raise ProtocolError(f"layer of {self.input}: noise_bits or budget_bits out of range: {row}")

    def check_ring(self) -> None:
        """Raises `ProtocolError` unless q is the prime of the client's own table of rings."""
        if self.q != prime(self.parameters.q_bits, self.parameters.t_bits):
            raise ProtocolError(f"layer of {self.input}: q is {self.q}, not the table's prime for {self.parameters}")

    def layout(self, batch: int) -> Layout:
        """The layout of the layer's pictures in polynomials at this batch size. Raises `ProtocolError` beyond the largest one."""
        check_batch(batch, len(self.packings))
        return self._layouts[batch - 1]

    @cached_property
    def _layouts(self) -> list[Layout]:
        geometry, tiles, dimension = (
            self.split.encrypted_geometry(self.geometry),
            self.split.tiles_per_picture,
            self.parameters.dimension,
        )
        return [
            Layout(
                geometry,
                Packing(dimension, batch * self.images_per_sample * tiles, row.images_per_poly, row.band_rows, row.p_in, row.p_out),
            )
            for batch, row in enumerate(self.packings, start=1)
        ]


@dataclass(frozen=True)
class RegionBody:
    """The layers of a region, as the document lists them."""

    layers: tuple[LayerProgram, ...]

    @property
    def max_batch(self) -> int:
        return min((len(layer.packings) for layer in self.layers), default=0)

    def check(self, document: Document[Any]) -> None:
        if len({len(layer.packings) for layer in self.layers}) != 1:
            raise ProtocolError(f"region '{document.region}': layers for different batch sizes")
        if document.backend == "bfv":  # `clear` has no ring
            for layer in self.layers:
                layer.check_ring()
        check_layer_names(document.region, self.layers, document.inputs, document.outputs)


RegionProgram: TypeAlias = Document[RegionBody]


def region_program(half: Half) -> RegionProgram:
    """The checked document of a half. Raises `ProtocolError` if it is not one that hecompile writes."""
    program = read_program(half, RegionBody)
    for layer in program.body.layers:
        for batch in range(1, program.max_batch + 1):
            layer.layout(batch)
    return program


def check_messages(client: RegionClient, program: RegionProgram) -> None:
    """Raises `ProtocolError` if a request or reply of any batch size is larger than `MOST_BYTES`."""
    batches = range(1, program.max_batch + 1)
    check_bytes(program.region, (size for batch in batches for size in (client.request_bytes(batch), client.reply_bytes(batch))))
