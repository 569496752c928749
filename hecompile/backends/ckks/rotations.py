"""Rewrites a slot program to use fewer rotation keys, by composing rotations, so that a region's keys fit a memory cap.

    %b = he.rotate %a {steps = 9}    ->    %c = he.rotate %a {steps = 8}
                                           %b = he.rotate %c {steps = 1}

The search starts from the keys that the program uses and from all signed powers of two. It drops one key after the other, each time
the key whose loss adds the fewest rotations, until the rest fits the cap. Composed rotations that begin with the same steps share
them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from hecompile.backends.ckks.keys import key_size, key_sizes
from hecompile.backends.ckks.program import SlotOp, SlotProgram

__all__ = ["MOST_ROTATIONS", "least_bytes", "within_keys"]

Distances = npt.NDArray[np.int64]
MOST_ROTATIONS = 8  # times the rotations of the program with all its keys: a cap that needs more is refused
FAR = 1 << 40  # stands for the number of rotations to an offset that cannot be reached


def within_keys(program: SlotProgram, most_bytes: float) -> SlotProgram | None:
    """Return a program that computes the same with keys of `most_bytes` at most: `program` itself if its keys fit.

    Returns None if that takes more than `MOST_ROTATIONS` times the rotations.
    """
    if sum(key_sizes(program).values()) <= most_bytes:
        return program
    ring = program.ring
    count = int((most_bytes - key_size(ring, 1)) // key_size(ring, ring.dimension))
    needed = Counter(int(op.attributes["steps"]) for op in program.ops if op.kind == "rotate")
    keys = _kept_keys(needed, count, ring.slots) if count > 0 else ()
    if not keys:
        return None
    rewritten = _rewritten(program, keys)
    return rewritten if rewritten.counts()["rotate"] <= MOST_ROTATIONS * sum(needed.values()) else None


def least_bytes(program: SlotProgram) -> int:
    """The smallest number of bytes for which `within_keys` finds a program."""
    ring, whole = program.ring, sum(key_sizes(program).values())
    sizes = (key_size(ring, 1) + count * key_size(ring, ring.dimension) for count in range(len(program.steps)))
    return next((size for size in sizes if within_keys(program, size) is not None), whole)


def _kept_keys(needed: Mapping[int, int], count: int, slots: int) -> tuple[int, ...]:
    """The steps of the `count` keys that are kept; empty if they do not reach every rotation that is needed."""
    powers = [sign << bit for bit in range(slots.bit_length() - 1) for sign in (1, -1)]
    known = {steps % slots for steps in needed}
    keys = [*needed, *(power for power in powers if power % slots not in known)]
    while len(keys) > count:
        costs = [_cost(needed, [other for other in keys if other != key], slots) for key in keys]
        del keys[int(np.argmin(costs))]
    return tuple(keys) if _cost(needed, keys, slots) < FAR else ()


def _cost(needed: Mapping[int, int], keys: Sequence[int], slots: int) -> int:
    """How many rotations all that are needed take with these keys. `needed` says how often each is used, by its steps."""
    distances = _distances(keys, slots, needed)
    return int(sum(times * distances[steps % slots] for steps, times in needed.items()))


def _distances(keys: Iterable[int], slots: int, needed: Iterable[int]) -> Distances:
    """The fewest rotations to every offset (slots). Offsets farther away than all of `needed` may be left at `FAR`."""
    distances, reached = np.full(slots, FAR), np.zeros(slots, bool)
    distances[0], reached[0], wanted = 0, True, [steps % slots for steps in needed]
    for number in range(1, slots):
        frontier = np.logical_or.reduce([np.roll(reached, key) for key in keys]) if keys else np.zeros(slots, bool)
        fresh = frontier & (distances == FAR)
        if not fresh.any():
            break
        distances[fresh], reached = number, fresh
        if (distances[wanted] < FAR).all():
            break
    return distances


def _paths(keys: Sequence[int], slots: int, needed: Iterable[int]) -> dict[int, tuple[int, ...]]:
    """For each rotation the keys whose steps add up to it, large steps first."""
    distances, paths = _distances(keys, slots, list(needed)), dict[int, tuple[int, ...]]()
    for steps in needed:
        place, path = steps % slots, list[int]()
        while place:
            key = next(key for key in keys if distances[(place - key) % slots] == distances[place] - 1)
            path.append(key)
            place = (place - key) % slots
        paths[steps] = tuple(sorted(path, key=lambda key: (-abs(key), key)))
    return paths


def _rewritten(program: SlotProgram, keys: Sequence[int]) -> SlotProgram:
    """Replace every rotation by those of its path."""
    paths = _paths(keys, program.ring.slots, program.steps)
    made, names, ops = dict[tuple[str, int], str](), dict[str, str](), list[SlotOp]()
    for op in program.ops:
        args = tuple(names.get(name, name) for name in op.args)
        if op.kind != "rotate":
            ops.append(replace(op, args=args))
            continue
        value = args[0]
        for place, key in enumerate(paths[int(op.attributes["steps"])]):
            if (value, key) not in made:
                made[value, key] = f"{op.name}r{place}"
                ops.append(replace(op, name=f"{op.name}r{place}", args=(value,), attributes={"steps": key}))
            value = made[value, key]
        names[op.name] = value
    return SlotProgram(program.ring, tuple(ops))
