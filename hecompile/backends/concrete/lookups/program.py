"""The document of a region with table lookups, which both halves hold: one circuit, for one element of the batch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

from hecompile.backends.concrete.frames import Frame
from hecompile.backends.concrete.specs import Specs, parse_specs
from hecompile.backends.program_io import Document, check_all, check_bytes, read_program
from hecompile.ir.halves import Half

__all__ = ["LookupBody", "LookupProgram", "Range", "key_name", "lookup_program"]

LARGEST_KEY = 1 << 31  # bytes of all evaluation keys
KEY_HEADERS = 1 << 16  # the most bytes of a serialised set of keys that are not words
USUAL_PS = 240.0  # picoseconds of a unit of complexity on a usual machine, as is `Machine`'s default
LONGEST_S = 3600.0  # the longest time limit of an evaluation
SCALES = (1e-30, 1e30)  # the least and the largest scale of a quantiser


@dataclass(frozen=True)
class Range:
    """The integers that a quantiser gives, from `low` to `high`, and the value `scale` of one step."""

    scale: float
    low: int
    high: int


@dataclass(frozen=True)
class LookupBody:
    """The part of a document that describes a region's circuit. `widths` is a text for reports only."""

    max_batch: int
    p_error: float
    specs: str
    request: Frame
    reply: Frame
    source: Range
    result_scale: float
    key_bytes: int  # of the evaluation keys as they are sent
    lookups: int
    complexity: float
    widths: str
    distortion_db: float

    def check(self, document: Document[Any]) -> None:
        """Raise `ProtocolError` unless the parts of the document fit each other."""
        specs, (least, most) = self.circuit, self.circuit.numbers.source.span
        keys = specs.numbers.key_bytes
        conditions = [
            (len(document.inputs) == 1 and len(document.outputs) == 1, "not one input and one output"),
            (0 < self.p_error < 1 and len(self.widths) <= 100 and self.widths.isprintable(), "numbers out of range"),
            (all(SCALES[0] <= scale <= SCALES[1] for scale in (self.source.scale, self.result_scale)), "scales out of range"),
            (
                least <= self.source.low < self.source.high <= most,
                "a quantiser without steps, or with more than its encoding holds",
            ),
            (specs.lookups and 1 <= self.lookups <= 1 << 40 and 0 < self.complexity <= 1e30, "no table lookups, or too many"),
            (keys < self.key_bytes <= min(LARGEST_KEY, keys + KEY_HEADERS), f"keys of {self.key_bytes} bytes"),
            (min(len(specs.input_shape), len(specs.output_shape)) > 1, "a circuit without a batch"),
            (specs.input_shape[0] == specs.output_shape[0] == 1, "a circuit for several elements"),
            (self.request.size == 8 * specs.input_words, "requests of another circuit"),
            (self.reply.size == 8 * specs.output_words, "replies of another circuit"),
        ]
        check_all(document.region, conditions)
        check_bytes(document.region, (self.max_batch * self.request.size, self.max_batch * self.reply.size))

    @cached_property
    def circuit(self) -> Specs:
        """The circuit's specification, parsed and checked."""
        return parse_specs(self.specs)

    @property
    def cpu_s(self) -> float:
        """CPU seconds that one evaluation takes on a usual machine."""
        return self.complexity * USUAL_PS * 1e-12

    @property
    def limit_s(self) -> float:
        """The time limit in seconds after which an evaluation of one element is given up."""
        return min(60 + 20 * self.cpu_s, LONGEST_S)


LookupProgram: TypeAlias = Document[LookupBody]


def lookup_program(half: Half) -> LookupProgram:
    """Read and check the document of a half. Raises `ProtocolError` if it is malformed."""
    return read_program(half, LookupBody)


def key_name(program: LookupProgram) -> str:
    """The name of the region's evaluation keys in a session."""
    return f"concrete_{program.region}"
