"""Checks a slot program before a client makes keys for its rotations or encodes its inputs.

Whoever wrote the program may be hostile, and a client does not run it. A server's engine checks levels and scales once more
(`engine.py`).
"""

from __future__ import annotations

import math
import re

from hecompile.backends.ckks.keys import key_sizes
from hecompile.backends.ckks.layout import INPUT_RANGE, OUTPUT_RANGE
from hecompile.backends.ckks.program import KINDS, SlotOp, SlotProgram
from hecompile.backends.ckks.ring import CkksRing
from hecompile.errors import ProtocolError

__all__ = ["MOST_KEY_BYTES", "check_program", "fits"]

MOST_KEY_BYTES = 1 << 31  # of a region's evaluation keys
MOST_OPS = 1 << 16
MOST_LABEL = 1 << 12  # characters of a label
_TABLE = re.compile(r"@[A-Za-z0-9_]{1,64}")


def fits(ring: CkksRing, level: int, scale: float, largest: float) -> bool:
    """True if SEAL can encode and decode values up to `largest` at this level and scale, with two bits to spare."""
    if not 0 <= level <= ring.depth or not 1 <= scale < math.inf:
        return False
    return math.log2(scale) + math.log2(largest) + 2 <= sum(ring.bits[: level + 1])


def check_program(program: SlotProgram) -> None:
    """Raise `ProtocolError` for malformed operations, for values that no earlier operation makes, and for numbers out of range."""
    ring = program.ring
    if len(set(ring.bits[1:])) != 1:
        raise ProtocolError(
            f"slot program: primes of {ring.bits} bits, but all except the first must have equally many"
        )  # as keys' names say
    if len(program.ops) > MOST_OPS:
        raise ProtocolError(f"slot program: {len(program.ops)} operations, at most {MOST_OPS} are allowed")
    known = set[str]()
    for number, op in enumerate(program.ops, start=2):
        problem = _problem(ring, op, known)
        if problem:
            raise ProtocolError(f"slot program, line {number}: {problem}")
        known.add(op.name)
    size = sum(key_sizes(program).values())
    if size > MOST_KEY_BYTES:
        raise ProtocolError(f"slot program: {size} bytes of evaluation keys, at most {MOST_KEY_BYTES} are allowed")


def _problem(ring: CkksRing, op: SlotOp, known: set[str]) -> str:
    """Return the reason why an operation cannot follow those that made the values `known`; an empty text if it can."""
    least, most, names = KINDS[op.kind]
    if not least <= len(op.args) <= most or set(op.attributes) != set(names):
        return "has arguments or attributes that its kind does not have"
    if not known.issuperset(op.args) or (op.name and op.name in known):
        return "reads a value that no earlier operation makes, or makes one a second time"
    if not 0 <= op.level <= ring.depth or not 1 <= op.scale < math.inf or not 0 <= op.range < math.inf:
        return f"level {op.level}, scale {op.scale} or range {op.range} out of range"
    largest = {"input": INPUT_RANGE, "output": OUTPUT_RANGE}.get(op.kind)
    if largest is not None and not fits(ring, op.level, op.scale, largest):
        return f"values at level {op.level} and scale {op.scale} do not fit its primes"
    if len(op.label) > MOST_LABEL or not op.label.isprintable():
        return "the label is too long or not printable"
    return "" if all(_right(ring, name, value) for name, value in op.attributes.items()) else "an attribute is out of range"


def _right(ring: CkksRing, name: str, value: int | str) -> bool:
    """True if an attribute's value is allowed."""
    if name == "table" or (name == "scaled" and value != "none"):
        return isinstance(value, str) and _TABLE.fullmatch(value) is not None
    if name == "scaled":
        return True
    if not isinstance(value, int):
        return False
    return 0 < abs(value) < ring.slots if name == "steps" else abs(value) < 1 << 31
