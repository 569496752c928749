"""The pass that rounds weights to int8."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.linear_ops import FloatLinearOp, LinearOp, QuantizedLinearOp
from hecompile.ir.passes import RegionPass
from hecompile.ir.quantization import quantize
from hecompile.ir.regions import AnyCall, CallRegion, Program

__all__ = ["Quantize"]


@dataclass(frozen=True)
class Quantize(RegionPass):
    """Round the weights of encrypted layers to int8, one scale per output channel.

    weights float64 (32, 16, 9)  ->  weights int8 (32, 16, 9), scales float64 (32)
    bias                         ->  stays at the client, float32
    client regions               ->  unchanged
    """

    def on(self, program: Program) -> Callable[[AnyCall], AnyCall]:
        return _quantized

    def summary(self, before: Program, after: Program) -> str:
        weights = sum(linear_op.weights.size for linear_op in after.linear_ops if isinstance(linear_op, QuantizedLinearOp))
        return f"{weights} weights as int8"


def _quantized(region: AnyCall) -> AnyCall:
    if not isinstance(region, CallRegion):
        return region
    findings: list[Diagnostic] = []

    def change(linear_op: LinearOp) -> LinearOp:
        if not isinstance(linear_op, FloatLinearOp):
            return linear_op
        quantized = quantize(linear_op)
        if not (np.isfinite(quantized.dequantizer.weight_scales).all() and np.isfinite(linear_op.bias).all()):
            help = "repair the model's weights"
            findings.extend(
                Diagnostic(f"{part.output}: weights are not finite", part.source, help=help) for part in linear_op.parts
            )
        return quantized

    result = region.with_linear_ops(change)
    if findings:
        raise CompileError(findings)
    return result
