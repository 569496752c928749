"""From a region's affine maps and polynomials to a slot program with its tables and layouts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hecompile.backends.ckks.affine import Affine, Chain
from hecompile.backends.ckks.choose import ring_for
from hecompile.backends.ckks.diagonals import Diagonals, Entries, diagonals
from hecompile.backends.ckks.layout import INPUT_RANGE, OUTPUT_RANGE, Grid, Result, Upload, power_of_two
from hecompile.backends.ckks.moduli import primes
from hecompile.backends.ckks.normal import Normal, normal
from hecompile.backends.ckks.polynomial import depth_of
from hecompile.backends.ckks.program import Op, SlotProgram
from hecompile.backends.ckks.ring import Ring
from hecompile.backends.ckks.uploads import plan_uploads, slots_needed
from hecompile.errors import InternalError

__all__ = ["Lowering", "depths", "lower_chain"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Lowering:
    """Everything about a region that both sides need, and the server's tables."""

    program: SlotProgram
    grid: Grid
    uploads: tuple[Upload, ...]
    results: tuple[Result, ...]
    tables: dict[str, npt.NDArray[np.float32] | Floats]


def depths(chain: Chain) -> tuple[dict[str, int], int]:
    """Levels used when each polynomial and value between layers is there, by name, and by the whole chain."""
    found: dict[str, int] = {}
    for name in chain.order:
        if name in chain.between:
            found[name] = _below(chain.between[name], found) + 1
        else:
            polynomial = chain.polynomials[name]
            found[name] = _below(polynomial.argument, found) + 1 + depth_of(polynomial.coefficients.shape[1] - 1)
    return found, max(*found.values(), *(_below(affine, found) + 1 for affine in chain.outputs.values()), 1)


def _below(affine: Affine, found: dict[str, int]) -> int:
    return max((found[source] for source in affine.matrices if source in found), default=0)


def lower_chain(
    chain: Chain, outputs: tuple[str, ...], where: str, security_bits: int = 128, least_dimension: int = 0,
    ranges: Mapping[str, float] | None = None,
) -> Lowering:  # fmt: skip
    """The slot program of a chain, with its outputs in their order and ranges, in a ring of `least_dimension` or more.

    Raises:
        CompileError: if no secure ring carries it; names the layer.
    """
    used, depth = depths(chain)
    shapes = [*chain.inputs.values(), *(each.argument.shape for each in chain.polynomials.values())]
    shapes += [each.shape for each in (*chain.outputs.values(), *chain.between.values())]
    grid = Grid(power_of_two(max(each[1] for each in shapes)), power_of_two(max(each[2] for each in shapes)))
    labels = ", ".join(each.label for each in chain.polynomials.values())
    ring = ring_for(depth, slots_needed(chain, grid), f"region '{where}' (layers {labels})", security_bits, least_dimension)
    return _Lowerer(chain, grid, ring, used).lowering(outputs, ranges or {})


class _Lowerer:
    def __init__(self, chain: Chain, grid: Grid, ring: Ring, used: dict[str, int]) -> None:
        self._chain, self._grid, self._ring, self._used = chain, grid, ring, used
        self._primes = primes(ring)
        levels = {name: ring.depth - _below(affine, used) for name, affine in self._affines().items()}
        self._uploads = plan_uploads(chain, grid, ring, self._affines(), levels)
        self._ops: list[Op] = []
        self._tables: dict[str, npt.NDArray[np.float32] | Floats] = {}
        self._values: dict[str, tuple[Op, int]] = {}  # by source: the operation, and the period of its slots
        self._keys: list[int] = []

    def _affines(self) -> dict[str, Affine]:
        arguments = {name: each.argument for name, each in self._chain.polynomials.items()}
        return self._chain.outputs | self._chain.between | arguments  # a polynomial that leaves the region has both

    def lowering(self, outputs: tuple[str, ...], ranges: Mapping[str, float]) -> Lowering:
        for upload in self._uploads:
            label = ", ".join(piece.input for piece in upload.pieces)
            op = self._emit("input", (), upload.level, upload.scale, INPUT_RANGE, label, name=upload.name)
            self._values[upload.name] = (op, upload.period)
        results = []
        for name in self._chain.order:
            if name in self._chain.between:
                affine = self._chain.between[name]
                self._values[name] = (self._affine(affine, None, name), self._grid.period(affine.shape[0]))
                continue
            polynomial = self._chain.polynomials[name]
            form = normal(polynomial, self._grid)
            argument = self._affine(polynomial.argument, form, polynomial.label)
            level, rows = argument.level - depth_of(polynomial.coefficients.shape[1] - 1), form.rows
            scale = self._polynomial_scale(argument, rows[0])
            table = self._table("p", rows)
            result = self._emit("polynomial", (argument,), level, scale, form.result_range, polynomial.label, table=table)
            self._values[name] = (result, self._grid.period(polynomial.argument.shape[0]))
        for name in outputs:
            own = self._chain.outputs.get(name)
            affine = own or self._chain.between[name]
            value = self._values[name][0] if own is None else self._affine(own, None, name)
            if value.level:
                value = self._emit("switch", (value,), 0, value.scale, value.range)
            self._emit("output", (value,), value.level, value.scale, ranges.get(name, OUTPUT_RANGE), name, name="")
            results.append(Result(name, affine.shape, value.level, value.scale))
        program = SlotProgram(self._ring, tuple(self._ops))
        return Lowering(program, self._grid, tuple(self._uploads), tuple(results), self._tables)

    def _emit(
        self, kind: str, args: tuple[Op, ...], level: int, scale: float, bound: float, label: str = "", name: str | None = None,
        **attributes: int | str,
    ) -> Op:  # fmt: skip
        names = tuple(argument.name for argument in args)
        op = Op(f"v{len(self._ops)}" if name is None else name, kind, names, level, scale, bound, label, attributes)
        self._ops.append(op)
        return op

    def _table(self, prefix: str, rows: Floats) -> str:
        name = f"{prefix}{sum(key.startswith(prefix) for key in self._tables)}"
        # polynomials keep all their digits: they are few, and a row's terms cancel
        self._tables[name] = rows if prefix == "p" else np.ascontiguousarray(rows, np.float32)
        return f"@{name}"

    def _polynomial_scale(self, argument: Op, row: Floats) -> float:
        from hecompile.backends.ckks.engine import Engine
        from hecompile.backends.ckks.polynomial import evaluate
        from hecompile.backends.ckks.value import Value

        engine = Engine(SlotProgram(self._ring, ()), {})
        return evaluate(engine, Value(argument.level, argument.scale, 2, None), row).scale

    def _affine(self, affine: Affine, form: Normal | None, label: str) -> Op:
        """The slots of an affine map, at the ring's scale. `form` brings it to the variable of its polynomial."""
        scale, shift = (affine.scale, affine.shift) if form is None else (form.scale(affine), form.shift(affine))
        bound = OUTPUT_RANGE if form is None else form.range
        period, slots = self._grid.period(affine.shape[0]), self._grid.slots(affine.shape)
        factors, fixed = "none", scale[0]
        if len(scale) > 1:
            factors, fixed = self._table("s", self._spread(scale, slots, period)), np.ones_like(scale[0])
        level = self._ring.depth - _below(affine, self._used)
        groups: dict[int, list[Op]] = {}  # by the period that has to be folded
        for source, entries in self._entries(affine, fixed).items():
            value, own = self._values[source]
            if value.level > level:
                value = self._emit("switch", (value,), level, value.scale, value.range)
            groups.setdefault(max(own, period), []).append(self._product(value, entries, factors, bound, label))
        total: Op | None = None
        for own, products in sorted(groups.items()):
            part = products[0]
            for other in products[1:]:
                part = self._emit("add", (part, other), part.level, part.scale, bound)
            step = own // 2
            while step >= period:  # before rescaling: the errors of rotations are divided too
                part = self._emit("add", (part, self._rotate(part, step)), part.level, part.scale, bound)
                step //= 2
            part = self._emit("rescale", (part,), part.level - 1, part.scale / self._primes[part.level], bound)
            total = part if total is None else self._emit("add", (total, part), part.level, part.scale, bound)
        if total is None:
            raise InternalError(f"{affine.name} depends on nothing")
        offset = self._spread(scale * affine.bias + shift, slots, period)
        return self._emit("plus", (total,), total.level, total.scale, bound, label, table=self._table("b", offset))

    def _spread(self, rows: Floats, slots: npt.NDArray[np.int64], period: int) -> Floats:
        whole = np.zeros((len(rows), period))
        whole[:, slots] = rows
        return whole

    def _entries(self, affine: Affine, fixed: Floats) -> dict[str, Entries]:
        """The sparse matrices by upload or polynomial."""
        found: dict[str, list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]]] = {}
        slots, period = self._grid.slots(affine.shape), self._grid.period(affine.shape[0])
        for source, matrix in affine.matrices.items():
            rows, columns = np.nonzero(matrix)
            weights = matrix[rows, columns] * fixed[rows]
            outputs = slots[rows]
            if source in self._used:
                inputs = self._grid.slots(self._affines()[source].shape)[columns]
                found.setdefault(source, []).append((outputs, inputs, weights))
                continue
            upload = next(each for each in self._uploads if any(piece.input == source for piece in each.pieces))
            piece = next(each for each in upload.pieces if each.input == source)
            inputs = self._grid.slots(piece.shape)[columns]
            if piece.spread:
                inputs = inputs + outputs % self._grid.area
            share = upload.block // piece.copies
            copy = (inputs - outputs + self._grid.area // 2) % upload.block // share
            places = np.zeros_like(inputs)
            for each in range(piece.copies):
                places[copy == each] = upload.place(piece, each, inputs[copy == each], self._grid)
            found.setdefault(upload.name, []).append((outputs, places, weights))
        merged = {}
        for source, parts in found.items():
            outputs, places, weights = (np.concatenate(each) for each in zip(*parts, strict=True))
            merged[source] = Entries(outputs, places, weights, self._values[source][1], period)
        return merged

    def _product(self, value: Op, entries: Entries, factors: str, bound: float, label: str) -> Op:
        """A matrix times a value, not rescaled: baby steps, then Horner's rule over giant steps."""
        plan = diagonals(entries, self._keys)
        babies = {0: value}
        for baby in plan.babies[1:]:
            babies[baby.steps] = self._rotate(babies[baby.parent], baby.key)
        table, scale = self._table("t", plan.vectors), self._ring.scale * self._primes[value.level]
        total: Op | None = None
        for k in range(plan.giants[0][0], -1, -1):
            if total is not None:
                total = self._rotate(total, plan.giant_step)
            dot = self._dot(plan, k, babies, table, factors, scale, bound, label)
            if dot is not None:
                total = dot if total is None else self._emit("add", (total, dot), total.level, scale, bound)
        if total is None:
            raise InternalError(f"no diagonals for {label}")
        return total

    def _dot(
        self, plan: Diagonals, k: int, babies: dict[int, Op], table: str, factors: str, scale: float, bound: float, label: str
    ) -> Op | None:
        found = next((each for each in plan.giants if each[0] == k), None)
        if found is None:
            return None
        _, steps, row = found
        args = tuple(babies[step] for step in steps)
        roll = k * plan.giant_step
        return self._emit("dot", args, args[0].level, scale, bound, label, table=table, row=row, roll=roll, scaled=factors)

    def _rotate(self, value: Op, steps: int) -> Op:
        if steps not in self._keys:
            self._keys.append(steps)
        return self._emit("rotate", (value,), value.level, value.scale, value.range, steps=steps)
