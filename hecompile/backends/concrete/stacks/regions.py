"""From a linear stack's graph to one circuit, and to its two halves."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from hecompile.backends.concrete.circuits import framed
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
LEAST_P_ERROR = 2.0**-128


def _compiled(region: SubgraphRegion, ranges: Mapping[str, float], p_error: float) -> tuple[IntegerMap, StackCircuit, float]:
    """The region in integers, its circuit, and their PSNR; no keys are made."""
    integers = integer_map(ModelGraph(region.graph_module, (), region.outputs), ranges)
    return integers, stack_circuit(integers, p_error), distortion_db(region, integers)


def priced_stack(graph: ModelGraph, candidate: Candidate, machine: Machine) -> Candidate | None:
    """A stack with what it costs, by compiling its circuit; None if it does not fit one.

    Its inputs have equal ranges there, and errors the least probability that may be asked for: it fits with any other, whose
    ciphertexts are a little shorter.
    """
    nodes = set(candidate.nodes)
    region = SubgraphRegion(
        candidate.nodes[-1], candidate.backend, *cut(graph, [node for node in graph.nodes if node.name in nodes])
    )
    try:
        integers, circuit, _ = _compiled(region, {}, LEAST_P_ERROR)
    except CompileError as error:
        LOG.debug("%s stays apart: %s", " + ".join(candidate.nodes), error)
        return None
    inputs, outputs = circuit.specs.input_shape[1], circuit.specs.output_shape[1]
    cost = words_cost(integers.products, inputs, outputs, circuit.specs.encryptions[0].dimension, machine)
    return replace(candidate, cost=cost + Cost(rounds=1))


def lower_stack_region(region: AnyCall, max_batch: int, p_error: float, ranges: Mapping[str, float]) -> Lowered:
    """Both halves of a stack: one circuit, compiled and tried.

    Inputs whose ranges are too far apart for a circuit are treated as if they had one range, with which the stack was priced.

    Raises:
        CompileError: if results take too many bits, or the integers are far from the region.
    """
    if not isinstance(region, SubgraphRegion):
        raise InternalError(f"region '{region.name}' is a single layer: not for backend '{region.backend}'")
    try:
        integers, circuit, found_db = _compiled(region, ranges, p_error)
    except CompileError:
        integers, circuit, found_db = _compiled(region, {}, p_error)
    rng = np.random.default_rng(0)
    drawn = {name: rng.integers(-LIMIT, LIMIT + 1, (1, *shape)) for name, shape in integers.shapes.items()}
    values = integers.run(drawn)
    expected = vector([values[name] for name in integers.units])
    sent = vector([*drawn.values()]) << circuit.shift
    trial = framed(circuit.compiled, sent, expected, p_error * expected.size, circuit.shift)
    body = StackBody(
        max_batch, p_error,
        tuple(integers.shapes.values()), tuple(units.shape for units in integers.units.values()),
        tuple(integers.input_units.values()), LIMIT, circuit.largest, circuit.norm, circuit.shift, integers.products,
        integers.layers, round(found_db, 3), circuit.specs.text, trial.request, trial.reply,
    )  # fmt: skip
    document = Document(region.name, region.backend, region.inputs, region.outputs, body).as_json()
    client = {"units": integers.entry_units, "offset": offset_of(region, integers)}
    server = {
        "mlir": np.frombuffer(circuit.compiled.mlir.encode(), np.uint8),
        "keys": np.frombuffer(trial.keys, np.uint8),
    }
    return Lowered(ClientHalf(document, client), ServerHalf(document, server))
