"""Each call region becomes two halves."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hecompile.backends.registry import backend
from hecompile.calibration.regions import region_inputs, value_ranges
from hecompile.ir.regions import AnyCall, Lowered, Program, SubgraphRegion
from hecompile.options import CompileOptions
from hecompile.passes.base import Pass

__all__ = ["Lower"]


@dataclass(frozen=True)
class Lower(Pass[Program, Program]):
    """Let each backend turn its regions into a client half and a server half.

    region call_03  ->  client: program, scales, biases
                    ->  server: program, int8 weights
    """

    options: CompileOptions

    def run(self, program: Program) -> Program:
        ranges = self._ranges(program)

        def lower(region: AnyCall) -> AnyCall:
            if region.lowered is not None:
                return region
            chosen = backend(region.backend)
            if chosen.calibrated:
                lowered = chosen.lower_calibrated(region, self.options, region_inputs(program, region))
            elif chosen.ranged:
                lowered = Lowered(*chosen.lower_ranged(region, self.options, ranges))
            else:
                lowered = Lowered(*chosen.lower(region, self.options))
            return replace(region, lowered=lowered)

        return program.with_calls(lower)

    def _ranges(self, program: Program) -> dict[str, float]:
        """Of all values, over the calls that the approximation was judged by; empty if no region asks for them."""
        sampled = {"sample", "timestep"} <= {spec.name for spec in program.inputs}
        if not any(backend(region.backend).needs_ranges(region, sampled) for region in program.calls.values()):
            return {}
        return value_ranges(program, program.approximation.trial.calls if program.approximation is not None else None)

    def summary(self, before: Program, after: Program) -> str:
        size = sum(
            tensor.nbytes for region in after.calls.values() if region.lowered for tensor in region.lowered.server.tensors.values()
        )
        facts = [
            f"; {region.name}: " + "; ".join(filter(None, (_facts(region, region.lowered), region.lowered.note)))
            for region in after.calls.values()
            if isinstance(region, SubgraphRegion) and region.lowered is not None
        ]
        return f"{len(after.calls)} regions, {size / 2**20:.2f} MiB of weights at the server" + "".join(facts)


def _facts(region: AnyCall, lowered: Lowered) -> str:
    return backend(region.backend).facts(lowered.client).parameters
