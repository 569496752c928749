"""Slot programs: the operations of a `ckks` region on vectors of slots, one operation a line.

    %a = he.input "silu" : level 4, scale 8589934592.0
    %b = he.rotate %a {steps = 1} : ...
    %c = he.dot %a, %b {table = @t0, row = 0, roll = 0, scaled = @s0} : ...      sum of argument i times row + i of the table
    %d = he.add %c, %e        he.plus %c {table = @b0}       he.switch %c        he.rescale %c
    %f = he.mul %c, %d        he.relinearize %f              he.polynomial %c {table = @p0}
    he.output %f "conv2"

Tables are named tensors. A table with one row per timestep bin is read at the row of the request's bin. A program states the level,
scale and range of every value, and an engine checks all of them. The same program runs on SEAL and on plain vectors
(`ckks/engine.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from hecompile.backends.ckks.ring import CkksRing
from hecompile.errors import ProtocolError

__all__ = ["KINDS", "SlotOp", "SlotProgram", "parse_program", "print_program"]

KINDS = {
    # kind: (least arguments, most arguments, attributes)
    "input": (0, 0, ()), "rotate": (1, 1, ("steps",)), "dot": (1, 64, ("table", "row", "roll", "scaled")),
    "add": (2, 2, ()), "plus": (1, 1, ("table",)), "switch": (1, 1, ()), "rescale": (1, 1, ()), "mul": (2, 2, ()),
    "relinearize": (1, 1, ()), "polynomial": (1, 1, ("table",)), "output": (1, 1, ()),
}  # fmt: skip

Attribute = int | str


@dataclass(frozen=True)
class SlotOp:
    """One operation, which is one line of the text. Errors name its `label`: a tensor at inputs and outputs, a layer elsewhere."""

    name: str
    kind: str
    args: tuple[str, ...]
    level: int
    scale: float
    range: float  # values should stay in [-range, range]
    label: str = ""
    attributes: Mapping[str, Attribute] = field(default_factory=dict)

    def __str__(self) -> str:
        """The operation as its line of the text."""
        head = "" if self.kind == "output" else f"%{self.name} = "
        parts = [", ".join(f"%{argument}" for argument in self.args)] if self.args else []
        if self.label:
            parts.append(f'"{self.label}"')
        if self.attributes:
            parts.append("{" + ", ".join(f"{key} = {value}" for key, value in self.attributes.items()) + "}")
        return f"{head}he.{self.kind} {' '.join(parts)} : level {self.level}, scale {self.scale!r}, range {self.range:.6g}"


@dataclass(frozen=True)
class SlotProgram:
    """A ring, and the operations in order."""

    ring: CkksRing
    ops: tuple[SlotOp, ...]

    def op(self, name: str) -> SlotOp:
        """The operation that makes the value `name`. Raises `KeyError` if there is none."""
        for op in self.ops:
            if op.name == name and op.kind != "output":
                return op
        raise KeyError(name)

    @property
    def steps(self) -> tuple[int, ...]:
        """Every number of slots by which the program rotates, each once. Each needs a rotation key."""
        return tuple(sorted({int(op.attributes["steps"]) for op in self.ops if op.kind == "rotate"}))

    @property
    def multiplies(self) -> bool:
        """True if the program needs a relinearization key."""
        return any(op.kind in ("relinearize", "polynomial") for op in self.ops)

    def counts(self) -> dict[str, int]:
        """How many operations there are, by kind; a `dot` counts once for each argument."""
        counts: dict[str, int] = {}
        for op in self.ops:
            counts[op.kind] = counts.get(op.kind, 0) + (len(op.args) if op.kind == "dot" else 1)
        return counts


def print_program(program: SlotProgram) -> str:
    """Write the program as text, which `parse_program` reads back."""
    ring = program.ring
    bits = ", ".join(map(str, ring.bits))
    return "\n".join([f"ring {ring.dimension} primes [{bits}] special {ring.special_bits}", *map(str, program.ops)]) + "\n"


MOST_CHARACTERS = 1 << 24  # of a program
_RING = re.compile(r"ring ([0-9]{1,6}) primes \[([0-9]{1,3}(?:, [0-9]{1,3}){0,63})\] special ([0-9]{1,3})")
_LINE = re.compile(
    r"(?:%(?P<name>\w+) = )?he\.(?P<kind>\w+)(?P<args>(?: %\w+,?)*)(?: \"(?P<label>[^\"]*)\")?(?: \{(?P<attributes>[^}]*)\})?"
    r" : level (?P<level>[0-9]{1,3}), scale (?P<scale>[0-9.e+]{1,40}), range (?P<range>[0-9.e+-]{1,40})",
    re.ASCII,
)


def parse_program(text: str) -> SlotProgram:
    """Parse the text of a program.

    Raises:
        ProtocolError: naming the first line that is not an operation, or saying that the text is too long or names no ring.
    """
    if len(text) > MOST_CHARACTERS:
        raise ProtocolError(f"slot program: {len(text)} characters, at most {MOST_CHARACTERS} are read")
    lines = text.splitlines()
    head = _RING.fullmatch(lines[0]) if lines else None
    if head is None:
        raise ProtocolError("slot program: the first line names no ring")
    ring = CkksRing(int(head[1]), tuple(map(int, head[2].split(","))), int(head[3]))
    return SlotProgram(ring, tuple(_parse_line(number, line) for number, line in enumerate(lines[1:], start=2)))


def _parse_line(number: int, line: str) -> SlotOp:
    """The operation of one line. Raises `ProtocolError` naming the line's number."""
    match = _LINE.fullmatch(line)
    if match is None or match["kind"] not in KINDS or (match["name"] is None) != (match["kind"] == "output"):
        raise ProtocolError(f"slot program, line {number}: not an operation: {line[:80]}")
    attributes: dict[str, Attribute] = {}
    for item in (match["attributes"] or "").split(", ") if match["attributes"] else ():
        key, separator, value = item.partition(" = ")
        if not separator or key in attributes:
            raise ProtocolError(f"slot program, line {number}: '{item[:40]}' is not an attribute, or is given twice")
        attributes[key] = int(value) if re.fullmatch(r"-?[0-9]{1,10}", value) else value
    args = tuple(re.findall(r"%(\w+)", match["args"]))
    try:
        level, scale, bound = int(match["level"]), float(match["scale"]), float(match["range"])
    except ValueError as error:
        raise ProtocolError(f"slot program, line {number}: {error}") from error
    return SlotOp(match["name"] or "", match["kind"], args, level, scale, bound, match["label"] or "", attributes)
