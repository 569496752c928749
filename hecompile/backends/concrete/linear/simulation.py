"""Simulates linear layers with Concrete's own simulation, one circuit each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hecompile.backends.concrete.linear.program import LinearProgram
from hecompile.backends.concrete.simulation import Outputs, SimulatedCircuit, Simulation
from hecompile.backends.concrete.windows import quantise_windows
from hecompile.backends.region_client import Pending, Secrets
from hecompile.buffers import Buffer
from hecompile.ir.dequantizer import Dequantizer, leading
from hecompile.ir.halves import Array

__all__ = ["LinearSimulation"]


class LinearSimulation(Simulation):
    """The simulation of a region under `concrete`."""

    def __init__(self, program: LinearProgram, dequantizers: list[Dequantizer], circuits: Sequence[SimulatedCircuit]) -> None:
        self.inputs, self.outputs, self.max_batch = program.inputs, program.outputs, program.max_batch
        self._program, self._dequantizers, self._circuits = program, dequantizers, circuits

    def encrypt(self, values: Sequence[Array], batch: int, secrets: Secrets | None = None) -> tuple[Sequence[Buffer], Pending]:
        self._program.check_batch(batch)
        named: Mapping[str, Array] = dict(zip(self.inputs, values, strict=True))
        outputs = list[Array]()
        for layer, dequantizer, circuit in zip(self._program.body.layers, self._dequantizers, self._circuits, strict=True):
            value = named[layer.input]
            integers, scales = quantise_windows(layer.geometry.to_picture(value), layer.geometry, layer.limits)
            outputs += dequantizer.values(circuit(integers), scales, leading(value, layer.geometry))
        return [], Outputs(0, outputs)
