"""The pass that chooses parameters which provably carry each layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hecompile.backends.bfv.choose import choose
from hecompile.backends.bfv.parameters import DIMENSIONS, LIMITS, MAX_WORD_BITS, T_BITS
from hecompile.backends.bfv.stages import ParameterizedLinearOp, encrypted_weights
from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.linear_ops import LinearOp, QuantizedLinearOp
from hecompile.ir.passes import RegionPass
from hecompile.ir.regions import AnyCall, CallRegion, Program
from hecompile.machine import Machine

__all__ = ["SelectParameters"]


@dataclass(frozen=True)
class SelectParameters(RegionPass):
    """Choose ring, plaintext modulus and quantiser steps per layer, by proof.

    weights int8 (32, 16, 9)  ->  N 2048, q 48 bits, t 26 bits, limit 2047
    a layer that fits no ring ->  error that names it
    """

    security_bits: int
    machine: Machine

    def on(self, program: Program) -> Callable[[AnyCall], AnyCall]:
        def change(region: AnyCall) -> AnyCall:
            if not isinstance(region, CallRegion):
                return region
            findings: list[Diagnostic] = []

            def parameterize(linear_op: LinearOp) -> LinearOp:
                if not isinstance(linear_op, QuantizedLinearOp):
                    return linear_op
                images_per_sample = program.images_per_sample_of(linear_op)
                choice = choose(encrypted_weights(linear_op), images_per_sample, self.machine, security_bits=self.security_bits)
                if choice is None:
                    findings.append(_finding(linear_op))
                    return linear_op
                return ParameterizedLinearOp(linear_op, choice.parameters)

            result = region.with_linear_ops(parameterize)
            if findings:
                raise CompileError(findings)
            return result

        return change

    def summary(self, before: Program, after: Program) -> str:
        rings = {
            (linear_op.parameters.dimension, linear_op.parameters.q_bits)
            for linear_op in after.linear_ops
            if isinstance(linear_op, ParameterizedLinearOp)
        }
        return ", ".join(f"N {dimension} q {q_bits} bits" for dimension, q_bits in sorted(rings)) or "nothing to do"


def _finding(linear_op: QuantizedLinearOp) -> Diagnostic:
    names = ", ".join(part.output for part in linear_op.parts)
    return Diagnostic(
        f"no parameters carry {names}: sum of |weights| {linear_op.row_norm}, picture {linear_op.geometry.picture}",
        source=linear_op.parts[0].source,
        help=f"a layer fits if its row sum times {LIMITS[0]} is below 2^{T_BITS[1] - 1}, its noise leaves room for that in "
        f"{MAX_WORD_BITS} bits, and one row of its picture is below {DIMENSIONS[-1]} entries; run the layer outside the UNet",
    )
