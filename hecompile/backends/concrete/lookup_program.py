"""The document of a region with lookups, the same in both halves: one circuit, for one element of the batch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pydantic

from hecompile.backends.base import Half
from hecompile.backends.concrete.frames import Frame
from hecompile.backends.concrete.specs import Specs, parse_specs
from hecompile.backends.documents import judge_batch, read_program
from hecompile.cost.machine import Machine
from hecompile.errors import ProtocolError

__all__ = ["LookupProgram", "lookup_program"]

LARGEST_KEY = 1 << 33


@dataclass(frozen=True)
class Range:
    """Integers that a quantiser gives, and what one step is worth."""

    scale: float
    low: int
    high: int


@dataclass(frozen=True)
class LookupProgram:
    """A region's document. `widths` for people."""

    region: str
    backend: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
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

    def __post_init__(self) -> None:
        if len(self.inputs) != 1 or len(self.outputs) != 1 or self.max_batch < 1 or not 0 < self.p_error < 1:
            raise ProtocolError(f"region '{self.region}': one input, one output and numbers in range are wanted")
        if not (self.source.scale > 0 and self.result_scale > 0 and self.source.low < self.source.high):
            raise ProtocolError(f"region '{self.region}': a quantiser without steps")
        if not 0 < self.key_bytes <= LARGEST_KEY or self.lookups < 1 or not self.complexity > 0:
            raise ProtocolError(f"region '{self.region}': keys of {self.key_bytes} bytes, {self.lookups} lookups")
        if (self.request.size, self.reply.size) != (8 * self.circuit.input_words, 8 * self.circuit.output_words):
            raise ProtocolError(f"region '{self.region}': frames of another circuit")

    @cached_property
    def circuit(self) -> Specs:
        """The specification, parsed."""
        return parse_specs(self.specs)

    @property
    def key_name(self) -> str:
        """Under which the keys lie in a session."""
        return f"concrete_{self.region}"

    @property
    def cpu_s(self) -> float:
        """CPU seconds of one evaluation on a usual machine."""
        return self.complexity * Machine().lookup_ps * 1e-12

    @property
    def limit_s(self) -> float:
        """After so long an evaluation of one element is given up."""
        return 60 + 20 * self.cpu_s

    def judge_batch(self, batch: int) -> None:
        """Raises `ProtocolError` beyond the largest."""
        judge_batch(batch, self.max_batch)


_PROGRAM = pydantic.TypeAdapter(LookupProgram)


def lookup_program(half: Half) -> LookupProgram:
    """The document of a half, checked. Raises `ProtocolError`."""
    return read_program(_PROGRAM, half)
