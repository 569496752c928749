"""Decides whether a circuit with table lookups may be used, by its predicted cost, before keys are made.

CPU seconds are proportional to the `complexity` that Concrete counts for a circuit. The factor comes from the machine's profile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hecompile.errors import CompileError, Diagnostic

if TYPE_CHECKING:
    from hecompile.backends.concrete.lookups.lowering import CompiledRegion
    from hecompile.machine import Machine

__all__ = ["CostLimits", "PredictedCost", "predicted_cost"]


@dataclass(frozen=True)
class CostLimits:
    """The most that a region may cost: CPU seconds of an evaluation, and MiB of evaluation keys."""

    seconds: float
    key_mib: float


@dataclass(frozen=True)
class PredictedCost:
    """The predicted cost of one evaluation of a circuit: CPU seconds of all cores, MiB of expanded keys, and MiB of memory."""

    seconds: float
    key_mib: float
    peak_mib: float

    def __str__(self) -> str:
        return f"{self.seconds:.1f} CPU seconds, {self.key_mib:.0f} MiB of expanded keys, {self.peak_mib:.0f} MiB of memory"

    def refuse_above(self, limits: CostLimits, what: str) -> None:
        """Raise `CompileError`, which begins with `what`, for every number that is above its limit."""
        reasons = []
        if self.seconds > limits.seconds:
            reasons.append(f"{self.seconds:.0f} CPU seconds for one element of the batch, at most {limits.seconds:g} are allowed")
        if self.key_mib > limits.key_mib:
            reasons.append(f"{self.key_mib:.0f} MiB of evaluation keys, at most {limits.key_mib:g} are allowed")
        if reasons:
            raise CompileError(
                Diagnostic(
                    f"{what}: {'; '.join(reasons)}",
                    help="raise --lookup-seconds or --lookup-key-mib, or use --backend concrete (activations at the client)",
                )
            )


def predicted_cost(compiled: CompiledRegion, machine: Machine) -> PredictedCost:
    """Predict the cost of a circuit's first evaluation under new keys, during which keys lie in memory twice."""
    key_mib = compiled.key_bytes / 2**20
    words = 8 * (compiled.specs.input_words + compiled.specs.output_words) / 2**20
    seconds = compiled.complexity * machine.lookup_ps * 1e-12 + key_mib * machine.key_mib_ms * 1e-3
    return PredictedCost(seconds, key_mib, 2 * key_mib + 2 * words)
