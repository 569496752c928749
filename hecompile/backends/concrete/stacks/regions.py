"""Lowers a stack's graph to one circuit, and to its two halves."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from hecompile.backends.concrete.circuits import run_encrypted
from hecompile.backends.concrete.costs import words_cost
from hecompile.backends.concrete.limits import LIMIT
from hecompile.backends.concrete.stacks.circuit import StackCircuit, stack_circuit
from hecompile.backends.concrete.stacks.distortion import distortion_db, offset_of
from hecompile.backends.concrete.stacks.integer_map import IntegerMap
from hecompile.backends.concrete.stacks.program import StackBody, vector
from hecompile.backends.concrete.stacks.reader import integer_map
from hecompile.backends.program_io import Document
from hecompile.errors import CompileError, InternalError
from hecompile.ir.candidates import Candidate, Cost
from hecompile.ir.graph import ModelGraph
from hecompile.ir.halves import ClientHalf, ServerHalf
from hecompile.ir.regions import AnyCall, Lowered, SubgraphRegion
from hecompile.ir.subgraph import cut
from hecompile.machine import Machine

__all__ = ["lower_stack_region", "priced_stack"]

LOG = logging.getLogger(__name__)
LEAST_P_ERROR = 2.0**-128  # the least error probability that may be declared


def _compiled(region: SubgraphRegion, ranges: Mapping[str, float], p_error: float) -> tuple[IntegerMap, StackCircuit, float]:
    """A stack in integers, its circuit, and the PSNR in dB against float32. No keys are made."""
    integers = integer_map(ModelGraph(region.graph_module, (), region.outputs), ranges)
    return integers, stack_circuit(integers, p_error), distortion_db(region, integers)


def priced_stack(graph: ModelGraph, candidate: Candidate, machine: Machine) -> Candidate | None:
    """The candidate with its cost, which is found by compiling its circuit. Returns None if no circuit can run it.

    The circuit is compiled for equal ranges of its inputs and for the least error probability. A stack that fits then also fits
    with any larger probability, at which ciphertexts are a little shorter.
    """
    nodes = set(candidate.nodes)
    region = SubgraphRegion(
        candidate.nodes[-1], candidate.backend, *cut(graph, [node for node in graph.nodes if node.name in nodes])
    )
    try:
        integers, circuit, _ = _compiled(region, {}, LEAST_P_ERROR)
    except CompileError as error:
        LOG.debug("%s is not run as one circuit: %s", " + ".join(candidate.nodes), error)
        return None
    inputs, outputs = circuit.specs.input_shape[1], circuit.specs.output_shape[1]
    cost = words_cost(integers.products, inputs, outputs, circuit.specs.encryptions[0].dimension, machine)
    return replace(candidate, cost=cost + Cost(rounds=1))


def lower_stack_region(region: AnyCall, max_batch: int, p_error: float, ranges: Mapping[str, float]) -> Lowered:
    """Lower a stack to its two halves, with one circuit that is compiled and run once encrypted.

    If the ranges of its inputs are too far apart for a circuit, they are treated as equal, as when the stack was priced.

    Raises:
        CompileError: if results take too many bits, or if the stack in integers is too far from float32.
    """
    if not isinstance(region, SubgraphRegion):
        raise InternalError(f"region '{region.name}' is a single layer: not for backend '{region.backend}'")
    try:
        integers, circuit, psnr_db = _compiled(region, ranges, p_error)
    except CompileError:
        integers, circuit, psnr_db = _compiled(region, {}, p_error)
    rng = np.random.default_rng(0)
    inputs = {name: rng.integers(-LIMIT, LIMIT + 1, (1, *shape)) for name, shape in integers.shapes.items()}
    values = integers.run(inputs)
    expected = vector([values[name] for name in integers.units])
    sent = vector([*inputs.values()]) << circuit.shift
    run = run_encrypted(circuit.compiled, sent, expected, p_error * expected.size, circuit.shift)
    body = StackBody(
        max_batch, p_error,
        tuple(integers.shapes.values()), tuple(units.shape for units in integers.units.values()),
        tuple(integers.input_units.values()), LIMIT, circuit.largest, circuit.norm, circuit.shift, integers.products,
        integers.layers, round(psnr_db, 3), circuit.specs.text, run.request, run.reply,
    )  # fmt: skip
    document = Document(region.name, region.backend, region.inputs, region.outputs, body).as_json()
    client = {"units": integers.entry_units, "offset": offset_of(region, integers)}
    server = {
        "mlir": np.frombuffer(circuit.compiled.mlir.encode(), np.uint8),
        "keys": np.frombuffer(run.keys, np.uint8),
    }
    return Lowered(ClientHalf(document, client), ServerHalf(document, server))
