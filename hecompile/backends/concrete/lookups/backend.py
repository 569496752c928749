"""The `concrete_lookups` backend: conv, activation, conv in one request, by Concrete ML. `concrete` runs all other layers."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hecompile.backends.base import Backend, Description
from hecompile.backends.concrete.lookups.program import LookupProgram, lookup_program
from hecompile.backends.concrete.tensors import bytes_of
from hecompile.backends.tensors import check_names
from hecompile.errors import ProtocolError

if TYPE_CHECKING:
    from hecompile.backends.concrete.lookups.lowering import Quantiser
    from hecompile.backends.context import Context
    from hecompile.backends.region_client import RegionClient
    from hecompile.backends.region_server import RegionServer
    from hecompile.ir.candidates import Candidate, PartCost
    from hecompile.ir.graph import ModelGraph
    from hecompile.ir.halves import Array, ClientHalf, Half, ServerHalf
    from hecompile.ir.passes import RegionPass
    from hecompile.ir.regions import AnyCall, Lowered, Program
    from hecompile.machine import Machine
    from hecompile.panels import Panel

__all__ = ["LookupBackend"]

LARGEST_ZERO = 1e15  # largest zero point of a quantiser: sums with integers are still exact


class LookupBackend(Backend):
    """The server evaluates activations by table lookups, exact up to the declared error probability.

    Clients send evaluation keys once per session.
    """

    name = "concrete_lookups"
    others = ("concrete",)

    @property
    def options(self) -> type[Panel]:
        from hecompile.backends.concrete.lookups.options import LookupOptions

        return LookupOptions

    def propose(self, graph: ModelGraph, context: Context) -> list[Candidate]:
        """Propose regions of conv, activation, conv with few enough table lookups, then what `concrete` proposes."""
        from hecompile.backends.concrete.lookups.candidates import lookup_candidates

        return lookup_candidates(graph, context.machine, self.name) + context.propose("concrete", graph)

    def timestep_rows(self, rows: int) -> int:
        return 1  # every row would need a circuit of its own

    def lowering(self, context: Context) -> Sequence[RegionPass]:
        from hecompile.backends.concrete.lookups.regions import lower_lookup_region
        from hecompile.backends.lower import Lower
        from hecompile.calibration.regions import region_inputs

        def halves(program: Program) -> Callable[[AnyCall], Lowered]:
            return lambda region: lower_lookup_region(region, region_inputs(program, region), context)

        return (Lower(self.name, halves, lambda half: self.describe(half).parameters),)

    def describe(self, half: ClientHalf) -> Description:
        from hecompile.backends.concrete.errors import error_of

        program = lookup_program(half)
        key_mib = program.body.key_bytes / 2**20
        return Description(
            layers=2,
            parameters=f"{program.body.widths}; {program.body.lookups} lookups, complexity {program.body.complexity:.3g}, "
            f"{key_mib:.0f} MiB of keys sent, some {program.body.cpu_s:.0f} CPU seconds, {program.body.distortion_db:.1f} dB",
            proof=error_of(program.body.p_error, program.body.lookups),
        )

    def price(self, half: ClientHalf, machine: Machine, batch: int) -> list[PartCost]:
        """The cost of a request. Expanding the keys, which happens once per session, is not part of it."""
        from hecompile.ir.candidates import Cost, PartCost

        program = lookup_program(half)
        inputs, outputs = (
            batch * math.prod(shape) for shape in (program.body.circuit.input_shape, program.body.circuit.output_shape)
        )
        cost = Cost(
            batch * program.body.complexity * machine.lookup_ps * 1e-12,
            (inputs * machine.lwe_encrypt_us + outputs * machine.lwe_decrypt_us) * 1e-6,
            batch * program.body.request.size,
            batch * program.body.reply.size,
            program.body.key_bytes,
            2 * program.body.key_bytes / 2**20,
        )
        return [PartCost(cost)]

    def clear_inputs(self, half: ClientHalf) -> tuple[str, ...]:
        return ()

    def check_security(self, half: ClientHalf, security_bits: int) -> list[str]:
        program = lookup_program(half)
        return [f"region '{program.region}': {reason}" for reason in program.body.circuit.weak(security_bits)]

    def check_proofs(self, half: ServerHalf) -> list[str]:
        return []  # the bounds are Concrete's own, and the circuit was compared with plain integers when it was compiled

    def load_client(self, half: ClientHalf) -> RegionClient:
        from hecompile.backends.concrete.lookups.client import LookupClient

        program = lookup_program(half)
        program.body.circuit.check_frames(f"region '{program.region}'", program.body.request, program.body.reply)
        return LookupClient(program, *_quantisers(half, program))

    def simulation(self, client: ClientHalf, server: ServerHalf) -> RegionClient:
        from hecompile.backends.concrete.lookups.simulation import LookupSimulation
        from hecompile.backends.concrete.simulation import SimulatedCircuit

        program = lookup_program(client)
        circuit = SimulatedCircuit(bytes_of(server, "mlir").decode(), program.body.p_error)
        return LookupSimulation(program, *_quantisers(client, program), circuit)

    def load_server(self, half: ServerHalf) -> RegionServer:
        from hecompile.backends.concrete.lookups.server import LookupServer
        from hecompile.backends.concrete.workers import ServerCircuit

        check_names(half, ("mlir",))
        program, mlir = lookup_program(half), bytes_of(half, "mlir")
        program.body.circuit.check_frames(f"region '{program.region}'", program.body.request, program.body.reply)
        name = hashlib.sha256(mlir).hexdigest()
        return LookupServer(program, ServerCircuit(name, mlir.decode(), program.body.p_error, program.body.circuit.text))


def _quantisers(half: Half, program: LookupProgram) -> tuple[Quantiser, Quantiser]:
    """The quantisers of a region's input and output. Raises `ProtocolError` if the half's tensors are not theirs."""
    from hecompile.backends.concrete.lookups.lowering import Quantiser

    shapes = program.body.circuit.input_shape, program.body.circuit.output_shape
    zeros = [_zeros(half, f"{name}.zero", shape) for name, shape in zip(("source", "result"), shapes, strict=True)]
    if set(half.tensors) != {"source.zero", "result.zero"}:
        raise ProtocolError(f"region '{program.region}': tensors other than the zero points of its quantisers")
    source = Quantiser(program.body.source.scale, zeros[0], program.body.source.low, program.body.source.high)
    return source, Quantiser(program.body.result_scale, zeros[1], 0, 1)


def _zeros(half: Half, name: str, shape: tuple[int, ...]) -> Array:
    """Zero points for values of this shape, to which they can be broadcast. Raises `ProtocolError` if they cannot."""
    tensor = half.tensors.get(name)
    if tensor is None or tensor.dtype != np.float64 or not (np.abs(tensor) <= LARGEST_ZERO).all():
        raise ProtocolError(f"tensor '{name}' is missing or not of float64 up to {LARGEST_ZERO:g}")
    padded = (1,) * (len(shape) - tensor.ndim) + tensor.shape
    if any(size not in (1, whole) for size, whole in zip(padded, shape, strict=False)) or len(padded) != len(shape):
        raise ProtocolError(f"tensor '{name}' of shape {tensor.shape} does not fit values of shape {shape}")
    return tensor
