"""Judges a slot program before a client makes keys for its rotations or encodes its inputs.

An engine that runs a program checks levels and scales again (`engine.py`); a client runs none, and whoever wrote it may be hostile.
"""

from __future__ import annotations

import math
import re

from hecompile.backends.ckks.keys import key_sizes
from hecompile.backends.ckks.layout import INPUT_RANGE, OUTPUT_RANGE
from hecompile.backends.ckks.program import KINDS, Op, SlotProgram
from hecompile.backends.ckks.ring import Ring
from hecompile.errors import ProtocolError

__all__ = ["MOST_KEY_BYTES", "fits", "judge_program"]

MOST_KEY_BYTES = 1 << 31  # of a region's evaluation keys
MOST_OPS = 1 << 16
MOST_LABEL = 1 << 12  # characters
_TABLE = re.compile(r"@[A-Za-z0-9_]{1,64}")


def fits(ring: Ring, level: int, scale: float, largest: float) -> bool:
    """Whether SEAL encodes and decodes values up to `largest` at this level and scale: two bits are to spare."""
    if not 0 <= level <= ring.depth or not 1 <= scale < math.inf:
        return False
    return math.log2(scale) + math.log2(largest) + 2 <= sum(ring.bits[: level + 1])


def judge_program(program: SlotProgram) -> None:
    """Raises `ProtocolError` for operations that are none, values that are not there, numbers or keys out of range."""
    ring = program.ring
    if len(set(ring.bits[1:])) != 1:
        raise ProtocolError(f"slot program: primes of {ring.bits} bits, all but the first must have the same")  # keys go by names
    if len(program.ops) > MOST_OPS:
        raise ProtocolError(f"slot program: {len(program.ops)} operations, at most {MOST_OPS}")
    known = set[str]()
    for number, op in enumerate(program.ops, start=2):
        problem = _problem(ring, op, known)
        if problem:
            raise ProtocolError(f"slot program, line {number}: {problem}")
        known.add(op.name)
    size = sum(key_sizes(program).values())
    if size > MOST_KEY_BYTES:
        raise ProtocolError(f"slot program: {size} bytes of evaluation keys, at most {MOST_KEY_BYTES}")


def _problem(ring: Ring, op: Op, known: set[str]) -> str:
    """Why a line cannot follow those that made `known`; empty if it can."""
    least, most, names = KINDS[op.kind]
    if not least <= len(op.args) <= most or set(op.attributes) != set(names):
        return "other arguments or attributes than its kind"
    if not known.issuperset(op.args) or (op.name and op.name in known):
        return "reads a value that is not there yet, or makes one that is"
    if not 0 <= op.level <= ring.depth or not 1 <= op.scale < math.inf or not 0 <= op.range < math.inf:
        return f"level {op.level}, scale {op.scale} or range {op.range} out of range"
    largest = {"input": INPUT_RANGE, "output": OUTPUT_RANGE}.get(op.kind)
    if largest is not None and not fits(ring, op.level, op.scale, largest):
        return f"values at level {op.level} and scale {op.scale} do not fit its primes"
    if len(op.label) > MOST_LABEL or not op.label.isprintable():
        return "a label that is none"
    return "" if all(_right(ring, name, value) for name, value in op.attributes.items()) else "attributes out of range"


def _right(ring: Ring, name: str, value: int | str) -> bool:
    """Whether an attribute has a value of its kind."""
    if name == "table" or (name == "scaled" and value != "none"):
        return isinstance(value, str) and _TABLE.fullmatch(value) is not None
    if name == "scaled":
        return True
    if not isinstance(value, int):
        return False
    return 0 < abs(value) < ring.slots if name == "steps" else abs(value) < 1 << 31
