"""Parameters that provably carry each layer."""

from __future__ import annotations

from dataclasses import dataclass, field

from hecompile.backends.bfv.parameters import DIMENSIONS, LIMITS, T_BITS
from hecompile.backends.bfv.stages import ParameterizedProduct
from hecompile.backends.registry import backend
from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.products import AnyProduct, QuantizedProduct
from hecompile.ir.regions import CallRegion, Program
from hecompile.machine import Machine
from hecompile.passes.base import Pass

__all__ = ["SelectParameters", "multiple_of"]


def multiple_of(program: Program, product: AnyProduct) -> int:
    """Pictures per entry of the batch."""
    first = program.plan.value(product.input).shape[0]
    return int(str(first).removesuffix("B") or 1)


@dataclass(frozen=True)
class SelectParameters(Pass[Program, Program]):
    """Choose ring, plaintext modulus and quantiser steps per layer, by proof.

    weights int8 (32, 16, 9)  ->  N 2048, q 48 bits, t 26 bits, limit 2047
    a layer that fits no ring ->  error that names it
    """

    security: int
    machine: Machine = field(default_factory=Machine)

    def run(self, program: Program) -> Program:
        findings: list[Diagnostic] = []

        def parameterize(region: CallRegion, product: AnyProduct) -> AnyProduct:
            if not isinstance(product, QuantizedProduct):
                return product
            multiple = multiple_of(program, product)
            found = backend(region.backend).parameterize(product, multiple, self.machine, self.security)
            if found is None:
                findings.append(_finding(product))
                return product
            return found

        result = program.with_products(parameterize)
        if findings:
            raise CompileError(findings)
        return result

    def summary(self, before: Program, after: Program) -> str:
        rings = {
            (product.parameters.dimension, product.parameters.q_bits)
            for product in after.products
            if isinstance(product, ParameterizedProduct)
        }
        return ", ".join(f"N {dimension} q {q_bits} bits" for dimension, q_bits in sorted(rings)) or "nothing to do"


def _finding(product: QuantizedProduct) -> Diagnostic:
    names = ", ".join(part.output for part in product.parts)
    return Diagnostic(
        f"no parameters carry {names}: sum of |weights| {product.row_norm}, picture {product.geometry.picture}",
        source=product.parts[0].source,
        help=f"a layer fits if its row sum times {LIMITS[0]} is below 2^{T_BITS[1] - 1} and one row of its picture below "
        f"{DIMENSIONS[-1]} entries; run the layer outside the UNet, or split its input channels",
    )
