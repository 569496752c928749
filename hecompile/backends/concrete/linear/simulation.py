"""Linear layers under Concrete's own simulation, one circuit each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hecompile.backends.concrete.linear.program import LinearProgram
from hecompile.backends.concrete.simulation import Outputs, SimulatedCircuit, Simulation
from hecompile.backends.concrete.windows import quantise_windows
from hecompile.backends.region_client import Pending, Secrets
from hecompile.buffers import Buffer
from hecompile.ir.halves import Array
from hecompile.ir.readout import Readout, leading

__all__ = ["LinearSimulation"]


class LinearSimulation(Simulation):
    """Of a region under `concrete`."""

    def __init__(self, program: LinearProgram, readouts: list[Readout], circuits: Sequence[SimulatedCircuit]) -> None:
        self.inputs, self.outputs, self.max_batch = program.inputs, program.outputs, program.max_batch
        self._program, self._readouts, self._circuits = program, readouts, circuits

    def encrypt(self, values: Sequence[Array], batch: int, secrets: Secrets | None = None) -> tuple[Sequence[Buffer], Pending]:
        self._program.judge_batch(batch)
        named: Mapping[str, Array] = dict(zip(self.inputs, values, strict=True))
        outputs = list[Array]()
        for layer, readout, circuit in zip(self._program.body.layers, self._readouts, self._circuits, strict=True):
            value = named[layer.input]
            integers, scales = quantise_windows(layer.geometry.to_picture(value), layer.geometry, layer.limits)
            outputs += readout.values(circuit(integers), scales, leading(value, layer.geometry))
        return [], Outputs(0, outputs)
