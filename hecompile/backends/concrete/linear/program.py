"""The document of a region under `concrete`, which both halves hold: one circuit per layer, each for one element of the batch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

from hecompile.backends.concrete.frames import Frame
from hecompile.backends.concrete.limits import WIDTHS, ValueLimits
from hecompile.backends.concrete.specs import Specs, parse_specs
from hecompile.backends.program_io import Document, check_all, check_bytes, check_layer_names, read_program
from hecompile.errors import ProtocolError
from hecompile.ir.channels import ChannelSplit
from hecompile.ir.halves import Half
from hecompile.ir.linear import Geometry, Part

__all__ = ["ConcreteLayer", "LinearBody", "LinearProgram", "linear_program"]

MOST_TOKENS = 1 << 20  # pictures of a layer's input for one element of the batch


@dataclass(frozen=True)
class ConcreteLayer:
    """One layer as a circuit: its input integers stay within `limits`, and its results within [-largest, largest].

    Raises:
        ProtocolError: when built from parts that do not fit each other.
    """

    input: str
    images_per_sample: int
    geometry: Geometry
    parts: tuple[Part, ...]
    limits: ValueLimits
    largest: int
    specs: str
    request: Frame
    reply: Frame

    def __post_init__(self) -> None:
        specs, terms = self.circuit, self.geometry.picture[0] * len(self.geometry.taps)
        if not 1 <= self.images_per_sample <= MOST_TOKENS or not 0 <= self.largest < 1 << 62:
            raise ProtocolError(f"layer of {self.input}: numbers out of range")
        if not 1 <= self.limits.entry <= specs.numbers.source.reach or not terms <= self.limits.window**2 < 1 << 62:
            raise ProtocolError(f"layer of {self.input}: limits out of range")
        if sum(part.outputs for part in self.parts) != self.geometry.outputs:
            raise ProtocolError(f"layer of {self.input}: parts do not add up to {self.geometry.outputs} outputs")
        shapes = (1, *self.geometry.picture), (1, self.geometry.rows, *self.geometry.grid)
        if (specs.input_shape, specs.output_shape) != shapes or specs.lookups:
            raise ProtocolError(f"layer of {self.input}: the circuit's specification is of another layer")
        if (self.request.size, self.reply.size) != (8 * specs.input_words, 8 * specs.output_words):
            raise ProtocolError(f"layer of {self.input}: frames of another circuit")
        if not WIDTHS[0] <= specs.output_width <= WIDTHS[1]:
            raise ProtocolError(f"layer of {self.input}: a width of {specs.output_width} bits")

    @cached_property
    def circuit(self) -> Specs:
        """The circuit's specification, parsed and checked."""
        return parse_specs(self.specs)

    @property
    def split(self) -> ChannelSplit:
        """The split of the input's channels: all are encrypted, since `concrete` reveals nothing."""
        return ChannelSplit(self.geometry.channels)

    def elements(self, batch: int) -> int:
        """How many ciphertexts a request has at this batch size."""
        return batch * self.images_per_sample


@dataclass(frozen=True)
class LinearBody:
    """The part of a document that describes a region's circuits."""

    max_batch: int
    p_error: float
    layers: tuple[ConcreteLayer, ...]

    def check(self, document: Document[Any]) -> None:
        """Raise `ProtocolError` unless the parts of the document fit each other."""
        check_all(document.region, [(bool(self.layers) and 0 < self.p_error < 1, "no layers, or numbers out of range")])
        check_layer_names(document.region, self.layers, document.inputs, document.outputs)
        check_bytes(document.region, (self.request_bytes(self.max_batch), self.reply_bytes(self.max_batch)))

    def ciphertexts(self, batch: int) -> list[tuple[int, Frame, Frame]]:
        """For every ciphertext of a request, in order: the number of its circuit, and the frames of request and reply."""
        layers = enumerate(self.layers)
        return [(place, layer.request, layer.reply) for place, layer in layers for _ in range(layer.elements(batch))]

    def request_bytes(self, batch: int) -> int:
        """Bytes of a request at this batch size."""
        return sum(layer.elements(batch) * layer.request.size for layer in self.layers)

    def reply_bytes(self, batch: int) -> int:
        """Bytes of a reply at this batch size."""
        return sum(layer.elements(batch) * layer.reply.size for layer in self.layers)


LinearProgram: TypeAlias = Document[LinearBody]


def linear_program(half: Half) -> LinearProgram:
    """Read and check the document of a half. Raises `ProtocolError` if it is malformed."""
    return read_program(half, LinearBody)
