"""Fewer rotation keys: rotations made of others, so that a region's keys fit a memory cap.

    %b = he.rotate %a {steps = 9}    ->    %c = he.rotate %a {steps = 8}
                                           %b = he.rotate %c {steps = 1}

Which keys stay is decided by what giving one up costs: starting from those that the program uses and the signed powers of two, the
one without which the fewest more rotations are needed goes first, until the rest fits. Rotations that begin alike share their
beginning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from hecompile.backends.ckks.keys import key_size, key_sizes
from hecompile.backends.ckks.program import Op, SlotProgram

__all__ = ["MOST_ROTATIONS", "least_bytes", "within_keys"]

Distances = npt.NDArray[np.int64]
MOST_ROTATIONS = 8  # times those of a program with all its keys: beyond it a cap is refused
FAR = 1 << 40  # rotations to what is never reached


def within_keys(program: SlotProgram, most_bytes: float) -> SlotProgram | None:
    """The program with keys of `most_bytes` or less; itself if they are. None if that takes too many rotations."""
    if sum(key_sizes(program).values()) <= most_bytes:
        return program
    ring = program.ring
    count = int((most_bytes - key_size(ring, 1)) // key_size(ring, ring.dimension))
    needed = Counter(int(op.attributes["steps"]) for op in program.ops if op.kind == "rotate")
    keys = _chosen(needed, count, ring.slots) if count > 0 else ()
    if not keys:
        return None
    found = _rewritten(program, keys)
    return found if found.counts()["rotate"] <= MOST_ROTATIONS * sum(needed.values()) else None


def least_bytes(program: SlotProgram) -> int:
    """The smallest cap that `within_keys` keeps to."""
    ring, whole = program.ring, sum(key_sizes(program).values())
    sizes = (key_size(ring, 1) + count * key_size(ring, ring.dimension) for count in range(len(program.steps)))
    return next((size for size in sizes if within_keys(program, size) is not None), whole)


def _chosen(needed: Mapping[int, int], count: int, slots: int) -> tuple[int, ...]:
    """The keys that stay."""
    powers = [sign << bit for bit in range(slots.bit_length() - 1) for sign in (1, -1)]
    known = {steps % slots for steps in needed}
    keys = [*needed, *(power for power in powers if power % slots not in known)]
    while len(keys) > count:
        costs = [_cost(needed, [each for each in keys if each != key], slots) for key in keys]
        del keys[int(np.argmin(costs))]
    return tuple(keys) if _cost(needed, keys, slots) < FAR else ()


def _cost(needed: Mapping[int, int], keys: Sequence[int], slots: int) -> int:
    distances = _distances(keys, slots, needed)
    return int(sum(times * distances[steps % slots] for steps, times in needed.items()))


def _distances(keys: Iterable[int], slots: int, needed: Iterable[int]) -> Distances:
    """The fewest rotations to every offset, as far as what is needed asks."""
    found, reached = np.full(slots, FAR), np.zeros(slots, bool)
    found[0], reached[0], wanted = 0, True, [steps % slots for steps in needed]
    for number in range(1, slots):
        frontier = np.logical_or.reduce([np.roll(reached, key) for key in keys]) if keys else np.zeros(slots, bool)
        fresh = frontier & (found == FAR)
        if not fresh.any():
            break
        found[fresh], reached = number, fresh
        if (found[wanted] < FAR).all():
            break
    return found


def _paths(keys: Sequence[int], slots: int, needed: Iterable[int]) -> dict[int, tuple[int, ...]]:
    """Keys whose steps add up to each rotation, large ones first."""
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
    """Every rotation by its path."""
    paths = _paths(keys, program.ring.slots, program.steps)
    made, names, ops = dict[tuple[str, int], str](), dict[str, str](), list[Op]()
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
