"""The pass that chooses the limits of the values that enter each layer's circuit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hecompile.backends.concrete.linear.stages import LimitedLinearOp
from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.linear_ops import LinearOp, QuantizedLinearOp
from hecompile.ir.passes import RegionPass
from hecompile.ir.regions import AnyCall, CallRegion, Program

__all__ = ["SelectParameters"]


@dataclass(frozen=True)
class SelectParameters(RegionPass):
    """Choose limits for the entries and windows of each layer's input. The bit width of its circuit follows from them.

    weights int8 (32, 16, 9)  ->  entries up to 127, windows up to 1450
    a layer that reveals values ->  error: circuits reveal nothing
    """

    def on(self, program: Program) -> Callable[[AnyCall], AnyCall]:
        def limited(linear_op: LinearOp) -> LinearOp:
            if not isinstance(linear_op, QuantizedLinearOp):
                return linear_op
            if linear_op.split.reveals:
                raise CompileError(
                    Diagnostic(f"backend '{self.backend}' cannot reveal values", help="use policy strict, or --backend bfv")
                )
            return LimitedLinearOp(linear_op, program.images_per_sample_of(linear_op))

        return lambda region: region.with_linear_ops(limited) if isinstance(region, CallRegion) else region
