"""Lowers a region's graph to its two halves, in the smallest secure ring whose errors are small enough."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from hecompile.backends.ckks.check_program import MOST_KEY_BYTES
from hecompile.backends.ckks.costs import cost_of
from hecompile.backends.ckks.document import document_of, read_document, read_tables
from hecompile.backends.ckks.layout import INPUT_RANGE, OUTPUT_RANGE
from hecompile.backends.ckks.linear_maps import read_maps
from hecompile.backends.ckks.lower import Lowering, lower_maps
from hecompile.backends.ckks.noise import SIGMAS, predict
from hecompile.backends.ckks.options import CkksOptions
from hecompile.backends.ckks.ranges import MOST_ERROR
from hecompile.backends.ckks.ring import DIMENSIONS
from hecompile.backends.ckks.rotations import MOST_ROTATIONS, least_bytes, within_keys
from hecompile.backends.context import Context
from hecompile.errors import CompileError, Diagnostic, InternalError
from hecompile.ir.candidates import Candidate
from hecompile.ir.graph import ModelGraph, info
from hecompile.ir.halves import ClientHalf, ServerHalf
from hecompile.ir.ops import CONVOLUTIONS, POLYNOMIAL
from hecompile.ir.regions import AnyCall, Lowered, SubgraphRegion
from hecompile.ir.subgraph import cut
from hecompile.machine import Machine

__all__ = ["lower_ckks_region", "priced_candidate", "region_source"]

LOG = logging.getLogger(__name__)


def priced_candidate(graph: ModelGraph, candidate: Candidate, machine: Machine) -> Candidate | None:
    """The candidate with its cost, which is found by lowering it at 128 bits of security and with all keys.

    Returns None if it cannot be lowered.
    """
    nodes = set(candidate.nodes)
    region = SubgraphRegion(
        candidate.nodes[-1], candidate.backend, *cut(graph, [node for node in graph.nodes if node.name in nodes])
    )
    try:
        half = lower_ckks_region(region, Context()).server
    except CompileError as error:
        LOG.info("%s", error)
        return None
    document = read_document(half)
    cost = cost_of(document, read_tables(half, document), machine)
    return replace(candidate, cost=cost, depth=document.body.program.ring.depth)


def lower_ckks_region(region: AnyCall, context: Context, ranges: Mapping[str, float] = MappingProxyType({})) -> Lowered:
    """Lower a region to its two halves.

    Args:
        ranges: the largest magnitude of each value over a calibration, by name.

    Raises:
        CompileError: if values are too large for ciphertexts, if no secure ring has enough levels and slots, or if errors would be
            larger than `MOST_ERROR`.
    """
    if not isinstance(region, SubgraphRegion):
        raise InternalError(f"region '{region.name}' is a single layer: not for backend '{region.backend}'")
    _check_ranges(region, ranges)
    maps = read_maps(region)
    layers = sum(str(node.target) in CONVOLUTIONS for node in region.graph_module.graph.nodes) + len(maps.polynomials)
    dimension, problem = 0, ""
    while dimension < DIMENSIONS[-1]:
        lowering = lower_maps(maps, region.outputs, region.name, context.security_bits, dimension + 1, ranges)
        dimension = lowering.program.ring.dimension
        lowering = _within_keys(lowering, region, context.panel(CkksOptions).key_mib)
        bins = max(len(table) for name, table in lowering.tables.items() if not name.startswith("t"))
        timestep = maps.timestep if bins > 1 else None
        document = document_of(
            lowering, region.name, region.backend, region.inputs, context.max_batch, timestep, bins, layers
        )  # fmt: skip
        server = ServerHalf(document, dict(lowering.tables))
        problem = _noise_problem(server)
        if not problem:
            return Lowered(ClientHalf(document, {}), server)
    raise CompileError(
        Diagnostic(
            problem, source=region_source(region), help="a lower --degree leaves more bits for each level; or use --backend bfv"
        )
    )


def _noise_problem(half: ServerHalf) -> str:
    """Return a sentence if the errors of CKKS may exceed `MOST_ERROR` at an output; an empty text if they stay below."""
    document = read_document(half)
    tables = read_tables(half, document)
    for row in range(document.body.bins):
        for label, deviation in predict(document.body.program, tables, row).items():
            bound = SIGMAS * float(deviation.max())
            if not bound <= MOST_ERROR:
                return f"region '{document.region}': {label} may be off by {bound:.3g}, more than {MOST_ERROR}"
    return ""


def region_source(region: SubgraphRegion) -> str:
    """Where the layer of the region's first polynomial stands in the model's code; empty if that is not known."""
    return next((info(node).source for node in region.graph_module.graph.nodes if str(node.target) == POLYNOMIAL), "")


def _within_keys(lowering: Lowering, region: SubgraphRegion, key_mib: float | None) -> Lowering:
    """The lowering with evaluation keys of `key_mib` MiB at most, by more rotations if need be.

    Raises:
        CompileError: naming the layers, if that takes more than `MOST_ROTATIONS` times the rotations.
    """
    most_mib = MOST_KEY_BYTES / 2**20 if key_mib is None else min(key_mib, MOST_KEY_BYTES / 2**20)
    program = within_keys(lowering.program, most_mib * 2**20)
    if program is not None:
        return replace(lowering, program=program)
    layers = ", ".join(dict.fromkeys(op.label for op in lowering.program.ops if op.kind == "polynomial"))
    raise CompileError(
        Diagnostic(
            f"region '{region.name}' (layers {layers}): its evaluation keys do not fit {most_mib:g} MiB without "
            f"{MOST_ROTATIONS} times the rotations",
            source=region_source(region),
            help=f"--key-mib {least_bytes(lowering.program) / 2**20 + 0.05:.1f} or more, or --backend bfv, which needs no keys",
        )
    )


def _check_ranges(region: SubgraphRegion, ranges: Mapping[str, float]) -> None:
    """Raise `CompileError` naming every input and output that is larger in calibration than a ciphertext holds."""
    limits = dict.fromkeys(region.inputs, INPUT_RANGE) | dict.fromkeys(region.outputs, OUTPUT_RANGE)
    pictures = {node.name for node in region.graph_module.graph.nodes if node.op != "placeholder" or info(node).shape}
    findings = [
        Diagnostic(
            f"region '{region.name}': {name} reaches {ranges[name]:.3g} in calibration, but ciphertexts hold at most {limit:g}",
            source=region_source(region),
            help="keep the layer's norm exact (--norms exact), or use --backend bfv",
        )
        for name, limit in limits.items()
        if name in pictures and name in ranges and not ranges[name] <= limit
    ]
    if findings:
        raise CompileError(findings)
