"""BFV with coefficient encoding on SEAL: exact integer linear layers, no evaluation keys, a fresh secret key per request."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from hecompile.backends.bfv.integer import IntegerBackend
from hecompile.backends.bfv.parameters import Parameters, noise_bound
from hecompile.backends.bfv.program import LayerProgram, judge_messages, region_program
from hecompile.backends.bfv.weights import weights_of

if TYPE_CHECKING:
    from hecompile.backends.region_client import RegionClient
    from hecompile.backends.region_server import RegionServer
    from hecompile.ir.halves import ClientHalf, ServerHalf

__all__ = ["BfvBackend"]


class BfvBackend(IntegerBackend):
    """The default backend."""

    name = "bfv"

    def prime(self, parameters: Parameters) -> int:
        from hecompile.backends.bfv.seal import make_ring

        return make_ring(parameters.dimension, parameters.q_bits, 1 << parameters.t_bits).q

    def clear_inputs(self, half: ClientHalf) -> tuple[str, ...]:
        return ()

    def check_security(self, half: ClientHalf, security_bits: int) -> list[str]:

        from hecompile.security.table import report

        reasons = []
        program = region_program(half)
        for layer in program.body.layers:
            found = report(layer.parameters.dimension, layer.q.bit_length(), security_bits)
            if not found.ok:
                reasons.append(
                    f"region '{program.region}', layer of {layer.input}: {found.q_bits} modulus bits at dimension "
                    f"{found.dimension} give less than {security_bits} bits of security"
                )
        return reasons

    def check_proofs(self, half: ServerHalf) -> list[str]:
        """Every bound of the program that does not hold for the weights of a server half."""
        program = region_program(half)
        reasons = []
        for layer, weights in zip(program.body.layers, weights_of(half, program), strict=True):
            if weights.row_norm * layer.parameters.limit > 2 ** (layer.parameters.t_bits - 1) - 1:
                reasons.append(f"region '{program.region}', layer of {layer.input}: sums may leave t")
            for batch in range(1, program.max_batch + 1):
                first, second = layer.layout(batch).answer_norms(weights.encrypted)
                bound, budget = _bounds(layer, batch, (first + bool(layer.split.released), second))
                if bound > budget:
                    reasons.append(
                        f"region '{program.region}', layer of {layer.input}, batch {batch}: noise of "
                        f"2^{math.log2(bound):.1f}, room for 2^{math.log2(budget):.1f}"
                    )
        return reasons

    def load_client(self, half: ClientHalf) -> RegionClient:
        from hecompile.backends.bfv.client import BfvClient
        from hecompile.backends.readouts import readouts

        program = region_program(half)
        client = BfvClient(program, readouts(half, program.region, program.body.layers))
        judge_messages(client, program)
        return client

    def load_server(self, half: ServerHalf) -> RegionServer:
        from hecompile.backends.bfv.server import BfvServer

        program = region_program(half)
        return BfvServer(program, weights_of(half, program))

    def measure(self, runs: int) -> Mapping[str, float]:
        from hecompile.backends.bfv.measure import measure_bfv

        return measure_bfv(self, runs)


def _bounds(layer: LayerProgram, batch: int, norms: tuple[int, float]) -> tuple[float, float]:
    """The proved noise and its room, with the prime itself."""
    row, parameters = layer.packings[batch - 1], layer.parameters
    bound = noise_bound(row.proof, norms, parameters.dimension, row.drop_b, row.drop_a)
    return bound, layer.q / 2 ** (parameters.t_bits + 1) - 1
