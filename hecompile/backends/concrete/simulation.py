"""Regions under Concrete's own simulation: noise is drawn as its model says, nothing is encrypted and no server takes part.

A circuit is compiled from the artifact's MLIR once more, for plain words with noise added; results are wrong as often as encrypted
ones would be.
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
class Outputs(Pending):
    """The results, computed before any reply."""

    outputs: list[Array]


class Simulation(RegionClient):
    """A region that is computed where it is asked for: nothing is sent."""

    def decrypt(self, reply: Buffer, pending: Pending) -> list[Array]:
        if reply or not isinstance(pending, Outputs):
            raise ProtocolError("an answer to a simulation")
        return pending.outputs

    def request_bytes(self, batch: int) -> int:
        return 0

    def reply_bytes(self, batch: int) -> int:
        return 0
