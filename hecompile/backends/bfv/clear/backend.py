"""The backend `clear`, which proposes, lowers and prices as `bfv` does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hecompile.backends.base import Guarantee
from hecompile.backends.bfv.integer import IntegerBackend
from hecompile.backends.bfv.parameters import Parameters
from hecompile.backends.bfv.program import check_messages, region_program
from hecompile.backends.bfv.weights import weights_of

if TYPE_CHECKING:
    from hecompile.backends.region_client import RegionClient
    from hecompile.backends.region_server import RegionServer
    from hecompile.ir.halves import ClientHalf, ServerHalf

__all__ = ["ClearBackend"]


class ClearBackend(IntegerBackend):
    """Computes exactly what `bfv` computes, in the clear: a simulation."""

    name = "clear"
    guarantee = Guarantee(encrypts=False, stateless=True)

    def prime(self, parameters: Parameters) -> int:
        return (1 << parameters.q_bits) - 1  # no modulus is used

    def clear_inputs(self, half: ClientHalf) -> tuple[str, ...]:
        return region_program(half).inputs

    def check_security(self, half: ClientHalf, security_bits: int) -> list[str]:
        return [f"region '{region_program(half).region}' is not encrypted: backend 'clear' is a simulation"]

    def check_proofs(self, half: ServerHalf) -> list[str]:
        return []

    def load_client(self, half: ClientHalf) -> RegionClient:
        from hecompile.backends.bfv.clear.client import ClearClient
        from hecompile.backends.dequantizers import dequantizers

        program = region_program(half)
        client = ClearClient(program, dequantizers(half, program.region, program.body.layers))
        check_messages(client, program)
        return client

    def load_server(self, half: ServerHalf) -> RegionServer:
        from hecompile.backends.bfv.clear.server import ClearServer

        program = region_program(half)
        return ClearServer(program, weights_of(half, program))
