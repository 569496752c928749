"""Lowers a region's affine maps and polynomials to a slot program with its tables and layouts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hecompile.backends.ckks.choose import ring_for
from hecompile.backends.ckks.diagonals import Diagonals, Entries, diagonals
from hecompile.backends.ckks.layout import INPUT_RANGE, OUTPUT_RANGE, Grid, Result, Upload, power_of_two
from hecompile.backends.ckks.linear_maps import AffineMap, RegionMaps
from hecompile.backends.ckks.polynomial import depth_of
from hecompile.backends.ckks.program import SlotOp, SlotProgram
from hecompile.backends.ckks.ring import CkksRing, primes
from hecompile.backends.ckks.scaled_polynomial import ScaledPolynomial, scaled_polynomial
from hecompile.backends.ckks.uploads import plan_uploads, slots_needed
from hecompile.errors import InternalError

__all__ = ["Lowering", "depths", "lower_maps"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Lowering:
    """A lowered region: the slot program and the layouts, which both sides need, and the server's tables."""

    program: SlotProgram
    grid: Grid
    uploads: tuple[Upload, ...]
    results: tuple[Result, ...]
    tables: dict[str, npt.NDArray[np.float32] | Floats]


def depths(maps: RegionMaps) -> tuple[dict[str, int], int]:
    """How many levels are used up when each polynomial or value between layers is computed, by name, and by the whole region."""
    used: dict[str, int] = {}
    for name in maps.order:
        if name in maps.between:
            used[name] = _below(maps.between[name], used) + 1
        else:
            polynomial = maps.polynomials[name]
            used[name] = _below(polynomial.argument, used) + 1 + depth_of(polynomial.coefficients.shape[1] - 1)
    return used, max(*used.values(), *(_below(affine, used) + 1 for affine in maps.outputs.values()), 1)


def _below(affine: AffineMap, used: dict[str, int]) -> int:
    """How many levels are used up by the sources of a map."""
    return max((used[source] for source in affine.matrices if source in used), default=0)


def lower_maps(
    maps: RegionMaps, outputs: tuple[str, ...], where: str, security_bits: int = 128, least_dimension: int = 0,
    ranges: Mapping[str, float] | None = None,
) -> Lowering:  # fmt: skip
    """Lower maps to a slot program in the smallest secure ring of `least_dimension` or more.

    Args:
        outputs: names of the region's outputs in their order.
        where: the region's name, for errors.
        ranges: the largest magnitude of each output in calibration, by name.

    Raises:
        CompileError: naming the layers, if no secure ring has enough levels and slots.
    """
    used, depth = depths(maps)
    shapes = [*maps.inputs.values(), *(polynomial.argument.shape for polynomial in maps.polynomials.values())]
    shapes += [affine.shape for affine in (*maps.outputs.values(), *maps.between.values())]
    grid = Grid(power_of_two(max(shape[1] for shape in shapes)), power_of_two(max(shape[2] for shape in shapes)))
    labels = ", ".join(polynomial.label for polynomial in maps.polynomials.values())
    ring = ring_for(depth, slots_needed(maps, grid), f"region '{where}' (layers {labels})", security_bits, least_dimension)
    return _Lowerer(maps, grid, ring, used).lowering(outputs, ranges or {})


class _Lowerer:
    """Emits the operations of a slot program one after the other, and collects its tables and rotation keys."""

    def __init__(self, maps: RegionMaps, grid: Grid, ring: CkksRing, used: dict[str, int]) -> None:
        self._maps, self._grid, self._ring, self._used = maps, grid, ring, used
        self._primes = primes(ring)
        levels = {name: ring.depth - _below(affine, used) for name, affine in self._affines().items()}
        self._uploads = plan_uploads(maps, grid, ring, self._affines(), levels)
        self._ops: list[SlotOp] = []
        self._tables: dict[str, npt.NDArray[np.float32] | Floats] = {}
        self._values: dict[str, tuple[SlotOp, int]] = {}  # by source: the operation, and the period of its slots
        self._keys: list[int] = []

    def _affines(self) -> dict[str, AffineMap]:
        """Every affine map of the region by the name of what it gives."""
        arguments = {name: polynomial.argument for name, polynomial in self._maps.polynomials.items()}
        return self._maps.outputs | self._maps.between | arguments  # a polynomial that leaves the region has both

    def lowering(self, outputs: tuple[str, ...], ranges: Mapping[str, float]) -> Lowering:
        """The whole program: inputs, maps and polynomials in order, then the outputs at level 0."""
        for upload in self._uploads:
            label = ", ".join(piece.input for piece in upload.pieces)
            op = self._emit("input", (), upload.level, upload.scale, INPUT_RANGE, label, name=upload.name)
            self._values[upload.name] = (op, upload.period)
        results = []
        for name in self._maps.order:
            if name in self._maps.between:
                affine = self._maps.between[name]
                self._values[name] = (self._affine(affine, None, name), self._grid.period(affine.shape[0]))
                continue
            polynomial = self._maps.polynomials[name]
            scaled = scaled_polynomial(polynomial)
            argument = self._affine(polynomial.argument, scaled, polynomial.label)
            level, rows = argument.level - depth_of(polynomial.coefficients.shape[1] - 1), scaled.rows
            scale = self._polynomial_scale(argument, rows[0])
            table = self._table("p", rows)
            result = self._emit("polynomial", (argument,), level, scale, scaled.result_range, polynomial.label, table=table)
            self._values[name] = (result, self._grid.period(polynomial.argument.shape[0]))
        for name in outputs:
            own = self._maps.outputs.get(name)
            affine = own or self._maps.between[name]
            value = self._values[name][0] if own is None else self._affine(own, None, name)
            if value.level:
                value = self._emit("switch", (value,), 0, value.scale, value.range)
            self._emit("output", (value,), value.level, value.scale, ranges.get(name, OUTPUT_RANGE), name, name="")
            results.append(Result(name, affine.shape, value.level, value.scale))
        program = SlotProgram(self._ring, tuple(self._ops))
        return Lowering(program, self._grid, tuple(self._uploads), tuple(results), self._tables)

    def _emit(
        self, kind: str, args: tuple[SlotOp, ...], level: int, scale: float, bound: float, label: str = "", name: str | None = None,
        **attributes: int | str,
    ) -> SlotOp:  # fmt: skip
        """Append an operation to the program and return it. `bound` is the range of its value."""
        names = tuple(argument.name for argument in args)
        op = SlotOp(f"v{len(self._ops)}" if name is None else name, kind, names, level, scale, bound, label, attributes)
        self._ops.append(op)
        return op

    def _table(self, prefix: str, rows: Floats) -> str:
        """Add a table and return its name, which begins with "@"."""
        name = f"{prefix}{sum(key.startswith(prefix) for key in self._tables)}"
        # polynomials stay float64: they are small, and the terms of a row cancel each other
        self._tables[name] = rows if prefix == "p" else np.ascontiguousarray(rows, np.float32)
        return f"@{name}"

    def _polynomial_scale(self, argument: SlotOp, row: Floats) -> float:
        """The scale that the polynomial of a row has on this argument."""
        from hecompile.backends.ckks.engine import Engine
        from hecompile.backends.ckks.polynomial import evaluate
        from hecompile.backends.ckks.value import Value

        engine = Engine(SlotProgram(self._ring, ()), {})
        return evaluate(engine, Value(argument.level, argument.scale, 2, None), row).scale

    def _affine(self, affine: AffineMap, scaled: ScaledPolynomial | None, label: str) -> SlotOp:
        """Emit an affine map and return its result at the ring's scale, in the variable of `scaled` if that is given."""
        scale, shift = (affine.scale, affine.shift) if scaled is None else (scaled.scale(affine), scaled.shift(affine))
        bound = OUTPUT_RANGE if scaled is None else scaled.range
        period, slots = self._grid.period(affine.shape[0]), self._grid.slots(affine.shape)
        factors, fixed = "none", scale[0]
        if len(scale) > 1:
            factors, fixed = self._table("s", self._spread(scale, slots, period)), np.ones_like(scale[0])
        level = self._ring.depth - _below(affine, self._used)
        groups: dict[int, list[SlotOp]] = {}  # by the period, which is folded to that of the result
        for source, entries in self._entries(affine, fixed).items():
            value, own = self._values[source]
            if value.level > level:
                value = self._emit("switch", (value,), level, value.scale, value.range)
            groups.setdefault(max(own, period), []).append(self._product(value, entries, factors, bound, label))
        total: SlotOp | None = None
        for own, products in sorted(groups.items()):
            part = products[0]
            for other in products[1:]:
                part = self._emit("add", (part, other), part.level, part.scale, bound)
            step = own // 2
            while step >= period:  # before rescaling, which then divides the errors of these rotations too
                part = self._emit("add", (part, self._rotate(part, step)), part.level, part.scale, bound)
                step //= 2
            part = self._emit("rescale", (part,), part.level - 1, part.scale / self._primes[part.level], bound)
            total = part if total is None else self._emit("add", (total, part), part.level, part.scale, bound)
        if total is None:
            raise InternalError(f"the map to {affine.name} reads no source")
        offset = self._spread(scale * affine.bias + shift, slots, period)
        return self._emit("plus", (total,), total.level, total.scale, bound, label, table=self._table("b", offset))

    def _spread(self, rows: Floats, slots: npt.NDArray[np.int64], period: int) -> Floats:
        """Rows (rows, entries) at the given slots of one period, (rows, period), with zeros elsewhere."""
        whole = np.zeros((len(rows), period))
        whole[:, slots] = rows
        return whole

    def _entries(self, affine: AffineMap, fixed: Floats) -> dict[str, Entries]:
        """The map's matrices as sparse matrices between slots, by the name of the upload, polynomial or value that they read."""
        parts_of: dict[str, list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]]] = {}
        slots, period = self._grid.slots(affine.shape), self._grid.period(affine.shape[0])
        for source, matrix in affine.matrices.items():
            rows, columns = np.nonzero(matrix)
            weights = matrix[rows, columns] * fixed[rows]
            outputs = slots[rows]
            if source in self._used:
                inputs = self._grid.slots(self._affines()[source].shape)[columns]
                parts_of.setdefault(source, []).append((outputs, inputs, weights))
                continue
            upload = next(upload for upload in self._uploads if any(piece.input == source for piece in upload.pieces))
            piece = next(piece for piece in upload.pieces if piece.input == source)
            inputs = self._grid.slots(piece.shape)[columns]
            if piece.spread:
                inputs = inputs + outputs % self._grid.area
            share = upload.block // piece.copies
            copies = (inputs - outputs + self._grid.area // 2) % upload.block // share
            places = np.zeros_like(inputs)
            for copy in range(piece.copies):
                places[copies == copy] = upload.place(piece, copy, inputs[copies == copy], self._grid)
            parts_of.setdefault(upload.name, []).append((outputs, places, weights))
        merged = {}
        for source, parts in parts_of.items():
            outputs, places, weights = (np.concatenate(column) for column in zip(*parts, strict=True))
            merged[source] = Entries(outputs, places, weights, self._values[source][1], period)
        return merged

    def _product(self, value: SlotOp, entries: Entries, factors: str, bound: float, label: str) -> SlotOp:
        """Emit the product of a matrix with a value, not yet rescaled: baby steps, then Horner's rule over the giant steps."""
        plan = diagonals(entries, self._keys)
        babies = {0: value}
        for baby in plan.babies[1:]:
            babies[baby.steps] = self._rotate(babies[baby.parent], baby.key)
        table, scale = self._table("t", plan.vectors), self._ring.scale * self._primes[value.level]
        total: SlotOp | None = None
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
        self, plan: Diagonals, k: int, babies: dict[int, SlotOp], table: str, factors: str, scale: float, bound: float, label: str
    ) -> SlotOp | None:
        """Emit the sum of products that giant step k adds; None if the plan has no such giant step."""
        giant = next((giant for giant in plan.giants if giant[0] == k), None)
        if giant is None:
            return None
        _, steps, row = giant
        args = tuple(babies[step] for step in steps)
        roll = k * plan.giant_step
        return self._emit("dot", args, args[0].level, scale, bound, label, table=table, row=row, roll=roll, scaled=factors)

    def _rotate(self, value: SlotOp, steps: int) -> SlotOp:
        """Emit a rotation, and note that it needs a key."""
        if steps not in self._keys:
            self._keys.append(steps)
        return self._emit("rotate", (value,), value.level, value.scale, value.range, steps=steps)
