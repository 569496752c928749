"""A linear map of slots as few rotations and products: non-zero diagonals, baby steps and giant steps by Horner's rule.

Vectors are periodic: a source has period S, the result period D, both powers of two. A product of a diagonal with the source
rotated by d serves all entries (o, i) with i - o = d modulo min(S, D) at once. Where S > D the D-th parts are added up afterwards
(Juvekar et al., Gazelle, section 4.2). Written as offsets d = k g + b, the sum is

    sum_k rot^k_g( sum_b diagonal rolled by k g * rot_b(x) )  =  Z_0 + rot_g(Z_1 + rot_g(Z_2 + ...))

so that all giant steps share one key, and baby steps are reached from each other: few keys, no more rotations than otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Diagonals", "Entries", "Step", "diagonals"]

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Entries:
    """A sparse matrix from slots in [0, source_period) to slots in [0, result_period)."""

    outputs: Index
    inputs: Index
    weights: Array
    source_period: int
    result_period: int


@dataclass(frozen=True)
class Step:
    """A baby step: the source rotated by `steps`, made by rotating the baby `parent` by `key`."""

    steps: int
    parent: int
    key: int


@dataclass(frozen=True, eq=False)
class Diagonals:
    """The plan for one source: rows of `vectors` (rows, max(S, D)), for giant step k its babies and their rows, largest k first."""

    babies: tuple[Step, ...]  # in the order in which they can be made; 0 is the source itself
    giants: tuple[tuple[int, tuple[int, ...], int], ...]  # (k, babies, first row)
    giant_step: int
    vectors: Array

    @property
    def rotations(self) -> int:
        return sum(baby.steps != 0 for baby in self.babies) + max((k for k, _, _ in self.giants), default=0)


def _split(offsets: Index, step: int, modulus: int) -> tuple[Index, Index]:
    """Offsets in [0, modulus) as k step + b, b centred; k in [0, modulus / step)."""
    babies = (offsets + step // 2) % step - step // 2
    return (offsets - babies) % modulus // step, babies


def _giant_step(offsets: Index, modulus: int) -> int:
    """The power of two with the fewest rotations."""

    def rotations(step: int) -> int:
        giants, babies = _split(offsets, step, modulus)
        return len(np.unique(babies[babies != 0])) + int(giants.max(initial=0))

    return min((1 << bits for bits in range(modulus.bit_length())), key=rotations)


def _chain(babies: list[int], keys: list[int]) -> tuple[Step, ...]:
    """Baby steps, small ones first; each from an earlier one by a key that is known already, else by a key of its own."""
    made, known, steps = {0}, list(keys), [Step(0, 0, 0)]
    for baby in sorted(set(babies) - {0}, key=lambda each: (abs(each), -each)):
        found = next(((baby - key, key) for key in known if baby - key in made), None)
        parent, key = found or (0, baby)
        if found is None:
            known.append(key)
        made.add(baby)
        steps.append(Step(baby, parent, key))
    return tuple(steps)


def diagonals(entries: Entries, known_keys: list[int]) -> Diagonals:
    """The plan for a matrix, given the rotations that keys exist for anyway."""
    source, result = entries.source_period, entries.result_period
    modulus, length = min(source, result), max(source, result)
    offsets = (entries.inputs - entries.outputs) % modulus
    step = _giant_step(np.unique(offsets), modulus)
    giants, babies = _split(offsets, step, modulus)
    rotation = giants * step + babies
    slots = (entries.inputs - rotation) % source if source >= result else entries.outputs
    pairs, place = np.unique(np.stack([giants, babies]), axis=1, return_inverse=True)
    vectors = np.zeros((pairs.shape[1], length))
    np.add.at(vectors, (place.reshape(-1), (slots + giants * step) % length), entries.weights)
    order, plan = range(pairs.shape[1]), []
    for k in sorted({int(each) for each in pairs[0]}, reverse=True):
        rows = [row for row in order if pairs[0, row] == k]
        plan.append((k, tuple(int(pairs[1, row]) for row in rows), rows[0]))
    return Diagonals(_chain([int(each) for each in pairs[1]], known_keys), tuple(plan), step, vectors)
