"""Simulates circuits with table lookups with Concrete's own simulation."""

from __future__ import annotations

from collections.abc import Sequence

from hecompile.backends.concrete.lookups.lowering import Quantiser
from hecompile.backends.concrete.lookups.program import LookupProgram
from hecompile.backends.concrete.simulation import Outputs, SimulatedCircuit, Simulation
from hecompile.backends.region_client import Pending, Secrets
from hecompile.buffers import Buffer
from hecompile.ir.halves import Array

__all__ = ["LookupSimulation"]


class LookupSimulation(Simulation):
    """The simulation of a region under `concrete_lookups`."""

    def __init__(self, program: LookupProgram, source: Quantiser, result: Quantiser, circuit: SimulatedCircuit) -> None:
        self.inputs, self.outputs, self.max_batch = program.inputs, program.outputs, program.max_batch
        self._program, self._source, self._result, self._circuit = program, source, result, circuit

    def encrypt(self, values: Sequence[Array], batch: int, secrets: Secrets | None = None) -> tuple[Sequence[Buffer], Pending]:
        self._program.check_batch(batch)
        return [], Outputs(0, [self._result.value(self._circuit(self._source.quantise(values[0])))])
