"""Writes hecompile's own operators in ONNX, by standard operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hecompile.ir.graph import info
from hecompile.ir.timesteps import TRAIN_STEPS
from hecompile.onnx_export.writer import DTYPES, Writer, emits

if TYPE_CHECKING:
    from torch import fx


def _bin(w: Writer, t: str, bins: int) -> str:
    """Write the timestep's bin as an int64 scalar. It is computed in double precision, so that it is the bin that torch
    computes."""
    scaled = w.call("Mul", [w.call("Cast", [t], to=DTYPES["float64"]), w.constant(bins, np.float64)])
    place = w.call("Floor", [w.call("Div", [scaled, w.constant(TRAIN_STEPS, np.float64)])])
    bounds = [w.constant(bound, np.int64) for bound in (0, bins - 1)]  # integers, so that rounding cannot change the index
    clipped = w.call("Clip", [w.call("Cast", [place], to=DTYPES["int64"]), *bounds])
    return w.call("Reshape", [clipped, w.ints([])])


@emits("reveal.default", namespace="hecompile")
def _reveal(w: Writer, node: fx.Node, args: Sequence[Any]) -> str:
    return w.call("Identity", [args[0]])


@emits("polynomial.default", namespace="hecompile")
def _polynomial(w: Writer, node: fx.Node, args: Sequence[Any]) -> str:
    """Write a polynomial by Clenshaw's recurrence, as `own_ops` computes it."""
    x, t, *tables = args
    bins, terms = (int(str(dim)) for dim in info(node.args[4]).shape)
    place, dtype = _bin(w, t, bins), info(node.args[0]).dtype

    def row(table: str, argument: Any) -> str:
        entry = w.call("Gather", [table, place], axis=0)
        return entry if info(argument).dtype == dtype else w.call("Cast", [entry], to=DTYPES[dtype])

    bottom, top, coefficients = (row(table, argument) for table, argument in zip(tables, node.args[2:], strict=True))
    two, zero = w.constant(2, np.dtype(dtype)), w.constant(0, np.dtype(dtype))
    shifted = w.call("Sub", [w.call("Mul", [x, two]), w.call("Add", [bottom, top])])
    twice = w.call("Mul", [shifted, w.call("Div", [two, w.call("Sub", [top, bottom])])])
    term = [w.call("Gather", [coefficients, w.constant(power, np.int64)], axis=0) for power in range(terms)]
    first, second = term[-1], zero
    for power in range(terms - 2, 0, -1):
        step = w.call("Sub", [w.call("Add", [w.call("Mul", [twice, first]), term[power]]), second])
        first, second = step, first
    half = w.call("Div", [w.call("Mul", [twice, first]), two])
    return w.call("Sub", [w.call("Add", [half, term[0]]), second])
