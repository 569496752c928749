"""The `concrete_stacks` backend: linear layers in a row or in a sum as one circuit without lookups; the rest by `concrete`."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hecompile.backends.base import Backend, Facts, RegionClient, RegionServer
from hecompile.backends.concrete.linear.backend import ConcreteBackend, bytes_of
from hecompile.backends.concrete.linear.costs import words_cost
from hecompile.backends.concrete.linear.program import error_of
from hecompile.backends.concrete.linear.stages import LIMIT
from hecompile.backends.concrete.options import ConcreteOptions
from hecompile.backends.concrete.stacks.distortion import distortion_db, offset_of
from hecompile.backends.concrete.stacks.program import StackProgram, stack_program, stack_readout, vector
from hecompile.errors import CompileError, InternalError
from hecompile.ir.candidates import Candidate, Cost
from hecompile.ir.graph import ModelGraph
from hecompile.ir.halves import Half
from hecompile.ir.regions import SubgraphRegion

if TYPE_CHECKING:
    from hecompile.backends.concrete.stacks.circuit import StackCircuit
    from hecompile.backends.concrete.stacks.integer_map import IntegerMap
    from hecompile.ir.layer_groups import Stack
    from hecompile.ir.regions import AnyCall
    from hecompile.machine import Machine
    from hecompile.options import CompileOptions

__all__ = ["StackBackend"]

LOG = logging.getLogger(__name__)
LEAST_P_ERROR = 2.0**-128


def _compiled(region: SubgraphRegion, ranges: Mapping[str, float], p_error: float) -> tuple[IntegerMap, StackCircuit, float]:
    """The region in integers, its circuit, and their PSNR; no keys are made."""
    from hecompile.backends.concrete.stacks.circuit import stack_circuit
    from hecompile.backends.concrete.stacks.reader import integer_map

    integers = integer_map(ModelGraph(region.graph_module, (), region.outputs), ranges)
    return integers, stack_circuit(integers, p_error), distortion_db(region, integers)


class StackBackend(Backend):
    """Exact up to the declared error probability, no evaluation keys, a fresh secret key per request."""

    name = "concrete_stacks"
    encrypts = True
    integer = False
    options = ConcreteOptions
    alone = chains = ranged = True
    rest = "concrete"

    def candidates(self, graph: ModelGraph, machine: Machine) -> list[Candidate]:
        """The largest stacks that fit a circuit, whether or not they are faster than a circuit per layer."""
        from hecompile.backends.concrete.stacks.chains import stack_candidates
        from hecompile.ir.candidates import disjoint

        priced = [self.price_chain(graph, each, machine) for each in stack_candidates(graph, self.name)]
        return disjoint([each for each in priced if each is not None])

    def price_chain(self, graph: ModelGraph, candidate: Candidate, machine: Machine) -> Candidate | None:
        """By compiling its circuit, with inputs of equal ranges and the least probability of errors that may be asked for: it fits
        with any other, whose ciphertexts are a little shorter."""
        from hecompile.ir.subgraph import cut

        nodes = set(candidate.nodes)
        region = SubgraphRegion(candidate.nodes[-1], self.name, *cut(graph, [node for node in graph.nodes if node.name in nodes]))
        try:
            integers, circuit, _ = _compiled(region, {}, LEAST_P_ERROR)
        except CompileError as error:
            LOG.debug("%s stays apart: %s", " + ".join(candidate.nodes), error)
            return None
        inputs, outputs = circuit.specs.input_shape[1], circuit.specs.output_shape[1]
        cost = words_cost(integers.products, inputs, outputs, circuit.specs.encryptions[0].dimension, machine)
        return replace(candidate, cost=cost + Cost(rounds=1))

    def price_layers(self, stack: Stack, machine: Machine) -> tuple[Cost, int] | None:
        return ConcreteBackend().price_layers(stack, machine)

    def needs_ranges(self, region: AnyCall, sampled: bool) -> bool:
        """Of one input only its own scale matters, which every request has."""
        return sampled and len(region.inputs) > 1

    def lower(self, region: AnyCall, options: CompileOptions) -> tuple[Half, Half]:
        return self.lower_ranged(region, options, {})

    def lower_ranged(self, region: AnyCall, options: CompileOptions, ranges: Mapping[str, float]) -> tuple[Half, Half]:
        """Raises `CompileError` if results take too many bits, or the integers are far from the region.

        Inputs whose ranges are too far apart for that are treated as if they had one range, with which the stack was priced.
        """
        from hecompile.backends.concrete.circuits import framed

        if not isinstance(region, SubgraphRegion):
            raise InternalError(f"region '{region.name}' is a single layer: not for backend '{self.name}'")
        try:
            integers, circuit, found_db = _compiled(region, ranges, options.p_error)
        except CompileError:
            integers, circuit, found_db = _compiled(region, {}, options.p_error)
        rng = np.random.default_rng(0)
        drawn = {name: rng.integers(-LIMIT, LIMIT + 1, (1, *shape)) for name, shape in integers.shapes.items()}
        values = integers.run(drawn)
        expected = vector([values[name] for name in integers.units])
        sent = vector([*drawn.values()]) << circuit.shift
        trial = framed(circuit.compiled, sent, expected, options.p_error * expected.size, circuit.shift)
        program = StackProgram(
            region.name, self.name, region.inputs, region.outputs, options.max_batch, options.p_error,
            tuple(integers.shapes.values()), tuple(units.shape for units in integers.units.values()),
            tuple(integers.input_units.values()), LIMIT, circuit.largest, circuit.norm, circuit.shift, integers.products,
            integers.layers, round(found_db, 3), circuit.specs.text, trial.request, trial.reply,
        )  # fmt: skip
        document: Mapping[str, Any] = asdict(program)
        client = {"units": integers.entry_units, "offset": offset_of(region, integers)}
        server = {
            "mlir": np.frombuffer(circuit.compiled.mlir.encode(), np.uint8),
            "keys": np.frombuffer(trial.keys, np.uint8),
        }
        return Half(document, client), Half(document, server)

    def facts(self, half: Half) -> Facts:
        program = stack_program(half)
        circuit = program.circuit
        return Facts(
            layers=program.layers,
            parameters=f"n{circuit.encryptions[0].dimension} {circuit.output_width} bits, {program.distortion_db:.1f} dB",
            proof=error_of(program.p_error, sum(program.output_sizes)),
        )

    def cost(self, half: Half, machine: Machine, batch: int) -> Cost:
        program = stack_program(half)
        inputs, outputs = sum(program.input_sizes), sum(program.output_sizes)
        return words_cost(program.products, inputs, outputs, program.circuit.encryptions[0].dimension, machine, batch)

    def clear_inputs(self, half: Half) -> tuple[str, ...]:
        return ()

    def check_security(self, half: Half, security_bits: int) -> list[str]:
        program = stack_program(half)
        return [f"region '{program.region}': {reason}" for reason in program.circuit.weak(security_bits)]

    def check_proofs(self, half: Half) -> list[str]:
        program, problems = stack_program(half), []
        width, probability = program.circuit.output_width, program.circuit.error_probability(program.norm, program.shift)
        if program.largest << program.shift > 2 ** (width - 1) - 1:
            problems.append(f"region '{program.region}': values up to {program.largest} leave {width} bits")
        if probability > program.p_error:
            problems.append(f"region '{program.region}': results are wrong with probability {probability:.1g}")
        return problems

    def load_client(self, half: Half) -> RegionClient:
        from hecompile.backends.concrete.stacks.client import StackClient

        readout = stack_readout(half)
        program = readout.program
        program.circuit.judge_frames(f"region '{program.region}'", program.request, program.reply)
        return StackClient(readout)

    def simulation(self, client: Half, server: Half) -> RegionClient:
        from hecompile.backends.concrete.simulation import SimulatedCircuit, StackSimulation

        readout = stack_readout(client)
        return StackSimulation(readout, SimulatedCircuit(bytes_of(server, "mlir").decode(), readout.program.p_error))

    def load_server(self, half: Half) -> RegionServer:
        from hecompile.backends.concrete.linear.server import LinearServer
        from hecompile.backends.concrete.workers import ServerCircuit

        program, mlir, keys = stack_program(half), bytes_of(half, "mlir"), bytes_of(half, "keys")
        program.circuit.judge_frames(f"region '{program.region}'", program.request, program.reply)
        name = hashlib.sha256(mlir).hexdigest()
        return LinearServer(program, [ServerCircuit(name, mlir.decode(), program.p_error, program.circuit.text, keys=keys)])
