"""The document of a region with lookups, the same in both halves: one circuit, for one element of the batch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

from hecompile.backends.concrete.frames import Frame
from hecompile.backends.concrete.specs import Specs, parse_specs
from hecompile.backends.program_io import Document, judge_bytes, judge_facts, read_program
from hecompile.ir.halves import Half

__all__ = ["LookupBody", "LookupProgram", "Range", "key_name", "lookup_program"]

LARGEST_KEY = 1 << 31
KEY_HEADERS = 1 << 16  # bytes of a serialised set of keys beside its words, at most
USUAL_PS = 240.0  # a unit of complexity on a usual machine, as `Machine` has it by default
LONGEST_S = 3600.0  # no evaluation is waited for longer
SCALES = (1e-30, 1e30)


@dataclass(frozen=True)
class Range:
    """Integers that a quantiser gives, and what one step is worth."""

    scale: float
    low: int
    high: int


@dataclass(frozen=True)
class LookupBody:
    """What a document says of a region's circuit. `widths` for people."""

    max_batch: int
    p_error: float
    specs: str
    request: Frame
    reply: Frame
    source: Range
    result_scale: float
    key_bytes: int  # of the evaluation keys as they travel
    lookups: int
    complexity: float
    widths: str
    distortion_db: float

    def judge(self, document: Document[Any]) -> None:
        specs, (least, most) = self.circuit, self.circuit.numbers.source.span
        keys = specs.numbers.key_bytes
        facts = [
            (len(document.inputs) == 1 and len(document.outputs) == 1, "one input and one output are wanted"),
            (0 < self.p_error < 1 and len(self.widths) <= 100 and self.widths.isprintable(), "numbers out of range"),
            (all(SCALES[0] <= scale <= SCALES[1] for scale in (self.source.scale, self.result_scale)), "scales out of range"),
            (least <= self.source.low < self.source.high <= most, "a quantiser without steps, or with more than its encoding"),
            (specs.lookups and 1 <= self.lookups <= 1 << 40 and 0 < self.complexity <= 1e30, "no lookups, or too many"),
            (keys < self.key_bytes <= min(LARGEST_KEY, keys + KEY_HEADERS), f"keys of {self.key_bytes} bytes"),
            (min(len(specs.input_shape), len(specs.output_shape)) > 1, "a circuit without a batch"),
            (specs.input_shape[0] == specs.output_shape[0] == 1, "a circuit for several elements"),
            (self.request.size == 8 * specs.input_words, "requests of another circuit"),
            (self.reply.size == 8 * specs.output_words, "replies of another circuit"),
        ]
        judge_facts(document.region, facts)
        judge_bytes(document.region, (self.max_batch * self.request.size, self.max_batch * self.reply.size))

    @cached_property
    def circuit(self) -> Specs:
        """The specification, parsed."""
        return parse_specs(self.specs)

    @property
    def cpu_s(self) -> float:
        """CPU seconds of one evaluation on a usual machine."""
        return self.complexity * USUAL_PS * 1e-12

    @property
    def limit_s(self) -> float:
        """After so long an evaluation of one element is given up."""
        return min(60 + 20 * self.cpu_s, LONGEST_S)


LookupProgram: TypeAlias = Document[LookupBody]


def lookup_program(half: Half) -> LookupProgram:
    """The document of a half, checked. Raises `ProtocolError`."""
    return read_program(half, LookupBody)


def key_name(program: LookupProgram) -> str:
    """Under which the keys lie in a session."""
    return f"concrete_{program.region}"
