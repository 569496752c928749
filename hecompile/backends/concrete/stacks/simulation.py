"""Simulates stacks with Concrete's own simulation, one circuit each."""

from __future__ import annotations

from collections.abc import Sequence

from hecompile.backends.concrete.simulation import Outputs, SimulatedCircuit, Simulation
from hecompile.backends.concrete.stacks.program import StackDequantizer
from hecompile.backends.region_client import Pending, Secrets
from hecompile.buffers import Buffer
from hecompile.ir.halves import Array

__all__ = ["StackSimulation"]


class StackSimulation(Simulation):
    """The simulation of a region under `concrete_stacks`."""

    def __init__(self, dequantizer: StackDequantizer, circuit: SimulatedCircuit) -> None:
        self.inputs, self.outputs, self.max_batch = (
            dequantizer.program.inputs,
            dequantizer.program.outputs,
            dequantizer.program.max_batch,
        )
        self._dequantizer, self._circuit = dequantizer, circuit

    def encrypt(self, values: Sequence[Array], batch: int, secrets: Secrets | None = None) -> tuple[Sequence[Buffer], Pending]:
        self._dequantizer.program.check_batch(batch)
        integers, scales = self._dequantizer.integers(values)
        return [], Outputs(0, self._dequantizer.values(self._circuit(integers), scales))
