"""Compiles a stack as one linear circuit of Concrete. All its inputs are one vector, and so are all its outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from hecompile.backends.concrete.circuits import concatenated, convolution
from hecompile.backends.concrete.library import concrete, configuration, specs_text
from hecompile.backends.concrete.limits import LIMIT, WIDTHS
from hecompile.backends.concrete.specs import Specs, parse_specs
from hecompile.backends.concrete.stacks.integer_map import Convolution, IntegerMap, Multiple, Step, Sum
from hecompile.errors import CompileError
from hecompile.ir.linear import Geometry

__all__ = ["StackCircuit", "stack_circuit"]

MOST_WORK = 1 << 35  # products that finding all coefficients may take: about four seconds


@dataclass(frozen=True, eq=False)
class StackCircuit:
    """A compiled circuit, its specification, and the numbers that its error bound is computed from.

    `largest` bounds the magnitude of every value before it is shifted by `shift` bits, and `norm` is the largest 2-norm of an
    output's coefficients.
    """

    compiled: Any
    specs: Specs
    largest: int
    norm: float
    shift: int


def _to_picture(x: Any, geometry: Geometry) -> Any:
    """Apply `Geometry.to_picture` to one element within a circuit."""
    channels, height, width = geometry.picture
    if geometry.tokens:
        return (x.transpose((0, 2, 1)) if len(x.shape) == 3 else x).reshape((1, channels, height, width))  # (1, L, C) or (1, C)
    if geometry.down == (1, 1):
        return x
    split = x.reshape((1, geometry.channels, height, geometry.down[0], width, geometry.down[1]))
    return split.transpose((0, 1, 3, 5, 2, 4)).reshape((1, channels, height, width))


def _from_picture(x: Any, geometry: Geometry, flat: bool) -> Any:
    """Apply `Geometry.from_picture` to one element within a circuit. `flat` tokens have no dimension for their number."""
    (uy, ux), (height, width) = geometry.up, geometry.grid
    if geometry.tokens:
        if flat:
            return x.reshape((1, geometry.outputs))
        return x.reshape((1, geometry.outputs, height)).transpose((0, 2, 1))
    if geometry.up != (1, 1):
        split = x.reshape((1, geometry.outputs, uy, ux, height, width)).transpose((0, 1, 4, 2, 5, 3))
        x = split.reshape((1, geometry.outputs, height * uy, width * ux))
    return x if geometry.out_size == (height * uy, width * ux) else x[:, :, : geometry.out_size[0], : geometry.out_size[1]]


def _done(step: Step, operands: list[Any], largest: int) -> Any:
    """The result of a step of the integer map within a circuit."""
    first, action = operands[0], step.action
    if isinstance(action, Convolution):
        picture = _to_picture(first, action.geometry)
        result = convolution(picture, action.geometry, action.weights, largest)
        return _from_picture(result, action.geometry, flat=len(first.shape) == 2)
    if isinstance(action, Multiple):
        return first * action.factors
    return first + operands[1] if isinstance(action, Sum) else first.reshape((1, *action.shape))


def stack_circuit(integers: IntegerMap, p_error: float) -> StackCircuit:
    """Compile the circuit from the integers of all inputs, a vector (1, entries), to those of all outputs.

    Concrete assumes that the noises of two values which are added are independent. That is wrong where both depend on one input. So
    inputs are multiplied by a power of two and the client rounds results to it. It has the fewest low bits for which results are
    wrong at most as often as declared, by the coefficients of the whole map.

    Raises:
        CompileError: if results take more bits than a ciphertext holds, if a stride does not divide a picture's size, or if the
            stack is too large.
    """
    for step in integers.steps:
        geometry = step.action.geometry if isinstance(step.action, Convolution) else None
        if geometry and not geometry.tokens and any(size % by for size, by in zip(geometry.size, geometry.down, strict=True)):
            raise CompileError(f"a stride of {geometry.down} does not divide {geometry.size}")
    inputs = sum(math.prod(shape) for shape in integers.shapes.values())
    if integers.products * inputs > MOST_WORK:
        raise CompileError(f"a stack of {inputs} entries and {integers.products} products is too large to bound its noise")
    largest, norm = integers.largest(LIMIT), integers.norm()
    if norm == 0:
        raise CompileError("a stack whose results are zero for every input")
    for shift in range(WIDTHS[1] - largest.bit_length()):
        compiled = _compile(integers, shift, largest << shift, p_error)
        specs = parse_specs(specs_text(compiled.client.specs))
        if specs.error_probability(norm, shift) <= p_error:
            return StackCircuit(compiled, specs, largest, norm, shift)
    raise CompileError(f"a stack with values up to {largest} takes more than {WIDTHS[1]} bits")


def _compile(integers: IntegerMap, shift: int, largest: int, p_error: float) -> Any:
    """Compile the circuit with `shift` low bits, and values of magnitude up to `largest`."""
    sizes = [math.prod(shape) for shape in integers.shapes.values()]

    def evaluate(x: Any) -> Any:
        values, start = dict[str, Any](), 0
        for (name, shape), size in zip(integers.shapes.items(), sizes, strict=True):
            values[name] = (x[:, start : start + size] if len(sizes) > 1 else x).reshape((1, *shape))
            start += size
        for step in integers.steps:
            values[step.result] = _done(step, [values[name] for name in step.operands], largest)
        outputs = [values[name].reshape((1, integers.units[name].size)) for name in integers.units]
        return concrete().hint(concatenated(outputs, 1), can_store=-largest - 1)

    signs = np.where(np.random.default_rng(0).integers(0, 2, (1, sum(sizes))), LIMIT << shift, -LIMIT << shift)
    try:
        return concrete().Compiler(evaluate, {"x": "encrypted"}).compile([signs, -signs], configuration(p_error))
    except RuntimeError as error:
        raise CompileError(f"Concrete refuses a stack: {str(error).splitlines()[0]}") from error
