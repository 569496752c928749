"""Lowers the graph of a conv, activation, conv region to a circuit with table lookups, and to two halves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hecompile.backends.concrete.circuits import run_encrypted
from hecompile.backends.concrete.lookups.admission import CostLimits, predicted_cost
from hecompile.backends.concrete.lookups.lowering import CompiledRegion, search_widths
from hecompile.backends.concrete.lookups.options import LookupOptions
from hecompile.backends.concrete.lookups.program import LookupBody, Range
from hecompile.backends.concrete.measure import with_lookups
from hecompile.backends.concrete.options import ConcreteOptions
from hecompile.backends.context import Context
from hecompile.backends.program_io import Document
from hecompile.errors import InternalError
from hecompile.ir.halves import Array, ClientHalf, ServerHalf
from hecompile.ir.regions import AnyCall, Lowered, SubgraphRegion
from hecompile.machine import Machine

__all__ = ["Halves", "Names", "halves", "lower_lookup_region"]


@dataclass(frozen=True)
class Names:
    """The names of a region, of the values that it reads, and of the values that it makes."""

    region: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Halves:
    """The two halves of a lowered region, and the CPU seconds that one encrypted run took."""

    client: ClientHalf
    server: ServerHalf
    measured_s: float


def lower_lookup_region(region: AnyCall, inputs: Sequence[Array], context: Context) -> Lowered:
    """Lower a region to its two halves, with the cheapest bit widths that its quality allows.

    Args:
        inputs: the values that the region's one input has over a calibration.

    Raises:
        CompileError: if no bit widths are good enough, or if the predicted cost is above what the options allow.
    """
    options, p_error = context.panel(LookupOptions), context.panel(ConcreteOptions).p_error
    if not isinstance(region, SubgraphRegion) or len(region.inputs) != 1 or len(region.outputs) != 1:
        raise InternalError(f"region '{region.name}' does not have one input and one output")
    (values,) = inputs
    compiled = search_widths(region.graph_module, values, region.reference([values])[0], options.lookup_db, p_error)
    machine = with_lookups(Machine()) if context.machine == Machine() else context.machine  # no profile was given
    prediction = predicted_cost(compiled, machine)
    prediction.refuse_above(
        CostLimits(options.lookup_seconds, options.lookup_key_mib), f"region '{region.name}' at {compiled.widths}"
    )
    lowered = halves(compiled, values, Names(region.name, region.inputs, region.outputs), context.max_batch)
    return Lowered(lowered.client, lowered.server, f"predicted {prediction}; measured {lowered.measured_s:.1f} CPU seconds")


def halves(compiled: CompiledRegion, values: Array, names: Names, max_batch: int) -> Halves:
    """The two halves of a compiled region, after one encrypted run that must give the same as plain integers."""
    source = compiled.source.quantise(values[:1])
    expected = compiled.integers(source)
    run = run_encrypted(compiled.module.fhe_circuit, source, expected, compiled.p_error * compiled.lookups * expected.size)
    body = LookupBody(
        max_batch, compiled.p_error, compiled.specs.text,
        run.request, run.reply, Range(compiled.source.scale, compiled.source.low, compiled.source.high), compiled.result.scale,
        len(run.keys), compiled.lookups, compiled.complexity, str(compiled.widths),
        round(compiled.distortion_db, 3),
    )  # fmt: skip
    document = Document(names.region, "concrete_lookups", names.inputs, names.outputs, body).as_json()
    client = {"source.zero": np.atleast_1d(compiled.source.zero), "result.zero": np.atleast_1d(compiled.result.zero)}
    server = {"mlir": np.frombuffer(compiled.mlir.encode(), np.uint8)}
    return Halves(ClientHalf(document, client), ServerHalf(document, server), run.seconds)
