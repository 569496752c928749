"""Measures how far a stack in integers is from the stack in float32, and finds the part that the client adds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from hecompile.backends.concrete.limits import LIMIT
from hecompile.backends.concrete.stacks.integer_map import by_channel
from hecompile.backends.concrete.stacks.program import pieces, quantise, vector
from hecompile.errors import CompileError
from hecompile.ir.linear import Array

if TYPE_CHECKING:
    from hecompile.backends.concrete.stacks.integer_map import IntegerMap
    from hecompile.ir.regions import SubgraphRegion

__all__ = ["MOST_ERROR", "distortion_db", "offset_of"]

LEAST_DB = 40.0  # least PSNR over all outputs
MOST_ERROR = 0.05  # largest RMS error of a channel, relative to its standard deviation
ELEMENTS = 16  # of the batch on which both are compared


def offset_of(region: SubgraphRegion, integers: IntegerMap) -> Array:
    """The outputs for inputs of zero, float32 (entries). The client adds them to results."""
    zeros = [np.zeros((1, *shape), np.float32) for shape in integers.shapes.values()]
    offset: Array = vector(region.reference(zeros))[0].astype(np.float32)
    return offset


def distortion_db(region: SubgraphRegion, integers: IntegerMap) -> float:
    """The PSNR in dB of a stack in integers against float32, on normal values of a quarter of the inputs' ranges.

    Raises:
        CompileError: if the PSNR is too low, or if the error of one channel is too large.
    """
    rng = np.random.default_rng(0)
    values = [
        (rng.standard_normal((ELEMENTS, *shape)) * integers.input_units[name] * LIMIT / 4).astype(np.float32)
        for name, shape in integers.shapes.items()
    ]
    units = np.repeat([*integers.input_units.values()], [math.prod(shape) for shape in integers.shapes.values()])
    drawn, scales = quantise(vector(values), units, LIMIT)
    results = integers.run(dict(zip(integers.shapes, pieces(drawn, [*integers.shapes.values()]), strict=True)))
    got = vector([results[name] for name in integers.units]) * integers.entry_units * scales[:, None] + offset_of(region, integers)
    reference = region.reference(values)
    outputs = zip(pieces(got, [output.shape[1:] for output in reference]), reference, strict=True)
    worst = max(_channel_error(by_channel(one), by_channel(other)) for one, other in outputs)
    if not worst <= MOST_ERROR:
        raise CompileError(f"a channel of a stack is off by {worst:.2f} of its deviation, at most {MOST_ERROR:g} is allowed")
    want = vector(reference)
    mse = float(np.mean((got - want) ** 2)) or float(np.finfo(np.float64).tiny)
    result = float(20 * np.log10(np.ptp(want)) - 10 * np.log10(mse))
    if not result >= LEAST_DB:
        raise CompileError(f"a stack in integers has a PSNR of {result:.1f} dB against float32, at least {LEAST_DB:g} is required")
    return result


def _channel_error(got: Array, want: Array) -> float:
    """The largest RMS error of a channel, relative to its standard deviation.

    Constant channels are left out: the client adds them.
    """
    rms, deviation = np.sqrt(np.mean((got - want) ** 2, axis=1)), want.std(axis=1)
    moves = deviation > 1e-6 * want.std()
    return float(np.max(rms[moves] / deviation[moves], initial=0.0))
