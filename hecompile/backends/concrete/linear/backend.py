"""The `concrete` backend: single linear layers as circuits of Concrete without table lookups."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from hecompile.backends.base import Backend, Description
from hecompile.backends.concrete.linear.program import LinearProgram, linear_program
from hecompile.backends.concrete.tensors import bytes_of
from hecompile.backends.tensors import check_names

if TYPE_CHECKING:
    from hecompile.backends.context import Context
    from hecompile.backends.region_client import RegionClient
    from hecompile.backends.region_server import RegionServer
    from hecompile.ir.candidates import Candidate, LayerPrice, PartCost
    from hecompile.ir.channels import ChannelSplit
    from hecompile.ir.graph import ModelGraph
    from hecompile.ir.halves import ClientHalf, ServerHalf
    from hecompile.ir.layer_groups import LayerGroup
    from hecompile.ir.passes import RegionPass
    from hecompile.ir.regions import AnyCall, Lowered, Program
    from hecompile.machine import Machine
    from hecompile.panels import Panel

__all__ = ["ConcreteBackend"]


class ConcreteBackend(Backend):
    """Results are exact up to the declared error probability.

    No evaluation keys are needed, and every request has a fresh secret key.
    """

    name = "concrete"
    others = ("concrete_stacks",)

    @property
    def options(self) -> type[Panel]:
        from hecompile.backends.concrete.options import ConcreteOptions

        return ConcreteOptions

    def propose(self, graph: ModelGraph, context: Context) -> list[Candidate]:
        """Propose the stacks of layers that are faster as one circuit, then every single layer."""
        from hecompile.backends.concrete.costs import layer_candidates
        from hecompile.backends.concrete.stacks.candidates import stack_candidates, worthwhile
        from hecompile.backends.concrete.stacks.regions import priced_stack

        stacks = worthwhile(graph, stack_candidates(graph, "concrete_stacks"), priced_stack, context.machine)
        return [*stacks, *layer_candidates(graph, context.machine, self.name)]

    def price_layers(
        self, group: LayerGroup, machine: Machine, splits: Sequence[ChannelSplit] = (), batch: int = 1, calls: int = 1
    ) -> list[LayerPrice]:
        from hecompile.backends.concrete.costs import layer_prices

        return layer_prices(group, machine, batch)

    def lowering(self, context: Context) -> Sequence[RegionPass]:
        from hecompile.backends.concrete.linear.lowering import lower_layers
        from hecompile.backends.concrete.linear.select_parameters import SelectParameters
        from hecompile.backends.concrete.options import ConcreteOptions
        from hecompile.backends.lower import Lower
        from hecompile.backends.quantize import Quantize

        p_error = context.panel(ConcreteOptions).p_error

        def halves(program: Program) -> Callable[[AnyCall], Lowered]:
            return lambda region: lower_layers(region, context.max_batch, p_error)

        return (
            Quantize(self.name),  # since circuits compute with integers
            SelectParameters(self.name),  # since a circuit's bit width follows from the rounded weights
            Lower(self.name, halves, lambda half: self.describe(half).parameters),
        )

    def describe(self, half: ClientHalf) -> Description:
        from hecompile.backends.concrete.errors import error_of

        program = linear_program(half)
        layers = program.body.layers
        sizes = sorted({(layer.circuit.encryptions[0].dimension, layer.circuit.output_width) for layer in layers})
        return Description(
            layers=sum(len(layer.parts) for layer in layers),
            parameters="; ".join(f"n{dimension} {width} bits" for dimension, width in sizes),
            proof=error_of(
                program.body.p_error, sum(layer.images_per_sample * math.prod(layer.circuit.output_shape) for layer in layers)
            ),
        )

    def price(self, half: ClientHalf, machine: Machine, batch: int) -> list[PartCost]:
        from hecompile.backends.concrete.costs import circuit_cost
        from hecompile.ir.candidates import Cost, PartCost

        costs = [
            circuit_cost(layer.geometry, layer.circuit.encryptions[0].dimension, machine, layer.elements(batch))
            for layer in linear_program(half).body.layers
        ]
        return [PartCost(sum(costs, Cost()))]

    def measure(self, runs: int) -> Mapping[str, float]:
        from hecompile.backends.concrete.measure import measure_concrete

        return measure_concrete(runs)

    def clear_inputs(self, half: ClientHalf) -> tuple[str, ...]:
        return ()

    def check_security(self, half: ClientHalf, security_bits: int) -> list[str]:
        program = linear_program(half)
        return [
            f"region '{program.region}', layer of {layer.input}: {reason}"
            for layer in program.body.layers
            for reason in layer.circuit.weak(security_bits)
        ]

    def check_proofs(self, half: ServerHalf) -> list[str]:
        program = linear_program(half)
        return [
            f"region '{program.region}', layer of {layer.input}: sums to {layer.largest} exceed {layer.circuit.output_width} bits"
            for layer in program.body.layers
            if layer.largest > 2 ** (layer.circuit.output_width - 1) - 1
        ]

    def load_client(self, half: ClientHalf) -> RegionClient:
        from hecompile.backends.concrete.linear.client import LinearClient
        from hecompile.backends.dequantizers import dequantizers

        program = linear_program(half)
        _check_frames(program)
        return LinearClient(program, dequantizers(half, program.region, program.body.layers))

    def simulation(self, client: ClientHalf, server: ServerHalf) -> RegionClient:
        from hecompile.backends.concrete.linear.simulation import LinearSimulation
        from hecompile.backends.concrete.simulation import SimulatedCircuit
        from hecompile.backends.dequantizers import dequantizers

        program = linear_program(client)
        circuits = [
            SimulatedCircuit(bytes_of(server, f"{index}.mlir").decode(), program.body.p_error)
            for index in range(len(program.body.layers))
        ]
        return LinearSimulation(program, dequantizers(client, program.region, program.body.layers), circuits)

    def load_server(self, half: ServerHalf) -> RegionServer:
        from hecompile.backends.concrete.server import LinearServer
        from hecompile.backends.concrete.workers import ServerCircuit

        program, circuits = linear_program(half), []
        _check_frames(program)
        check_names(half, [f"{index}.{name}" for index in range(len(program.body.layers)) for name in ("mlir", "keys")])
        for index, layer in enumerate(program.body.layers):
            mlir, keys = (bytes_of(half, f"{index}.{name}") for name in ("mlir", "keys"))
            name = hashlib.sha256(mlir).hexdigest()
            circuits.append(ServerCircuit(name, mlir.decode(), program.body.p_error, layer.circuit.text, keys=keys))
        return LinearServer(program.body, circuits)


def _check_frames(program: LinearProgram) -> None:
    """Raise `ProtocolError` unless every layer has the frames of its circuit."""
    for layer in program.body.layers:
        layer.circuit.check_frames(f"layer of {layer.input}", layer.request, layer.reply)
