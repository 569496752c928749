"""From a chain's graph to a circuit with lookups, and to its two halves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hecompile.backends.concrete.circuits import framed
from hecompile.backends.concrete.lookups.gate import Limits, predict
from hecompile.backends.concrete.lookups.lowering import Twin, search_widths
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
    """A region and the values that it reads and makes."""

    region: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Halves:
    """A lowered region, and the CPU seconds of its trial."""

    client: ClientHalf
    server: ServerHalf
    measured_s: float


def lower_lookup_region(region: AnyCall, inputs: Sequence[Array], context: Context) -> Lowered:
    """Both halves of a chain, as narrow as its quality allows; `inputs` are what the region gets over a calibration.

    Raises:
        CompileError: if its keys are predicted to cost more than the options allow.
    """
    chosen, p_error = context.panel(LookupOptions), context.panel(ConcreteOptions).p_error
    if not isinstance(region, SubgraphRegion) or len(region.inputs) != 1 or len(region.outputs) != 1:
        raise InternalError(f"region '{region.name}' is no chain of one input and one output")
    (values,) = inputs
    twin = search_widths(region.graph_module, values, region.reference([values])[0], chosen.lookup_db, p_error)
    machine = with_lookups(Machine()) if context.machine == Machine() else context.machine  # a usual one does not know this one
    prediction = predict(twin, machine)
    prediction.refuse_above(Limits(chosen.lookup_seconds, chosen.lookup_key_mib), f"region '{region.name}' at {twin.widths}")
    found = halves(twin, values, Names(region.name, region.inputs, region.outputs), context.max_batch)
    return Lowered(found.client, found.server, f"predicted {prediction}; measured {found.measured_s:.1f} CPU seconds")


def halves(twin: Twin, values: Array, names: Names, max_batch: int) -> Halves:
    """Both halves of a compiled circuit, after one encrypted run that must equal its twin."""
    source = twin.source.quantise(values[:1])
    expected = twin.integers(source)
    trial = framed(twin.module.fhe_circuit, source, expected, twin.p_error * twin.lookups * expected.size)
    body = LookupBody(
        max_batch, twin.p_error, twin.specs.text,
        trial.request, trial.reply, Range(twin.source.scale, twin.source.low, twin.source.high), twin.result.scale,
        len(trial.keys), twin.lookups, twin.complexity, str(twin.widths),
        round(twin.distortion_db, 3),
    )  # fmt: skip
    document = Document(names.region, "concrete_lookups", names.inputs, names.outputs, body).as_json()
    client = {"source.zero": np.atleast_1d(twin.source.zero), "result.zero": np.atleast_1d(twin.result.zero)}
    server = {"mlir": np.frombuffer(twin.mlir.encode(), np.uint8)}
    return Halves(ClientHalf(document, client), ServerHalf(document, server), trial.seconds)
