"""Linear layers in a row or in a sum under Concrete's own simulation, as one circuit."""

from __future__ import annotations

from collections.abc import Sequence

from hecompile.backends.concrete.simulation import Outputs, SimulatedCircuit, Simulation
from hecompile.backends.concrete.stacks.program import StackReadout
from hecompile.backends.region_client import Pending, Secrets
from hecompile.buffers import Buffer
from hecompile.ir.halves import Array

__all__ = ["StackSimulation"]


class StackSimulation(Simulation):
    """Of a region under `concrete_stacks`."""

    def __init__(self, readout: StackReadout, circuit: SimulatedCircuit) -> None:
        self.inputs, self.outputs, self.max_batch = readout.program.inputs, readout.program.outputs, readout.program.max_batch
        self._readout, self._circuit = readout, circuit

    def encrypt(self, values: Sequence[Array], batch: int, secrets: Secrets | None = None) -> tuple[Sequence[Buffer], Pending]:
        self._readout.program.judge_batch(batch)
        integers, scales = self._readout.integers(values)
        return [], Outputs(0, self._readout.values(self._circuit(integers), scales))
