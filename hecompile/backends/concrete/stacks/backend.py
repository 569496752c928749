"""The `concrete_stacks` backend: stacks of linear layers, each as one linear circuit. `concrete` runs all other layers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hecompile.backends.base import Backend, Description
from hecompile.backends.concrete.stacks.program import stack_dequantizer, stack_program
from hecompile.backends.concrete.tensors import bytes_of
from hecompile.backends.tensors import check_names

if TYPE_CHECKING:
    from hecompile.backends.context import Context
    from hecompile.backends.region_client import RegionClient
    from hecompile.backends.region_server import RegionServer
    from hecompile.ir.candidates import Candidate, PartCost
    from hecompile.ir.graph import ModelGraph
    from hecompile.ir.halves import ClientHalf, ServerHalf
    from hecompile.ir.passes import RegionPass
    from hecompile.ir.regions import AnyCall, Lowered, Program
    from hecompile.machine import Machine
    from hecompile.panels import Panel

__all__ = ["StackBackend"]


class StackBackend(Backend):
    """Results are exact up to the declared error probability.

    No evaluation keys are needed, and every request has a fresh secret key.
    """

    name = "concrete_stacks"
    others = ("concrete",)

    @property
    def options(self) -> type[Panel]:
        from hecompile.backends.concrete.options import ConcreteOptions

        return ConcreteOptions

    def propose(self, graph: ModelGraph, context: Context) -> list[Candidate]:
        """Propose the largest stacks that fit a circuit, even if a circuit per layer is faster, then what `concrete` proposes."""
        from hecompile.backends.concrete.stacks.candidates import stack_candidates
        from hecompile.backends.concrete.stacks.regions import priced_stack
        from hecompile.ir.candidates import disjoint

        priced = [priced_stack(graph, candidate, context.machine) for candidate in stack_candidates(graph, self.name)]
        return disjoint([candidate for candidate in priced if candidate is not None]) + context.propose("concrete", graph)

    def lowering(self, context: Context) -> Sequence[RegionPass]:
        from hecompile.backends.concrete.options import ConcreteOptions
        from hecompile.backends.concrete.stacks.regions import lower_stack_region
        from hecompile.backends.lower import Lower
        from hecompile.calibration.regions import value_ranges

        p_error = context.panel(ConcreteOptions).p_error

        def halves(program: Program) -> Callable[[AnyCall], Lowered]:
            own = [region for region in program.calls.values() if region.backend == self.name]
            sampled = {"sample", "timestep"} <= {spec.name for spec in program.inputs}
            # for a single input the scale of each request is enough
            wanted = sampled and any(len(region.inputs) > 1 for region in own)
            calls = program.approximation.validation.calls if program.approximation is not None else None
            ranges = value_ranges(program, calls) if wanted else {}
            return lambda region: lower_stack_region(region, context.max_batch, p_error, ranges)

        return (Lower(self.name, halves, lambda half: self.describe(half).parameters),)

    def describe(self, half: ClientHalf) -> Description:
        from hecompile.backends.concrete.errors import error_of

        program = stack_program(half)
        circuit = program.body.circuit
        return Description(
            layers=program.body.layers,
            parameters=f"n{circuit.encryptions[0].dimension} {circuit.output_width} bits, {program.body.distortion_db:.1f} dB",
            proof=error_of(program.body.p_error, sum(program.body.output_sizes)),
        )

    def price(self, half: ClientHalf, machine: Machine, batch: int) -> list[PartCost]:
        from hecompile.backends.concrete.costs import words_cost
        from hecompile.ir.candidates import PartCost

        program = stack_program(half)
        inputs, outputs = sum(program.body.input_sizes), sum(program.body.output_sizes)
        return [
            PartCost(
                words_cost(program.body.products, inputs, outputs, program.body.circuit.encryptions[0].dimension, machine, batch)
            )
        ]

    def clear_inputs(self, half: ClientHalf) -> tuple[str, ...]:
        return ()

    def check_security(self, half: ClientHalf, security_bits: int) -> list[str]:
        program = stack_program(half)
        return [f"region '{program.region}': {reason}" for reason in program.body.circuit.weak(security_bits)]

    def check_proofs(self, half: ServerHalf) -> list[str]:
        program, problems = stack_program(half), []
        width, probability = (
            program.body.circuit.output_width,
            program.body.circuit.error_probability(program.body.norm, program.body.shift),
        )
        if program.body.largest << program.body.shift > 2 ** (width - 1) - 1:
            problems.append(f"region '{program.region}': values up to {program.body.largest} do not fit {width} bits")
        if probability > program.body.p_error:
            problems.append(f"region '{program.region}': results are wrong with probability {probability:.1g}")
        return problems

    def load_client(self, half: ClientHalf) -> RegionClient:
        from hecompile.backends.concrete.stacks.client import StackClient

        dequantizer = stack_dequantizer(half)
        program = dequantizer.program
        program.body.circuit.check_frames(f"region '{program.region}'", program.body.request, program.body.reply)
        return StackClient(dequantizer)

    def simulation(self, client: ClientHalf, server: ServerHalf) -> RegionClient:
        from hecompile.backends.concrete.simulation import SimulatedCircuit
        from hecompile.backends.concrete.stacks.simulation import StackSimulation

        dequantizer = stack_dequantizer(client)
        return StackSimulation(dequantizer, SimulatedCircuit(bytes_of(server, "mlir").decode(), dequantizer.program.body.p_error))

    def load_server(self, half: ServerHalf) -> RegionServer:
        from hecompile.backends.concrete.server import LinearServer
        from hecompile.backends.concrete.workers import ServerCircuit

        check_names(half, ("mlir", "keys"))
        program, mlir, keys = stack_program(half), bytes_of(half, "mlir"), bytes_of(half, "keys")
        program.body.circuit.check_frames(f"region '{program.region}'", program.body.request, program.body.reply)
        name = hashlib.sha256(mlir).hexdigest()
        return LinearServer(
            program.body, [ServerCircuit(name, mlir.decode(), program.body.p_error, program.body.circuit.text, keys=keys)]
        )
