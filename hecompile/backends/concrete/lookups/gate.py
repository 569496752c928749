"""Whether a circuit with lookups is worth its keys: predicted before any are made.

Concrete counts a circuit's `complexity`; CPU seconds are proportional to it, with a factor of the machine's profile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hecompile.errors import CompileError, Diagnostic

if TYPE_CHECKING:
    from hecompile.backends.concrete.lookups.lowering import Twin
    from hecompile.machine import Machine

__all__ = ["Limits", "Prediction", "predict"]


@dataclass(frozen=True)
class Limits:
    """What a region may cost at most, in CPU seconds and MiB."""

    seconds: float
    key_mib: float


@dataclass(frozen=True)
class Prediction:
    """One evaluation of a circuit in CPU seconds (its lookups run on all cores), and what lies in memory for it."""

    seconds: float
    key_mib: float
    peak_mib: float

    def __str__(self) -> str:
        return f"{self.seconds:.1f} CPU seconds, {self.key_mib:.0f} MiB of expanded keys, {self.peak_mib:.0f} MiB of memory"

    def refuse_above(self, limits: Limits, what: str) -> None:
        """Raises `CompileError` with all numbers if one is above its limit."""
        reasons = []
        if self.seconds > limits.seconds:
            reasons.append(f"{self.seconds:.0f} CPU seconds for one element, at most {limits.seconds:g} are allowed")
        if self.key_mib > limits.key_mib:
            reasons.append(f"{self.key_mib:.0f} MiB of evaluation keys, at most {limits.key_mib:g} are allowed")
        if reasons:
            raise CompileError(
                Diagnostic(
                    f"{what}: {'; '.join(reasons)}",
                    help="raise --lookup-seconds or --lookup-key-mib, or use --backend concrete: activations at the client",
                )
            )


def predict(twin: Twin, machine: Machine) -> Prediction:
    """The first evaluation under new keys, from what Concrete says of a circuit. Expanding keys needs them twice."""
    key_mib = twin.key_bytes / 2**20
    words = 8 * (twin.specs.input_words + twin.specs.output_words) / 2**20
    seconds = twin.complexity * machine.lookup_ps * 1e-12 + key_mib * machine.key_mib_ms * 1e-3
    return Prediction(seconds, key_mib, 2 * key_mib + 2 * words)
