"""The `concrete_lookups` backend: conv, activation, conv wholly at the server, by Concrete ML; the rest by `concrete`."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hecompile.backends.base import Backend, Facts, RegionClient, RegionServer
from hecompile.backends.concrete.linear.backend import ConcreteBackend, bytes_of
from hecompile.backends.concrete.linear.program import error_of
from hecompile.backends.concrete.lookups.options import LookupOptions
from hecompile.backends.concrete.lookups.program import LookupProgram, Range, lookup_program
from hecompile.errors import InternalError, ProtocolError
from hecompile.ir.candidates import Candidate, Cost
from hecompile.ir.halves import Array, Half
from hecompile.ir.regions import Lowered, SubgraphRegion

if TYPE_CHECKING:
    from hecompile.backends.concrete.lookups.lowering import Quantiser, Twin
    from hecompile.ir.graph import ModelGraph
    from hecompile.ir.layer_groups import Stack
    from hecompile.ir.regions import AnyCall
    from hecompile.machine import Machine
    from hecompile.options import CompileOptions

__all__ = ["Halves", "LookupBackend", "Names"]

LARGEST_ZERO = 1e15  # of a quantiser: whole numbers are exact beside it


@dataclass(frozen=True)
class Names:
    """A region and the values that it reads and makes."""

    region: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Halves:
    """A lowered region, and the CPU seconds of its trial."""

    client: Half
    server: Half
    measured_s: float


class LookupBackend(Backend):
    """Exact non-linear functions at the server, up to the declared error probability; evaluation keys once per session."""

    name = "concrete_lookups"
    encrypts = True
    integer = False
    options = LookupOptions
    rest = "concrete"
    calibrated = True
    alone = chains = one_circuit = True

    def candidates(self, graph: ModelGraph, machine: Machine) -> list[Candidate]:
        from hecompile.backends.concrete.lookups.chains import chain_candidates

        return chain_candidates(graph, machine, self.name)

    def price_layers(self, stack: Stack, machine: Machine) -> tuple[Cost, int] | None:
        return ConcreteBackend().price_layers(stack, machine)

    def lower(self, region: AnyCall, options: CompileOptions) -> tuple[Half, Half]:
        raise InternalError(f"region '{region.name}' is lowered without its inputs of a calibration")

    def lower_calibrated(self, region: AnyCall, options: CompileOptions, inputs: Sequence[Array]) -> Lowered:
        from hecompile.backends.concrete.lookups.gate import Limits, predict
        from hecompile.backends.concrete.lookups.lowering import search_widths
        from hecompile.backends.concrete.measure import with_lookups
        from hecompile.machine import Machine, load_machine

        if not isinstance(region, SubgraphRegion) or len(region.inputs) != 1 or len(region.outputs) != 1:
            raise InternalError(f"region '{region.name}' is no chain of one input and one output")
        (values,) = inputs
        twin = search_widths(region.graph_module, values, region.reference([values])[0], options.lookup_db, options.p_error)
        machine = load_machine(Path(options.machine)) if options.machine else with_lookups(Machine())
        prediction = predict(twin, machine)
        prediction.refuse_above(Limits(options.lookup_seconds, options.lookup_key_mib), f"region '{region.name}' at {twin.widths}")
        found = self.halves(twin, values, Names(region.name, region.inputs, region.outputs), options.max_batch)
        return Lowered(found.client, found.server, f"predicted {prediction}; measured {found.measured_s:.1f} CPU seconds")

    def halves(self, twin: Twin, values: Array, names: Names, max_batch: int) -> Halves:
        """Both halves of a compiled circuit, after one encrypted run that must equal its twin."""
        from hecompile.backends.concrete.circuits import framed

        source = twin.source.quantise(values[:1])
        expected = twin.integers(source)
        trial = framed(twin.module.fhe_circuit, source, expected, twin.p_error * twin.lookups * expected.size)
        program = LookupProgram(
            names.region, self.name, names.inputs, names.outputs, max_batch, twin.p_error, twin.specs.text,
            trial.request, trial.reply, Range(twin.source.scale, twin.source.low, twin.source.high), twin.result.scale,
            len(trial.keys), twin.lookups, twin.complexity, str(twin.widths),
            round(twin.distortion_db, 3),
        )  # fmt: skip
        document: Mapping[str, Any] = asdict(program)
        client = {"source.zero": np.atleast_1d(twin.source.zero), "result.zero": np.atleast_1d(twin.result.zero)}
        server = {"mlir": np.frombuffer(twin.mlir.encode(), np.uint8)}
        return Halves(Half(document, client), Half(document, server), trial.seconds)

    def facts(self, half: Half) -> Facts:
        program = lookup_program(half)
        key_mib = program.key_bytes / 2**20
        return Facts(
            layers=2,
            parameters=f"{program.widths}; {program.lookups} lookups, complexity {program.complexity:.3g}, "
            f"{key_mib:.0f} MiB of keys sent, some {program.cpu_s:.0f} CPU seconds, {program.distortion_db:.1f} dB",
            proof=error_of(program.p_error, program.lookups),
        )

    def cost(self, half: Half, machine: Machine, batch: int) -> Cost:
        """Keys are expanded once per session, and no part of it."""
        program = lookup_program(half)
        inputs, outputs = (batch * math.prod(shape) for shape in (program.circuit.input_shape, program.circuit.output_shape))
        return Cost(
            batch * program.complexity * machine.lookup_ps * 1e-12,
            (inputs * machine.lwe_encrypt_us + outputs * machine.lwe_decrypt_us) * 1e-6,
            batch * program.request.size,
            batch * program.reply.size,
            program.key_bytes,
            2 * program.key_bytes / 2**20,
        )

    def clear_inputs(self, half: Half) -> tuple[str, ...]:
        return ()

    def check_security(self, half: Half, security_bits: int) -> list[str]:
        program = lookup_program(half)
        return [f"region '{program.region}': {reason}" for reason in program.circuit.weak(security_bits)]

    def check_proofs(self, half: Half) -> list[str]:
        return []  # Concrete's own bounds; the circuit was tried against its twin

    def load_client(self, half: Half) -> RegionClient:
        from hecompile.backends.concrete.lookups.client import LookupClient

        program = lookup_program(half)
        program.circuit.judge_frames(f"region '{program.region}'", program.request, program.reply)
        return LookupClient(program, *_quantisers(half, program))

    def simulation(self, client: Half, server: Half) -> RegionClient:
        from hecompile.backends.concrete.simulation import LookupSimulation, SimulatedCircuit

        program = lookup_program(client)
        circuit = SimulatedCircuit(bytes_of(server, "mlir").decode(), program.p_error)
        return LookupSimulation(program, *_quantisers(client, program), circuit)

    def load_server(self, half: Half) -> RegionServer:
        from hecompile.backends.concrete.lookups.server import LookupServer
        from hecompile.backends.concrete.workers import ServerCircuit

        program, mlir = lookup_program(half), bytes_of(half, "mlir")
        program.circuit.judge_frames(f"region '{program.region}'", program.request, program.reply)
        name = hashlib.sha256(mlir).hexdigest()
        return LookupServer(program, ServerCircuit(name, mlir.decode(), program.p_error, program.circuit.text))


def _quantisers(half: Half, program: LookupProgram) -> tuple[Quantiser, Quantiser]:
    """Of the region's input and output."""
    from hecompile.backends.concrete.lookups.lowering import Quantiser

    shapes = program.circuit.input_shape, program.circuit.output_shape
    zeros = [_zeros(half, f"{name}.zero", shape) for name, shape in zip(("source", "result"), shapes, strict=True)]
    if set(half.tensors) != {"source.zero", "result.zero"}:
        raise ProtocolError(f"region '{program.region}': tensors that no quantiser has")
    source = Quantiser(program.source.scale, zeros[0], program.source.low, program.source.high)
    return source, Quantiser(program.result_scale, zeros[1], 0, 1)


def _zeros(half: Half, name: str, shape: tuple[int, ...]) -> Array:
    """Of values of this shape: broadcast to it, they leave it as it is."""
    tensor = half.tensors.get(name)
    if tensor is None or tensor.dtype != np.float64 or not (np.abs(tensor) <= LARGEST_ZERO).all():
        raise ProtocolError(f"tensor '{name}' is missing or not of float64 up to {LARGEST_ZERO:g}")
    padded = (1,) * (len(shape) - tensor.ndim) + tensor.shape
    if any(size not in (1, whole) for size, whole in zip(padded, shape, strict=False)) or len(padded) != len(shape):
        raise ProtocolError(f"tensor '{name}' of shape {tensor.shape} does not fit values of shape {shape}")
    return tensor
