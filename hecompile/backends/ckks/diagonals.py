"""Plans a linear map of slots with few rotations and products: non-zero diagonals, baby steps, and giant steps by Horner's rule.

Vectors are periodic: the source has period S and the result period D, both powers of two. The product of one diagonal with the
source rotated by d computes all entries (o, i) of the matrix with i - o = d modulo min(S, D) at once. Where S > D the parts of
length D are added up afterwards (Juvekar et al., Gazelle, section 4.2). With every offset written as d = k g + b, the sum is

    sum_k rot^k_g( sum_b diagonal rolled by k g * rot_b(x) )  =  Z_0 + rot_g(Z_1 + rot_g(Z_2 + ...))

so all giant steps share one key. Baby steps are reached from each other, which saves keys and takes no more rotations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["BabyStep", "Diagonals", "Entries", "diagonals"]

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
class BabyStep:
    """A baby step: the source rotated by `steps` slots, which is the baby step `parent` rotated by `key` slots."""

    steps: int
    parent: int
    key: int


@dataclass(frozen=True, eq=False)
class Diagonals:
    """The plan for one source: the baby steps to make, and for each giant step k the baby steps and diagonals that it adds up.

    `vectors` are the diagonals (rows, max(S, D)). Giant steps are listed by falling k.
    """

    babies: tuple[BabyStep, ...]  # each after its parent; the first is the source itself, with 0 steps
    giants: tuple[tuple[int, tuple[int, ...], int], ...]  # (k, steps of the babies, first row of `vectors`)
    giant_step: int
    vectors: Array

    @property
    def rotations(self) -> int:
        """How many rotations the plan takes."""
        return sum(baby.steps != 0 for baby in self.babies) + max((k for k, _, _ in self.giants), default=0)


def _split(offsets: Index, step: int, modulus: int) -> tuple[Index, Index]:
    """Split offsets in [0, modulus) into (k, b) with offset = k step + b, k in [0, modulus / step) and b around zero."""
    babies = (offsets + step // 2) % step - step // 2
    return (offsets - babies) % modulus // step, babies


def _giant_step(offsets: Index, modulus: int) -> int:
    """The giant step, a power of two, that needs the fewest rotations."""

    def rotations(step: int) -> int:
        giants, babies = _split(offsets, step, modulus)
        return len(np.unique(babies[babies != 0])) + int(giants.max(initial=0))

    return min((1 << bits for bits in range(modulus.bit_length())), key=rotations)


def _baby_steps(babies: list[int], keys: list[int]) -> tuple[BabyStep, ...]:
    """Order baby steps by size and say how to reach each: from an earlier one by a known key, else from the source by a new key."""
    reached, known, steps = {0}, list(keys), [BabyStep(0, 0, 0)]
    for baby in sorted(set(babies) - {0}, key=lambda offset: (abs(offset), -offset)):
        pair = next(((baby - key, key) for key in known if baby - key in reached), None)
        parent, key = pair or (0, baby)
        if pair is None:
            known.append(key)
        reached.add(baby)
        steps.append(BabyStep(baby, parent, key))
    return tuple(steps)


def diagonals(entries: Entries, known_keys: list[int]) -> Diagonals:
    """Plan the product of a matrix with its source. `known_keys` are rotations for which the program has keys already."""
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
    for k in sorted({int(giant) for giant in pairs[0]}, reverse=True):
        rows = [row for row in order if pairs[0, row] == k]
        plan.append((k, tuple(int(pairs[1, row]) for row in rows), rows[0]))
    return Diagonals(_baby_steps([int(baby) for baby in pairs[1]], known_keys), tuple(plan), step, vectors)
