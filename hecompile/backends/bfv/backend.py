"""The backend `bfv`: exact integer linear layers under BFV with coefficient encoding, and no evaluation keys."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hecompile.backends.base import Description
from hecompile.backends.bfv.integer import IntegerBackend
from hecompile.backends.bfv.parameters import Parameters, noise_bound, noise_budget
from hecompile.backends.bfv.program import LayerProgram, check_messages, region_program
from hecompile.backends.bfv.rings import prime, secrets_of
from hecompile.backends.bfv.weights import weights_of

if TYPE_CHECKING:
    from hecompile.backends.context import Context
    from hecompile.backends.region_client import RegionClient
    from hecompile.backends.region_server import RegionServer, RegionShard
    from hecompile.ir.halves import ClientHalf, Half, ServerHalf
    from hecompile.ir.passes import RegionPass
    from hecompile.panels import Panel

__all__ = ["BfvBackend"]


class BfvBackend(IntegerBackend):
    """The default backend. Every request is encrypted under fresh secrets."""

    name = "bfv"

    @property
    def options(self) -> type[Panel]:
        from hecompile.backends.bfv.options import BfvOptions

        return BfvOptions

    def prime(self, parameters: Parameters) -> int:
        return prime(parameters.q_bits, parameters.t_bits)

    def packed(self, context: Context) -> Sequence[RegionPass]:
        from hecompile.backends.bfv.options import BfvOptions
        from hecompile.backends.bfv.sharing import ShareSeeds

        options = context.panel(BfvOptions)
        most_bytes = int(options.client_cache_mib * 2**20)
        # after packing: it packs anew where `a` is sent less often, and limits requests of a run by the security bits
        return (ShareSeeds(self.name, most_bytes, options.run_calls, context.security_bits, context.machine),)

    def clear_inputs(self, half: ClientHalf) -> tuple[str, ...]:
        return ()

    def describe(self, half: Half) -> Description:
        bits = [_bits(layer) for layer in region_program(half).body.layers]
        classical, quantum = (round(min(layer_bits, default=0.0), 1) for layer_bits in zip(*bits, strict=True))
        return replace(super().describe(half), classical_bits=classical, quantum_bits=quantum)

    def check_security(self, half: ClientHalf, security_bits: int) -> list[str]:
        """A reason for every layer that has too many secrets under one seed for its ring, at any batch size."""
        reasons = []
        program = region_program(half)
        for layer in program.body.layers:
            if (bits := _bits(layer)[0]) < security_bits:
                reasons.append(
                    f"region '{program.region}', layer of {layer.input}: {_secrets(layer)} secrets under one seed, with "
                    f"{layer.parameters.q_bits} modulus bits at dimension {layer.parameters.dimension}, give {bits:.1f} bits of "
                    f"security, less than {security_bits} bits"
                )
        return reasons

    def check_proofs(self, half: ServerHalf) -> list[str]:
        """A reason for every bound of the document that does not hold for the weights of the server's half."""
        program = region_program(half)
        reasons = []
        for layer, weights in zip(program.body.layers, weights_of(half, program), strict=True):
            if weights.row_norm * layer.parameters.limit > 2 ** (layer.parameters.t_bits - 1) - 1:
                reasons.append(f"region '{program.region}', layer of {layer.input}: sums may exceed t/2")
            for batch in range(1, program.max_batch + 1):
                bound, budget = _bounds(layer, batch, layer.layout(batch).answer_norms(weights.encrypted))
                if bound > budget:
                    reasons.append(
                        f"region '{program.region}', layer of {layer.input}, batch {batch}: noise of up to "
                        f"2^{math.log2(bound):.1f}, but decryption corrects at most 2^{math.log2(budget):.1f}"
                    )
        return reasons

    def load_client(self, half: ClientHalf) -> RegionClient:
        from hecompile.backends.bfv.client import BfvClient
        from hecompile.backends.dequantizers import dequantizers

        program = region_program(half)
        client = BfvClient(program, dequantizers(half, program.region, program.body.layers))
        check_messages(client, program)
        return client

    def load_server(self, half: ServerHalf) -> RegionServer:
        from hecompile.backends.bfv.server import BfvServer

        program = region_program(half)
        return BfvServer(program, weights_of(half, program))

    def load_shard(self, half: ServerHalf, index: int, count: int) -> RegionShard:
        from hecompile.backends.bfv.shards import BfvShard

        program = region_program(half)
        return BfvShard(program, weights_of(half, program), index, count)

    def measure(self, runs: int) -> Mapping[str, float]:
        from hecompile.backends.bfv.measure import measure_bfv

        return measure_bfv(self, runs)


def _secrets(layer: LayerProgram) -> int:
    """The most secrets of a layer under one seed, over all batch sizes."""
    return max(secrets_of(layer.layout(batch).blocks, layer.requests) for batch in range(1, len(layer.packings) + 1))


def _bits(layer: LayerProgram) -> tuple[float, float]:
    """Classical and quantum security bits of a layer's secrets under one seed."""
    from hecompile.security.table import security_bits

    dimension, q_bits, secrets = layer.parameters.dimension, layer.parameters.q_bits, _secrets(layer)
    return security_bits(dimension, q_bits, secrets), security_bits(dimension, q_bits, secrets, quantum=True)


def _bounds(layer: LayerProgram, batch: int, norms: tuple[int, float]) -> tuple[float, float]:
    """The bound on a layer's noise and the budget for it, computed for the prime of the document."""
    row, parameters = layer.packings[batch - 1], layer.parameters
    bound = noise_bound(row.proof, norms, parameters.dimension, row.drop_b, row.drop_a)
    return bound, noise_budget(layer.q, parameters.t_bits)
