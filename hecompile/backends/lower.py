"""The pass that turns each region that a server computes into two halves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from hecompile.ir.halves import ClientHalf
from hecompile.ir.passes import RegionPass
from hecompile.ir.regions import AnyCall, Lowered, Program, SubgraphRegion

__all__ = ["Lower"]


@dataclass(frozen=True)
class Lower(RegionPass):
    """Let each backend turn its regions into a client half and a server half.

    region call_03  ->  client: program, scales, biases
                    ->  server: program, int8 weights
    """

    halves: Callable[[Program], Callable[[AnyCall], Lowered]]  # of a program: the function that lowers one of its regions
    parameters: Callable[[ClientHalf], str]  # as text, for the log

    def on(self, program: Program) -> Callable[[AnyCall], AnyCall]:
        lower = self.halves(program)

        def change(region: AnyCall) -> AnyCall:
            if region.lowered is not None:
                return region
            lowered = lower(region)
            note = "; ".join(filter(None, (self.parameters(lowered.client), lowered.note)))
            return replace(region, lowered=replace(lowered, note=note))

        return change

    def summary(self, before: Program, after: Program) -> str:
        lowered = [(region, region.lowered) for region in after.calls.values() if region.lowered is not None]
        size = sum(tensor.nbytes for _, halves in lowered for tensor in halves.server.tensors.values())
        notes = [f"; {region.name}: {halves.note}" for region, halves in lowered if isinstance(region, SubgraphRegion)]
        return f"{len(after.calls)} regions, {size / 2**20:.2f} MiB of weights at the server" + "".join(notes)
