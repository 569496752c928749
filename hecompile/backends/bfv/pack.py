"""The pass that packs pictures into polynomials, for every batch size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hecompile.backends.bfv.choose import choose
from hecompile.backends.bfv.stages import PackedLinearOp, ParameterizedLinearOp, encrypted_weights
from hecompile.errors import InternalError
from hecompile.ir.linear_ops import LinearOp
from hecompile.ir.passes import RegionPass
from hecompile.ir.regions import AnyCall, CallRegion, Program
from hecompile.machine import Machine

__all__ = ["Pack"]


@dataclass(frozen=True)
class Pack(RegionPass):
    """Lay out pictures in polynomials: the batch first, then input channels and outputs.

    N 2048, picture 32x8x8, batch 1   ->  6 channels an upload, 4 outputs an answer
    the same, batch 16                ->  16 pictures, 1 channel an upload, 1 output an answer
    """

    max_batch: int
    machine: Machine

    def on(self, program: Program) -> Callable[[AnyCall], AnyCall]:
        def pack(linear_op: LinearOp) -> LinearOp:
            if not isinstance(linear_op, ParameterizedLinearOp):
                return linear_op
            images_per_sample, weights, choices = (
                program.images_per_sample_of(linear_op),
                encrypted_weights(linear_op.quantized),
                [],
            )
            for batch in range(1, self.max_batch + 1):
                choice = choose(weights, batch * images_per_sample, self.machine, linear_op.parameters)
                if choice is None:
                    raise InternalError(f"{linear_op.input}: no packing for batch {batch} under {linear_op.parameters}")
                choices.append(choice)
            return PackedLinearOp(linear_op, images_per_sample, tuple(choices))

        return lambda region: region.with_linear_ops(pack) if isinstance(region, CallRegion) else region

    def summary(self, before: Program, after: Program) -> str:
        fills = [linear_op.choices[0].layout.fill for linear_op in after.linear_ops if isinstance(linear_op, PackedLinearOp)]
        return f"fill factor at batch 1: {sum(fills) / len(fills):.0%} on average" if fills else "nothing to do"
