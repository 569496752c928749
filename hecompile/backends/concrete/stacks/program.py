"""The document of a stack under `concrete_stacks`, which both halves hold: one circuit, for one element of the batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hecompile.backends.concrete.frames import Frame
from hecompile.backends.concrete.limits import WIDTHS
from hecompile.backends.concrete.specs import Specs, parse_specs
from hecompile.backends.program_io import Document, check_all, check_bytes, read_program
from hecompile.errors import ProtocolError
from hecompile.ir.dequantizer import LARGEST
from hecompile.ir.halves import Array, Half

__all__ = [
    "StackBody",
    "StackDequantizer",
    "StackProgram",
    "pieces",
    "quantise",
    "stack_dequantizer",
    "stack_program",
    "unshifted",
    "vector",
]  # fmt: skip

UNITS = (1e-30, 1e30)  # the least and the largest unit, the value of one step
MOST_DIMENSIONS = 8


@dataclass(frozen=True)
class StackBody:
    """The part of a document that describes a stack.

    `units` are the values of one step of each input, before the scale of a request. `largest` bounds the magnitude of every value,
    `norm` is the largest 2-norm of an output's coefficients, and integers are sent with `shift` low bits for noise.
    """

    max_batch: int
    p_error: float
    input_shapes: tuple[tuple[int, ...], ...]  # of one element
    output_shapes: tuple[tuple[int, ...], ...]  # of one element
    units: tuple[float, ...]
    limit: int
    largest: int
    norm: float
    shift: int
    products: int
    layers: int
    distortion_db: float
    specs: str
    request: Frame
    reply: Frame

    def check(self, document: Document[Any]) -> None:
        """Raise `ProtocolError` unless the parts of the document fit each other."""
        specs, numbers = self.circuit, (self.limit, self.largest, self.products, self.layers)
        shapes = (*self.input_shapes, *self.output_shapes)
        conditions = [
            (all(1 <= number < 1 << 62 for number in numbers) and 0 < self.p_error < 1, "numbers out of range"),
            (len(document.inputs) == len(self.input_shapes) == len(self.units), "not one shape and one unit for each input"),
            (len(document.outputs) == len(self.output_shapes), "not one shape for each output"),
            (all(size >= 1 for shape in shapes for size in shape), "sizes below one"),
            (all(len(shape) <= MOST_DIMENSIONS for shape in shapes), "shapes with too many dimensions"),
            (0 < self.norm <= UNITS[1] and 0 <= self.shift < WIDTHS[1], "coefficients or low bits out of range"),
            (self.limit << self.shift <= specs.numbers.source.reach, "integers that the encoding does not hold"),
            (all(UNITS[0] <= unit <= UNITS[1] for unit in self.units), "units out of range"),
            (specs.input_shape == (1, sum(self.input_sizes)), "the circuit's specification is of another stack"),
            (specs.output_shape == (1, sum(self.output_sizes)) and not specs.lookups, "the circuit's results are of another stack"),
            (self.request.size == 8 * specs.input_words, "requests of another circuit"),
            (self.reply.size == 8 * specs.output_words, "replies of another circuit"),
            (WIDTHS[0] <= specs.output_width <= WIDTHS[1], f"a width of {specs.output_width} bits"),
        ]
        check_all(document.region, conditions)
        check_bytes(document.region, (self.request_bytes(self.max_batch), self.reply_bytes(self.max_batch)))

    @cached_property
    def circuit(self) -> Specs:
        """The circuit's specification, parsed and checked."""
        return parse_specs(self.specs)

    @property
    def input_sizes(self) -> list[int]:
        """How many entries each input of one element has."""
        return [math.prod(shape) for shape in self.input_shapes]

    @property
    def output_sizes(self) -> list[int]:
        """How many entries each output of one element has."""
        return [math.prod(shape) for shape in self.output_shapes]

    def ciphertexts(self, batch: int) -> list[tuple[int, Frame, Frame]]:
        """For every ciphertext of a request, in order: the number of its circuit, and the frames of request and reply."""
        return [(0, self.request, self.reply)] * batch

    def request_bytes(self, batch: int) -> int:
        """Bytes of a request at this batch size."""
        return batch * self.request.size

    def reply_bytes(self, batch: int) -> int:
        """Bytes of a reply at this batch size."""
        return batch * self.reply.size


StackProgram: TypeAlias = Document[StackBody]


def stack_program(half: Half) -> StackProgram:
    """Read and check the document of a half. Raises `ProtocolError` if it is malformed."""
    return read_program(half, StackBody)


def vector(values: Sequence[Array]) -> Array:
    """Join values (E, ...) to one vector for each element: (E, entries)."""
    return np.concatenate([value.reshape(len(value), -1) for value in values], axis=1)


def pieces(entries: Array, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """Cut vectors (E, entries) into values (E, *shape), one for every shape. This is the inverse of `vector`."""
    parts = np.split(entries, np.cumsum([math.prod(shape) for shape in shapes])[:-1], axis=1)
    return [piece.reshape(len(piece), *shape) for piece, shape in zip(parts, shapes, strict=True)]


def unshifted(integers: Array, shift: int) -> npt.NDArray[np.float64]:
    """Round the `shift` low bits of results away, which hold noise only."""
    rounded: npt.NDArray[np.float64] = np.rint(integers.astype(np.float64) / 2**shift)
    return rounded


def quantise(entries: Array, units: npt.NDArray[np.float64], limit: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Quantise to integers (E, entries) within the limit, with a scale for each element (E): entries = scale x units x integers.

    NaN becomes zero and infinite values become large finite ones, so that a server learns nothing from refusals of such values.
    """
    steps = np.clip(np.nan_to_num(entries.astype(np.float64), nan=0.0), -LARGEST, LARGEST) / units
    scales = np.abs(steps).max(axis=1, initial=0.0) / limit
    scales = np.where(scales > 0, scales, 1.0)
    return np.clip(np.rint(steps / scales[:, None]), -limit, limit).astype(np.int64), scales


@dataclass(frozen=True, eq=False)
class StackDequantizer:
    """Maps a client's values to a stack's integers and back.

    `units` are those of the outputs by entry, and `offset` are the outputs for inputs of zero.
    """

    program: StackProgram
    units: npt.NDArray[np.float64]
    offset: npt.NDArray[np.float32]

    def integers(self, values: Sequence[Array]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Quantise all inputs as one vector for each element, with `shift` low bits. Raises `ProtocolError` for other shapes."""
        body, region = self.program.body, self.program.region
        shapes, batches = [value.shape[1:] for value in values], {len(value) for value in values}
        if shapes != [*body.input_shapes] or len(batches) != 1:
            raise ProtocolError(f"region '{region}': inputs of {shapes}, expected {body.input_shapes}")
        integers, scales = quantise(vector(values), np.repeat(body.units, body.input_sizes), body.limit)
        return integers << body.shift, scales

    def values(self, integers: Array, scales: npt.NDArray[np.float64]) -> list[Array]:
        """The outputs in float32 from the circuit's results (E, entries), whose noise is rounded away."""
        values = unshifted(integers, self.program.body.shift) * self.units * scales[:, None] + self.offset
        entries = np.clip(values, -LARGEST, LARGEST).astype(np.float32)
        return [np.ascontiguousarray(piece) for piece in pieces(entries, self.program.body.output_shapes)]


def stack_dequantizer(half: Half) -> StackDequantizer:
    """Read the units and offsets of a client half. Raises `ProtocolError` if its tensors do not fit its document."""
    from hecompile.backends.tensors import tensor_of

    program = stack_program(half)
    shape = (sum(program.body.output_sizes),)
    units, offset = tensor_of(half, "units", np.float64, shape), tensor_of(half, "offset", np.float32, shape)
    if set(half.tensors) != {"units", "offset"} or not (np.abs(units) <= UNITS[1]).all() or not np.isfinite(offset).all():
        raise ProtocolError(f"region '{program.region}': its tensors must be finite units and offsets, and no others")
    return StackDequantizer(program, units, offset)
