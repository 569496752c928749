"""Simulates regions with Concrete's own simulation: noise is drawn by its model, without encryption and without a server.

The artifact's MLIR is compiled once more, for plain words to which noise is added. Results are wrong as often as encrypted ones
are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hecompile.backends.concrete.library import concrete, configuration
from hecompile.backends.region_client import Pending, RegionClient
from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError
from hecompile.ir.halves import Array

__all__ = ["Outputs", "SimulatedCircuit", "Simulation"]


class SimulatedCircuit:
    """A simulated circuit, which is called as a function of integers."""

    def __init__(self, mlir: str, p_error: float) -> None:
        fhe = concrete()
        self._server = fhe.Server.create(mlir, configuration(p_error), is_simulated=True)
        self._client = fhe.Client(self._server.client_specs, is_simulated=True)

    def __call__(self, integers: Array) -> Array:
        """Run the circuit on every element: (E, ...) -> (E, ...)."""
        client, server = self._client, self._server
        results: Array = np.concatenate(
            [client.simulate_decrypt(server.run(client.simulate_encrypt(element[None]))) for element in integers]
        )
        return results


@dataclass(frozen=True, repr=False)
class Outputs(Pending):
    """The results of a simulated request, which are known without a reply."""

    outputs: list[Array]


class Simulation(RegionClient):
    """The client of a simulated region, which computes results itself and sends nothing."""

    def decrypt(self, reply: Buffer, pending: Pending) -> list[Array]:
        if reply or not isinstance(pending, Outputs):
            raise ProtocolError("a reply came to a simulation, which sends no request")
        return pending.outputs

    def request_bytes(self, batch: int) -> int:
        return 0

    def reply_bytes(self, batch: int) -> int:
        return 0
