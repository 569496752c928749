"""Regions under Concrete's own simulation: noise is drawn as its model says, nothing is encrypted and no server takes part.

A circuit is compiled from the artifact's MLIR once more, for plain words with noise added; results are wrong as often as encrypted
ones would be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hecompile.backends.concrete.circuits import concrete, configuration
from hecompile.backends.concrete.linear.program import LinearProgram
from hecompile.backends.concrete.linear.stages import quantise_windows
from hecompile.backends.concrete.lookups.lowering import Quantiser
from hecompile.backends.concrete.lookups.program import LookupProgram
from hecompile.backends.concrete.stacks.program import StackReadout
from hecompile.backends.region_client import Pending, RegionClient, Secrets
from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError
from hecompile.ir.halves import Array
from hecompile.ir.readout import Readout, leading

__all__ = ["LinearSimulation", "LookupSimulation", "SimulatedCircuit", "StackSimulation"]


class SimulatedCircuit:
    """A circuit as a function of integers."""

    def __init__(self, mlir: str, p_error: float) -> None:
        fhe = concrete()
        self._server = fhe.Server.create(mlir, configuration(p_error), is_simulated=True)
        self._client = fhe.Client(self._server.client_specs, is_simulated=True)

    def __call__(self, integers: Array) -> Array:
        """Results for every element: (E, ...) -> (E, ...)."""
        client, server = self._client, self._server
        results: Array = np.concatenate(
            [client.simulate_decrypt(server.run(client.simulate_encrypt(each[None]))) for each in integers]
        )
        return results


@dataclass(frozen=True, repr=False)
class _Pending(Pending):
    outputs: list[Array]


class _Simulation(RegionClient):
    """A region that is computed where it is asked for: nothing is sent."""

    def decrypt(self, reply: Buffer, pending: Pending) -> list[Array]:
        if reply or not isinstance(pending, _Pending):
            raise ProtocolError("an answer to a simulation")
        return pending.outputs

    def request_bytes(self, batch: int) -> int:
        return 0

    def reply_bytes(self, batch: int) -> int:
        return 0


class LinearSimulation(_Simulation):
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
        return [], _Pending(0, outputs)


class StackSimulation(_Simulation):
    """Of a region under `concrete_stacks`."""

    def __init__(self, readout: StackReadout, circuit: SimulatedCircuit) -> None:
        self.inputs, self.outputs, self.max_batch = readout.program.inputs, readout.program.outputs, readout.program.max_batch
        self._readout, self._circuit = readout, circuit

    def encrypt(self, values: Sequence[Array], batch: int, secrets: Secrets | None = None) -> tuple[Sequence[Buffer], Pending]:
        self._readout.program.judge_batch(batch)
        integers, scales = self._readout.integers(values)
        return [], _Pending(0, self._readout.values(self._circuit(integers), scales))


class LookupSimulation(_Simulation):
    """Of a region under `concrete_lookups`."""

    def __init__(self, program: LookupProgram, source: Quantiser, result: Quantiser, circuit: SimulatedCircuit) -> None:
        self.inputs, self.outputs, self.max_batch = program.inputs, program.outputs, program.max_batch
        self._program, self._source, self._result, self._circuit = program, source, result, circuit

    def encrypt(self, values: Sequence[Array], batch: int, secrets: Secrets | None = None) -> tuple[Sequence[Buffer], Pending]:
        self._program.judge_batch(batch)
        return [], _Pending(0, [self._result.value(self._circuit(self._source.quantise(values[0])))])
