"""The `concrete` backend: linear layers as circuits of Concrete without lookups."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from hecompile.backends.base import Backend, Facts, RegionClient, RegionServer
from hecompile.backends.concrete.linear.program import LayerProgram, LinearProgram, error_of, linear_program
from hecompile.backends.concrete.linear.stages import LIMIT, LimitedProduct, limits_for
from hecompile.backends.concrete.options import ConcreteOptions
from hecompile.backends.readouts import readouts
from hecompile.errors import CompileError, Diagnostic, InternalError, ProtocolError
from hecompile.ir.candidates import Candidate, Cost
from hecompile.ir.halves import Array, Half
from hecompile.ir.products import AnyProduct, QuantizedProduct
from hecompile.ir.regions import CallRegion

if TYPE_CHECKING:
    from hecompile.ir.graph import ModelGraph
    from hecompile.ir.layer_groups import Stack
    from hecompile.ir.regions import AnyCall
    from hecompile.machine import Machine
    from hecompile.options import CompileOptions

__all__ = ["ConcreteBackend", "bytes_of"]


class ConcreteBackend(Backend):
    """Exact up to the declared error probability, no evaluation keys, a fresh secret key per request."""

    name = "concrete"
    encrypts = True
    integer = True
    options = ConcreteOptions

    def candidates(self, graph: ModelGraph, machine: Machine) -> list[Candidate]:
        """Linear stacks that are faster as one circuit, then every layer."""
        from hecompile.backends.concrete.linear.costs import layer_candidates
        from hecompile.backends.concrete.stacks.backend import StackBackend
        from hecompile.backends.concrete.stacks.chains import stack_candidates, worthwhile

        stacks = StackBackend()
        found = worthwhile(graph, stack_candidates(graph, stacks.name), stacks, machine)
        return [*found, *layer_candidates(graph, machine, self.name)]

    def price_layers(self, stack: Stack, machine: Machine) -> tuple[Cost, int] | None:
        from hecompile.backends.concrete.linear.costs import circuit_cost, dimension_for

        geometry = stack.geometry
        limit = LIMIT if stack.weights is None else limits_for(geometry, stack.weights).entry
        return circuit_cost(geometry, dimension_for(geometry, stack.weights), machine, stack.multiple), limit

    def parameterize(self, product: QuantizedProduct, multiple: int, machine: Machine, security_bits: int) -> AnyProduct | None:
        if product.split.shows:
            raise CompileError(
                Diagnostic("backend 'concrete' shows nothing to the server", help="use policy strict, or --backend bfv")
            )
        return LimitedProduct(product, multiple)

    def lower(self, region: AnyCall, options: CompileOptions) -> tuple[Half, Half]:
        from hecompile.backends.concrete.circuits import linear_circuit

        if not isinstance(region, CallRegion):
            raise InternalError(f"region '{region.name}' holds more than linear layers")
        layers, client, server = [], dict[str, Array](), dict[str, Array]()
        for index, product in enumerate(region.products):
            if not isinstance(product, LimitedProduct):
                raise InternalError(f"region '{region.name}' is lowered before its values have a limit")
            quantized = product.quantized
            circuit = linear_circuit(product.geometry, quantized.weights, product.limits, options.p_error)
            layers.append(
                LayerProgram(
                    product.input, product.multiple, product.geometry, product.parts, product.limits, circuit.largest,
                    circuit.specs.text, circuit.trial.request, circuit.trial.reply,
                )
            )  # fmt: skip
            client[f"{index}.scales"], client[f"{index}.bias"] = quantized.readout.weight_scales, quantized.readout.bias
            server[f"{index}.mlir"] = np.frombuffer(circuit.mlir.encode(), np.uint8)
            server[f"{index}.keys"] = np.frombuffer(circuit.trial.keys, np.uint8)
        program = LinearProgram(
            region.name, self.name, region.inputs, region.outputs, options.max_batch, options.p_error, tuple(layers)
        )
        document: Mapping[str, Any] = asdict(program)
        return Half(document, client), Half(document, server)

    def facts(self, half: Half) -> Facts:
        program = linear_program(half)
        layers = program.layers
        found = sorted({(layer.circuit.encryptions[0].dimension, layer.circuit.output_width) for layer in layers})
        return Facts(
            layers=sum(len(layer.parts) for layer in layers),
            parameters="; ".join(f"n{dimension} {width} bits" for dimension, width in found),
            proof=error_of(program.p_error, sum(layer.multiple * math.prod(layer.circuit.output_shape) for layer in layers)),
        )

    def cost(self, half: Half, machine: Machine, batch: int) -> Cost:
        from hecompile.backends.concrete.linear.costs import circuit_cost

        program = linear_program(half)
        each = [
            circuit_cost(layer.geometry, layer.circuit.encryptions[0].dimension, machine, layer.elements(batch))
            for layer in program.layers
        ]
        return sum(each, Cost())

    def clear_inputs(self, half: Half) -> tuple[str, ...]:
        return ()

    def check_security(self, half: Half, security_bits: int) -> list[str]:
        program = linear_program(half)
        return [
            f"region '{program.region}', layer of {layer.input}: {reason}"
            for layer in program.layers
            for reason in layer.circuit.weak(security_bits)
        ]

    def check_proofs(self, half: Half) -> list[str]:
        program = linear_program(half)
        return [
            f"region '{program.region}', layer of {layer.input}: sums up to {layer.largest} leave {layer.circuit.output_width} bits"
            for layer in program.layers
            if layer.largest > 2 ** (layer.circuit.output_width - 1) - 1
        ]

    def load_client(self, half: Half) -> RegionClient:
        from hecompile.backends.concrete.linear.client import LinearClient

        program = linear_program(half)
        _judge_frames(program)
        return LinearClient(program, readouts(half, program.region, program.layers))

    def simulation(self, client: Half, server: Half) -> RegionClient:
        from hecompile.backends.concrete.simulation import LinearSimulation, SimulatedCircuit

        program = linear_program(client)
        circuits = [
            SimulatedCircuit(bytes_of(server, f"{index}.mlir").decode(), program.p_error) for index in range(len(program.layers))
        ]
        return LinearSimulation(program, readouts(client, program.region, program.layers), circuits)

    def load_server(self, half: Half) -> RegionServer:
        from hecompile.backends.concrete.linear.server import LinearServer
        from hecompile.backends.concrete.workers import ServerCircuit

        program, circuits = linear_program(half), []
        _judge_frames(program)
        for index, layer in enumerate(program.layers):
            mlir, keys = (bytes_of(half, f"{index}.{name}") for name in ("mlir", "keys"))
            name = hashlib.sha256(mlir).hexdigest()
            circuits.append(ServerCircuit(name, mlir.decode(), program.p_error, layer.circuit.text, keys=keys))
        return LinearServer(program, circuits)


def _judge_frames(program: LinearProgram) -> None:
    for layer in program.layers:
        layer.circuit.judge_frames(f"layer of {layer.input}", layer.request, layer.reply)


def bytes_of(half: Half, name: str) -> bytes:
    """A tensor of bytes. Raises `ProtocolError` if it is none."""
    tensor = half.tensors.get(name)
    if tensor is None or tensor.dtype != np.uint8 or tensor.ndim != 1:
        raise ProtocolError(f"tensor '{name}' is missing or no bytes")
    return tensor.tobytes()
