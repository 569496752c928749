"""The document of a linear stack under `concrete_stacks`, the same in both halves: one circuit, for one element of the batch."""

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
from hecompile.backends.program_io import Document, judge_bytes, judge_facts, read_program
from hecompile.errors import ProtocolError
from hecompile.ir.halves import Array, Half
from hecompile.ir.readout import LARGEST

__all__ = [
    "StackBody", "StackProgram", "StackReadout", "pieces", "quantise", "stack_program", "stack_readout", "unshifted", "vector",
]  # fmt: skip

UNITS = (1e-30, 1e30)  # least and most of what a step is worth
MOST_DIMENSIONS = 8


@dataclass(frozen=True)
class StackBody:
    """What a document says of a stack.

    `units` are what a step of each input is worth before the request's scale; no value is beyond `largest`, `norm` is the largest
    2-norm of an output's coefficients, and integers travel with `shift` low bits for the noise.
    """

    max_batch: int
    p_error: float
    input_shapes: tuple[tuple[int, ...], ...]  # of one element
    output_shapes: tuple[tuple[int, ...], ...]
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

    def judge(self, document: Document[Any]) -> None:
        specs, numbers = self.circuit, (self.limit, self.largest, self.products, self.layers)
        shapes = (*self.input_shapes, *self.output_shapes)
        facts = [
            (all(1 <= number < 1 << 62 for number in numbers) and 0 < self.p_error < 1, "numbers out of range"),
            (len(document.inputs) == len(self.input_shapes) == len(self.units), "as many shapes and units as inputs are wanted"),
            (len(document.outputs) == len(self.output_shapes), "as many shapes as outputs are wanted"),
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
        judge_facts(document.region, facts)
        judge_bytes(document.region, (self.request_bytes(self.max_batch), self.reply_bytes(self.max_batch)))

    @cached_property
    def circuit(self) -> Specs:
        """The specification, parsed."""
        return parse_specs(self.specs)

    @property
    def input_sizes(self) -> list[int]:
        """Entries of the inputs of one element."""
        return [math.prod(shape) for shape in self.input_shapes]

    @property
    def output_sizes(self) -> list[int]:
        """Entries of the outputs."""
        return [math.prod(shape) for shape in self.output_shapes]

    def ciphertexts(self, batch: int) -> list[tuple[int, Frame, Frame]]:
        """The circuit, request and reply of every ciphertext, in order."""
        return [(0, self.request, self.reply)] * batch

    def request_bytes(self, batch: int) -> int:
        """Size of every request."""
        return batch * self.request.size

    def reply_bytes(self, batch: int) -> int:
        """Size of every reply."""
        return batch * self.reply.size


StackProgram: TypeAlias = Document[StackBody]


def stack_program(half: Half) -> StackProgram:
    """The document of a half, checked. Raises `ProtocolError`."""
    return read_program(half, StackBody)


def vector(values: Sequence[Array]) -> Array:
    """Values (E, ...) side by side: (E, entries)."""
    return np.concatenate([value.reshape(len(value), -1) for value in values], axis=1)


def pieces(entries: Array, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """The other way round: (E, entries) -> (E, *shape) for every shape."""
    found = np.split(entries, np.cumsum([math.prod(shape) for shape in shapes])[:-1], axis=1)
    return [piece.reshape(len(piece), *shape) for piece, shape in zip(found, shapes, strict=True)]


def unshifted(integers: Array, shift: int) -> npt.NDArray[np.float64]:
    """Results without the low bits that their noise had, rounded."""
    found: npt.NDArray[np.float64] = np.rint(integers.astype(np.float64) / 2**shift)
    return found


def quantise(entries: Array, units: npt.NDArray[np.float64], limit: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Integers within the limit (E, entries) and a scale per element (E), with entries = scale x units x integers about.

    NaN becomes zero, and what is beyond it the largest float, whatever the sender was given: the traffic must not tell.
    """
    steps = np.clip(np.nan_to_num(entries.astype(np.float64), nan=0.0), -LARGEST, LARGEST) / units
    scales = np.abs(steps).max(axis=1, initial=0.0) / limit
    scales = np.where(scales > 0, scales, 1.0)
    return np.clip(np.rint(steps / scales[:, None]), -limit, limit).astype(np.int64), scales


@dataclass(frozen=True, eq=False)
class StackReadout:
    """The client's arithmetic around a stack's integers: `units` by entry, `offset` what comes out where zero goes in."""

    program: StackProgram
    units: npt.NDArray[np.float64]
    offset: npt.NDArray[np.float32]

    def integers(self, values: Sequence[Array]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """All inputs as one vector per element, as `quantise` gives it, shifted. Raises `ProtocolError` for other shapes."""
        body, region = self.program.body, self.program.region
        shapes, batches = [value.shape[1:] for value in values], {len(value) for value in values}
        if shapes != [*body.input_shapes] or len(batches) != 1:
            raise ProtocolError(f"region '{region}': inputs of {shapes}, expected {body.input_shapes}")
        found, scales = quantise(vector(values), np.repeat(body.units, body.input_sizes), body.limit)
        return found << body.shift, scales

    def values(self, integers: Array, scales: npt.NDArray[np.float64]) -> list[Array]:
        """The outputs in float32 from the circuit's integers (E, entries), rounded to what they are without noise."""
        found = unshifted(integers, self.program.body.shift) * self.units * scales[:, None] + self.offset
        entries = np.clip(found, -LARGEST, LARGEST).astype(np.float32)
        return [np.ascontiguousarray(piece) for piece in pieces(entries, self.program.body.output_shapes)]


def stack_readout(half: Half) -> StackReadout:
    """Of the client's half. Raises `ProtocolError` if its tensors are not what its document says."""
    from hecompile.backends.tensors import tensor_of

    program = stack_program(half)
    shape = (sum(program.body.output_sizes),)
    units, offset = tensor_of(half, "units", np.float64, shape), tensor_of(half, "offset", np.float32, shape)
    if set(half.tensors) != {"units", "offset"} or not (np.abs(units) <= UNITS[1]).all() or not np.isfinite(offset).all():
        raise ProtocolError(f"region '{program.region}': units or offsets are not finite, or more tensors than those")
    return StackReadout(program, units, offset)
