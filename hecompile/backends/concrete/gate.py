"""Whether a circuit with lookups is worth its keys: predicted before any are made.

Concrete counts a circuit's `complexity`; CPU seconds are proportional to it, with a factor that is measured once per machine
on a small circuit of the same kind.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from hecompile.backends.concrete.circuits import concrete, configuration
from hecompile.backends.concrete.lookup_program import PACE_S
from hecompile.errors import CompileError, Diagnostic

if TYPE_CHECKING:
    from hecompile.backends.concrete.lowering import Twin

__all__ = ["Limits", "Pace", "Prediction", "measured_pace", "predict"]


@dataclass(frozen=True)
class Pace:
    """CPU seconds per unit of complexity, and per MiB of evaluation keys that are expanded."""

    complexity_s: float = PACE_S
    key_mib_s: float = 0.005


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
        return f"{self.seconds:.1f} CPU seconds, {self.key_mib:.0f} MiB of keys, {self.peak_mib:.0f} MiB of memory"

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


def predict(twin: Twin, pace: Pace) -> Prediction:
    """The first evaluation under new keys, from what Concrete says of a circuit. Expanding keys needs them twice."""
    key_mib = twin.key_bytes / 2**20
    words = 8 * (twin.specs.input_words + twin.specs.output_words) / 2**20
    return Prediction(twin.complexity * pace.complexity_s + key_mib * pace.key_mib_s, key_mib, 2 * key_mib + 2 * words)


@lru_cache(maxsize=1)
def measured_pace() -> Pace:
    """This machine's: 16 values rounded from eight to five bits and looked up, twice; the first time expands the keys."""
    fhe = concrete()

    def square(value: Any) -> Any:
        rounded = fhe.round_bit_pattern(value, lsbs_to_remove=3, exactness=fhe.Exactness.EXACT)
        return fhe.univariate(lambda each: each * each // 4096)(rounded)

    values = np.arange(16) * 15
    circuit = fhe.Compiler(square, {"value": "encrypted"}).compile([values, values[::-1]], configuration(2.0**-40, lookups=True))
    circuit.keygen(force=True)
    ciphertext = circuit.encrypt(values)
    taken = []
    for _ in range(2):
        started = time.process_time()
        circuit.run(ciphertext)
        taken.append(time.process_time() - started)
    key_mib = (circuit.size_of_bootstrap_keys + circuit.size_of_keyswitch_keys) / 2**20
    return Pace(taken[1] / float(circuit.complexity), max(0.0, taken[0] - taken[1]) / key_mib)
